"""H.264 slice headers, of pictures written by hand and of an encoder's."""

import io

import av
import numpy as np
import pytest

from tests.support.field_pictures import Picture, coded, parameter_sets
from tests.vxp_data.decoders.test_decoders import encode
from vxp_data.decoders.h264_slices import (
    FieldReader,
    OrderReader,
    Part,
    SliceReader,
    display_ranks,
    never_shown,
)

SETS = parameter_sets()
TOP, BOTTOM = (Picture(5, side, frame_num=5, order=5) for side in ("top", "bottom"))
NEXT_TOP, NEXT_BOTTOM = (Picture(6, side, frame_num=6, order=6) for side in ("top", "bottom"))
WHOLE = Picture(7, "frame", frame_num=7, order=7)


def avcc(annex_b):
    """The parameter sets as MP4 has them."""
    sps, pps = annex_b.split(b"\0\0\0\1")[1:]
    head = b"\1" + sps[1:4] + b"\xff\xe1"
    return head + len(sps).to_bytes(2, "big") + sps + b"\1" + len(pps).to_bytes(2, "big") + pps


def prefixed(annex_b):
    nals = annex_b.split(b"\0\0\0\1")[1:]
    return b"".join(len(nal).to_bytes(4, "big") + nal for nal in nals)


FORMS = {
    "Annex B": (SETS, lambda *pictures: b"".join(map(coded, pictures))),
    "avcC": (avcc(SETS), lambda *pictures: prefixed(b"".join(map(coded, pictures)))),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("packets", "parts"),
    [
        ([[TOP], [BOTTOM], [NEXT_TOP], [NEXT_BOTTOM]], [1, 2, 1, 2]),
        ([[BOTTOM], [TOP], [WHOLE]], [1, 2, 0]),
        ([[TOP, BOTTOM], [NEXT_TOP, NEXT_BOTTOM]], [0, 0]),
        ([[TOP], [NEXT_TOP], [NEXT_BOTTOM]], [1, 1, 2]),  # the second of the first is lost
        ([[TOP], [NEXT_BOTTOM], [WHOLE]], [1, 1, 0]),  # another frame's
        ([[TOP], [TOP]], [1, 1]),
        ([[WHOLE], [TOP], [BOTTOM], [BOTTOM]], [0, 1, 2, 1]),
    ],
)
def test_a_packet_is_a_frame_or_the_first_or_second_field_of_one(form, packets, parts):
    extradata, stored = FORMS[form]
    reader = FieldReader.of("h264", extradata)
    assert [reader.part(stored(*pictures)) for pictures in packets] == parts


def test_streams_that_cannot_hold_fields_are_not_read():
    assert FieldReader.of("h264", parameter_sets(interlaced=False)) is None
    assert FieldReader.of("hevc", SETS) is None
    assert FieldReader.of("h264", None) is None
    assert FieldReader.of("h264", avcc(SETS)[:14]) is None  # cut short


def test_interlaced_frames_are_no_fields(tmp_path):
    path = encode(tmp_path / "mbaff.mp4", 6, **{"x264-params": "interlaced=1:bff=1"})
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        reader = FieldReader.of("h264", stream.codec_context.extradata)
        packets = [bytes(packet) for packet in container.demux(stream) if packet.size]
    assert [reader.part(packet) for packet in packets] == [Part.FRAME] * 6


def test_damaged_headers_are_taken_for_frames():
    reader = FieldReader.of("h264", SETS)
    assert reader.part(coded(TOP)[:6]) == Part.FRAME
    assert reader.part(b"") == Part.FRAME
    assert FieldReader.of("h264", b"\0\0\1\x67" + bytes(99)) is None


@pytest.mark.parametrize(
    ("parts", "hidden"),
    [
        ([1, 2, 0, 1, 2], []),
        ([1, 2, 1, 1, 2], [2]),
        ([1, 2, 1, 2, 1], [4]),
        ([1, 1, 1, 1], [0, 1]),
    ],
)
def test_a_field_alone_is_not_shown_unless_there_are_no_others(parts, hidden):
    assert np.flatnonzero(never_shown(np.array(parts, dtype=np.uint8))).tolist() == hidden


ENCODED = {
    "pyramid": {"bf": "3", "g": "300", "x264-params": "b-pyramid=normal"},
    "short groups": {"bf": "2", "g": "12"},
    "open groups": {"x264-params": "open-gop=1:keyint=12:min-keyint=12:bframes=3:scenecut=0"},
    "no reordering": {"bf": "0"},
}


@pytest.mark.parametrize("how", ENCODED)
def test_the_order_is_that_in_which_the_decoder_gives_pictures(how, tmp_path):
    path = encode(tmp_path / "clip.mkv", 150, **ENCODED[how])
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        reader = OrderReader(SliceReader(stream.codec_context.extradata))
        orders, shown = [], []
        for packet in container.demux(stream):
            if packet.size:
                packet.pts = len(orders)
                orders.append(reader.order(bytes(packet)))
            shown += [frame.pts for frame in stream.codec_context.decode(packet)]
            if not packet.size:
                break
    ranks = display_ranks(orders)
    assert np.argsort(ranks).tolist() == shown
    assert len(shown) == 150


def test_an_order_that_no_decoder_could_keep_is_not_trusted():
    assert display_ranks([(1, 2 * i) for i in range(100)]) is not None
    assert display_ranks([(1, 2 * i) for i in range(60)] + [(1, 0), (1, 2)]) is None
    assert display_ranks([(1, 0), None]) is None


def test_pictures_written_by_hand_are_what_ffmpeg_decodes():
    pictures = [TOP, BOTTOM, NEXT_BOTTOM, NEXT_TOP, WHOLE]
    first = [Picture(0, "frame", is_idr=True)]
    raw = io.BytesIO(SETS + b"".join(map(coded, first + pictures)))
    with av.open(raw, format="h264") as container:
        assert len(list(container.decode(video=0))) == 4
