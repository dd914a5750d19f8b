"""Where a decoder may begin: streams with recovery points, and files that are wrong about it.

Each picture carries its number: ten blocks, white where that bit is set.
"""

from __future__ import annotations

import math
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from vxp_data.core.frame_sampling import uniform
from vxp_data.decoders import decode_session, packets, pyav_decoder
from vxp_data.decoders.base import FrameSize, decodes_on_gpu
from vxp_data.decoders.child_process import call_reaches
from vxp_data.decoders.probe import probe
from vxp_data.decoders.pyav_decoder import PyavDecoder
from vxp_data.decoders.random_access import h264_begins, hevc_begins, recovery_frames
from vxp_data.decoders.sandbox import Sandbox
from vxp_data.registry import DECODERS

WIDTH_PX, HEIGHT_PX = 160, 96
NUM_FRAMES = 120
REFRESH = "intra-refresh=1:keyint=20:min-keyint=20:scenecut=0"


def picture(number):
    """A picture with its number in the upper third, and a bar that moves below."""
    grey = np.full((HEIGHT_PX, WIDTH_PX), 60, np.uint8)
    for bit in range(10):
        block = slice(bit * WIDTH_PX // 10, (bit + 1) * WIDTH_PX // 10)
        grey[: HEIGHT_PX // 3, block] = 235 if number >> bit & 1 else 16
    bar_px = 3 * number % WIDTH_PX
    grey[HEIGHT_PX // 2 :, bar_px : bar_px + 20] = 180
    return np.repeat(grey[..., None], 3, axis=2)


def number_of(frame_HWC):
    row = frame_HWC[HEIGHT_PX // 6]
    blocks = (row[(2 * bit + 1) * WIDTH_PX // 20].mean() for bit in range(10))
    return sum(1 << bit for bit, level in enumerate(blocks) if level > 128)


def numbers_of(frames_FHWC):
    return [number_of(frame) for frame in frames_FHWC]


def encode(path, codec, *, form=None, options, num_frames=NUM_FRAMES):
    with av.open(str(path), "w", format=form) as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height = WIDTH_PX, HEIGHT_PX
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, 25)
        for number in range(num_frames):
            frame = av.VideoFrame.from_ndarray(picture(number), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return str(path)


def x264(params, **others):
    return {"preset": "veryfast", "crf": "18", "threads": "1", "x264-params": params} | others


def decode(path, num_frames=20, decoder=None):
    found = probe(path, "clip")
    plan = found.timeline.plan(uniform(len(found.timeline), num_frames))
    return plan, (decoder or PyavDecoder()).decode(path, found.media, plan, None)


STREAMS = {
    "refresh.mp4": ("libx264", x264(REFRESH, bf="0")),
    "refresh.mkv": ("libx264", x264(REFRESH, bf="0")),
    "refresh.ts": ("libx264", x264(REFRESH, bf="0")),
    "refresh.flv": ("libx264", x264(REFRESH, bf="0")),
    "refresh.avi": ("libx264", x264(REFRESH, bf="0")),
    "refresh_b.mp4": ("libx264", x264(REFRESH, bf="3")),
    "refresh_b.mkv": ("libx264", x264(REFRESH, bf="3")),
    "refresh_b.ts": ("libx264", x264(REFRESH, bf="3")),
    "open.mp4": ("libx264", x264("open-gop=1:keyint=20:min-keyint=20:scenecut=0", bf="3")),
    "open.ts": ("libx264", x264("open-gop=1:keyint=20:min-keyint=20:scenecut=0", bf="3")),
    "open_hevc.mp4": (
        "libx265",
        {"preset": "veryfast", "x265-params": "open-gop=1:keyint=20:log-level=none:pools=1"},
    ),
    "open_hevc.ts": (
        "libx265",
        {"preset": "veryfast", "x265-params": "open-gop=1:keyint=20:log-level=none:pools=1"},
    ),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("streams")
    return {
        name: encode(folder / name, codec, options=options)
        for name, (codec, options) in STREAMS.items()
    }


@pytest.mark.parametrize("name", STREAMS)
def test_exact_pictures_are_the_planned_ones_wherever_the_stream_can_be_entered(name, made):
    plan, decoded = decode(made[name])
    assert decoded.is_exact_F.all()
    assert numbers_of(decoded.frames_FHWC) == plan.frame_index_F.tolist()


def marked_key(path):
    with av.open(path) as container:
        return sum(packet.is_keyframe for packet in container.demux(video=0))


@pytest.mark.parametrize("name", STREAMS)
def test_recovery_points_are_no_key_frames_and_open_groups_are(name, made):
    """The files call both key; only IDR pictures and pictures that need no recovery are."""
    marked = marked_key(made[name])
    assert marked >= 5
    found = probe(made[name], "clip")
    assert found.timeline.is_key_N.sum() == (1 if "refresh" in name else marked)
    assert found.media.gradual_refresh == ("refresh" in name)


@pytest.mark.parametrize("decoder", [name for name in DECODERS.names() if name != "pyav"])
def test_other_decoders_do_not_claim_a_stream_with_recovery_points(decoder, made):
    claims = DECODERS.load(decoder)().supports
    assert not claims(probe(made["refresh.mp4"], "clip").media)
    if not decodes_on_gpu(decoder):  # what such a one claims, the card says, which may not be here
        assert claims(replace(probe(made["refresh.mp4"], "clip").media, gradual_refresh=False))


def test_the_corpus_stream_with_recovery_points_gives_each_picture(corpus):
    plan, decoded = decode(str(corpus / "odd/intra_refresh.mp4"))
    assert decoded.is_exact_F.all()
    height_px, width_px = decoded.frames_FHWC.shape[1:3]
    rows_FW = decoded.frames_FHWC[:, height_px // 4, :, 0]
    bits = rows_FW[:, [(2 * bit + 1) * width_px // 20 for bit in range(10)]] > 128
    assert (bits @ (1 << np.arange(10))).tolist() == plan.frame_index_F.tolist()


SIBLINGS = [
    ("a.mpg", "mpeg1video", {"bf": "2"}),
    ("b.mpg", "mpeg2video", {"bf": "2"}),
    ("c.ts", "mpeg2video", {"bf": "2"}),
    ("d.avi", "mpeg4", {"bf": "2"}),
    ("e.avi", "mpeg4", {}),
    ("f.avi", "msmpeg4v2", {}),
    ("g.wmv", "wmv2", {}),
    ("h.flv", "flv", {}),
    ("i.mkv", "vp8", {}),
    ("j.webm", "libvpx-vp9", {}),
    ("k.mp4", "libsvtav1", {"svtav1-params": "lp=1"}),
    ("l.mkv", "ffv1", {}),
]


@pytest.mark.parametrize(("name", "codec", "options"), SIBLINGS)
def test_every_codec_gives_the_planned_pictures_after_seeks(
    name, codec, options, tmp_path, monkeypatch
):
    monkeypatch.setattr(decode_session, "NEAR_PACKETS", 0)
    path = encode(tmp_path / name, codec, options={"g": "15", "b": "3M"} | options)
    for num_frames in (1, 3, 20):
        plan, decoded = decode(path, num_frames)
        assert decoded.is_exact_F.all()
        assert numbers_of(decoded.frames_FHWC) == plan.frame_index_F.tolist()


@pytest.mark.parametrize("codec", ["h263p", "h263"])  # with an extended picture type, and without
def test_h263_in_avi_whose_every_packet_passes_for_key_is_entered_where_it_may(
    codec, tmp_path, monkeypatch
):
    monkeypatch.setattr(decode_session, "NEAR_PACKETS", 0)
    monkeypatch.setitem(globals(), "WIDTH_PX", 352)
    monkeypatch.setitem(globals(), "HEIGHT_PX", 288)  # one of H.263's five sizes
    path = encode(tmp_path / "h263.avi", codec, options={"g": "20", "b": "4M"})
    found = probe(path, "clip")
    assert found.media.codec == "h263"
    assert np.flatnonzero(found.timeline.is_key_N).tolist() == list(range(0, NUM_FRAMES, 20))
    assert found.media.gradual_refresh == (marked_key(path) > NUM_FRAMES // 20)
    plan = found.timeline.plan(uniform(NUM_FRAMES, 20))
    size = FrameSize(width_px=WIDTH_PX, height_px=HEIGHT_PX)  # as displayed it is wider
    decoded = PyavDecoder().decode(path, found.media, plan, size)
    assert decoded.is_exact_F.all()
    assert numbers_of(decoded.frames_FHWC) == plan.frame_index_F.tolist()


# --- a packet's own word, from bytes written by hand (ITU-T H.264, 7.3 and D.1.8) -----------------

IDR, I_SLICE, P_SLICE = b"\x65\x88", b"\x41\x88", b"\x41\x9a"
"""first_mb 0 ('1'), then slice_type 7 ('0001000') or 5 ('00110'): the beginnings of slices."""
NO_RECOVERY, RECOVERY_IN_0, RECOVERY_IN_39 = (
    b"\x06\x05\x01\xff\x80",  # user data of one byte
    b"\x06\x06\x01\xc4\x80",  # recovery_frame_cnt '1' = 0
    b"\x06\x05\x01\xff\x06\x02\x05\x12\x80",  # behind user data: '00000101000' = 39
)


@pytest.mark.parametrize(
    ("units", "begins"),
    [
        ([IDR], True),
        ([RECOVERY_IN_39, IDR], True),
        ([RECOVERY_IN_0, I_SLICE], True),
        ([RECOVERY_IN_39, P_SLICE], False),
        ([RECOVERY_IN_39, I_SLICE], False),
        ([NO_RECOVERY, I_SLICE], True),
        ([NO_RECOVERY, P_SLICE], False),
        ([], True),  # nothing can be read: the container's word
    ],
)
def test_an_h264_packet_says_whether_its_picture_is_whole(units, begins):
    assert h264_begins(iter(units)) is begins


def test_a_recovery_point_is_found_among_other_messages():
    assert recovery_frames(NO_RECOVERY) is None
    assert recovery_frames(RECOVERY_IN_0) == 0
    assert recovery_frames(RECOVERY_IN_39) == 39
    long = b"\x06\x05\xff\x2d" + bytes([7]) * 300 + RECOVERY_IN_39[1:]
    assert recovery_frames(long) == 39
    kept_apart = b"\x06\x05\x04\x00\x00\x03\x00\x07" + RECOVERY_IN_0[1:]
    assert recovery_frames(kept_apart) == 0


@pytest.mark.parametrize(("kind", "begins"), [(19, True), (21, True), (16, True), (1, False)])
def test_an_hevc_packet_says_whether_its_picture_is_a_random_access_point(kind, begins):
    assert hevc_begins(iter([b"\x40\x01", bytes([kind << 1, 1])])) is begins


# --- files that are wrong about their key frames --------------------------------------------------


@pytest.fixture
def liar(made, monkeypatch):
    """A file whose recovery points pass for key frames, as in a format that nobody looks into."""
    monkeypatch.setattr(packets, "may_begin", lambda _: lambda packet: packet.is_keyframe)
    monkeypatch.setattr(decode_session, "NEAR_PACKETS", 0)  # a short clip: seek to every run
    return made["refresh.mp4"]


@pytest.mark.parametrize("num_frames", [1, 5, 20])
def test_pictures_that_do_not_come_after_a_seek_come_from_the_top(liar, num_frames):
    found = probe(liar, "clip")
    assert found.timeline.is_key_N.sum() == 6
    plan = found.timeline.plan(uniform(60, num_frames) + 60)  # none after the one true key frame
    decoded = PyavDecoder().decode(liar, found.media, plan, None)
    assert decoded.is_exact_F.all()
    assert numbers_of(decoded.frames_FHWC) == plan.frame_index_F.tolist()


def test_the_first_result_stays_where_half_of_the_time_is_over(liar, monkeypatch):
    asked = []

    def over(share):
        asked.append(share)
        return time.monotonic() - 1

    monkeypatch.setattr(pyav_decoder, "call_reaches", over)
    plan, decoded = decode(liar)
    assert asked == [0.5]
    came = decoded.is_exact_F
    assert 5 < came.sum() < 20
    given = np.array(numbers_of(decoded.frames_FHWC))
    assert (given[came] == plan.frame_index_F[came]).all()
    assert (given[~came] < plan.frame_index_F[~came]).all()  # the nearest earlier ones


def test_a_call_in_a_sandbox_knows_when_half_of_its_time_is_over():
    sandbox = Sandbox(1 << 30)
    try:
        left_s = sandbox.call(seconds_to_half, timeout_s=1000).value
    finally:
        sandbox.close()
    assert 400 < left_s <= 500
    assert call_reaches(0.5) == math.inf  # outside of one nobody waits


def seconds_to_half():
    return call_reaches(0.5) - time.monotonic()


def test_what_is_lost_behind_a_sound_key_frame_is_not_looked_for_further_back(
    tmp_path, monkeypatch
):
    options = {"g": "20", "keyint_min": "20", "deadline": "realtime", "auto-alt-ref": "0"}
    path = encode(tmp_path / "damaged.webm", "libvpx", options=options | {"threads": "1"})
    with av.open(path) as container:
        lost = [packet for packet in container.demux(video=0) if packet.size][45]
    with Path(path).open("r+b") as file:
        file.seek(lost.pos + 4)
        file.write(b"\xff" * lost.size)  # no key frame, and none that can be read
    tried = []
    attempt = pyav_decoder.attempt

    def counted(*args, **options):
        tried.append([run.start for run in args[4]])
        return attempt(*args, **options)

    monkeypatch.setattr(decode_session, "NEAR_PACKETS", 0)
    monkeypatch.setattr(pyav_decoder, "attempt", counted)
    found = probe(path, "clip")
    plan = found.timeline.plan(np.array([25, 45, 70]))
    decoded = PyavDecoder().decode(path, found.media, plan, None)
    assert decoded.is_exact_F.tolist() == [True, False, True]
    assert numbers_of(decoded.frames_FHWC) == [25, 44, 70]
    assert tried == [[20, 40, 60], [20, 40, 60]]
