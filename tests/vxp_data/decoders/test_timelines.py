"""Frames of files whose timestamps are wrong, in fields, joined or cut; pictures tell their number.

Index, number and time are known from how each file was written, or counted by ffmpeg.
"""

import subprocess
from fractions import Fraction

import av
import numpy as np
import pytest

from tests.support.field_pictures import (
    Picture,
    Stored,
    coded,
    mux,
    number_shown,
    parameter_sets,
)
from vxp_data.decoders import decode_session, pyav_decoder
from vxp_data.decoders.decord_decoder import DecordDecoder
from vxp_data.decoders.packets import Packets
from vxp_data.decoders.probe import probe
from vxp_data.decoders.pyav_decoder import PyavDecoder
from vxp_data.decoders.runs import runs_of
from vxp_data.decoders.timelines import timeline_of
from vxp_data.decoders.torchcodec_decoder import TorchcodecDecoder
from vxp_data.errors import MediaError
from vxp_data.records import Reason

NUM_FRAMES, GROUP = 40, 10


def numbers_of(path, index, found=None):
    """Decode frames by their index; what they show, and which are called exact."""
    found = found or probe(str(path), "clip")
    plan = found.timeline.plan(np.array(index))
    decoded = PyavDecoder().decode(str(path), found.media, plan, None)
    return [number_shown(frame) for frame in decoded.frames_FHWC], decoded.is_exact_F.tolist()


@pytest.fixture
def check(monkeypatch):
    """Check that each frame shows its number, in a full decode and in whatever part of one."""

    def checked(path, numbers):
        found = probe(str(path), "clip")
        count = len(numbers)
        assert len(found.timeline) == found.media.num_frames == count
        assert numbers_of(path, range(count), found) == (list(numbers), [True] * count)
        monkeypatch.setattr(decode_session, "NEAR_PACKETS", 0)  # short clips: seek to every run
        for step, start in ((7, 3), (13, 12), (count, count - 1)):
            index = list(range(min(start, count - 1), count, step))
            expected = ([numbers[i] for i in index], [True] * len(index))
            assert numbers_of(path, index, found) == expected
        assert (np.diff(found.timeline.time_s_N) > 0).all()
        return found

    return checked


def unclaimed(media):
    return not (DecordDecoder().supports(media) or TorchcodecDecoder().supports(media))


def in_file_order():
    """Pictures 0, 1, 2 ... as frames; a key frame every tenth."""
    return [
        Picture(i, is_idr=i % GROUP == 0, frame_num=i % GROUP, order=i % GROUP)
        for i in range(NUM_FRAMES)
    ]


def reordered(structures=("frame",)):
    """Pictures 0, 2, 1, 4, 3 ...: the odd ones are stored after those shown next."""
    pictures = []
    for first in range(0, NUM_FRAMES, GROUP):
        frame_num = 0
        for order in (0, 2, 1, 4, 3, 6, 5, 8, 7, 9):
            is_reference = order % 2 == 0 or order == GROUP - 1
            for structure in structures:
                is_idr = order == 0 and structure in ("frame", structures[0])
                pictures.append(
                    Picture(first + order, structure, is_idr, is_reference, frame_num, order)
                )
            frame_num += is_reference
    return pictures


def in_fields(pictures, which=lambda number: True):  # noqa: ARG005 - all of them
    """Make two fields of each picture that is to be in fields."""
    for picture in pictures:
        if not which(picture.number):
            yield picture
            continue
        number, frame_num, order = picture.number, picture.frame_num, picture.order
        yield Picture(number, "top", picture.is_idr, True, frame_num, order)
        yield Picture(number, "bottom", False, True, frame_num, order)


# --- timestamps that are repeated or go back ------------------------------------------------------

BAD = {
    "doubled at the start": {1: 0},
    "doubled in the middle": {17: 16},
    "doubled at a key frame": {20: 19},
    "doubled at the end": {39: 38},
    "several": {5: 4, 6: 4, 21: 20, 30: 29},
    "back": {12: 9.5, 25: 22.3},
}


@pytest.mark.parametrize(
    ("container", "which"),
    [
        (container, which)
        for container in ("mkv", "mp4", "ts", "flv", "mov")
        for which in BAD
        # A time that goes back in MP4 is one of another order, which is as good as any.
        if which != "back" or container not in ("mp4", "mov")
    ],
)
def test_one_bad_timestamp_leaves_all_others_as_they_are(container, which, check, tmp_path):
    pts_ms = [40 * i if i < 30 else 40 * i + 5000 for i in range(NUM_FRAMES)]  # a pause
    good_s = np.array(pts_ms) / 1000
    for i, source in BAD[which].items():
        pts_ms[i] = 40 * source + 5000 * (source >= 30)
    stored = [
        Stored(coded(picture, interlaced=False), int(1000 + pts), 40 * i, picture.is_idr)
        for i, (picture, pts) in enumerate(zip(in_file_order(), pts_ms, strict=True))
    ]
    path = mux(tmp_path / f"clip.{container}", stored, interlaced=False)
    found = check(path, range(NUM_FRAMES))
    near = {i + by for i in BAD[which] for by in (-3, -2, -1, 0, 1)}
    sound = [i for i in range(NUM_FRAMES) if i not in near]
    assert found.timeline.time_s_N[sound] == pytest.approx(good_s[sound], abs=1e-4)
    assert np.abs(found.timeline.time_s_N - good_s).max() < 5.1
    assert "repeated or going back" in found.media.time_note
    assert unclaimed(found.media)


@pytest.mark.parametrize("container", ["mkv", "mp4", "ts"])
def test_one_bad_timestamp_among_reordered_frames(container, check, tmp_path):
    pictures = reordered()
    pts_ms = {i: 40 * i + 400 for i in range(NUM_FRAMES)} | {13: 40 * 14 + 400, 25: 40 * 24 + 400}
    stored = [
        Stored(coded(picture, interlaced=False), pts_ms[picture.number], 40 * i, picture.is_idr)
        for i, picture in enumerate(pictures)
    ]
    path = mux(tmp_path / f"clip.{container}", stored, reorder=1, interlaced=False)
    found = check(path, range(NUM_FRAMES))
    assert np.abs(found.timeline.time_s_N - np.arange(NUM_FRAMES) / 25).max() < 0.041
    assert found.timeline.timed, "every frame is decoded from the start"
    assert unclaimed(found.media)


def test_timestamps_that_are_all_the_same_leave_the_rate(check, tmp_path):
    stored = [Stored(coded(picture, interlaced=False), 1000, 25 * i, picture.is_idr)
              for i, picture in enumerate(in_file_order())]  # fmt: skip
    found = check(mux(tmp_path / "clip.ts", stored, interlaced=False), range(NUM_FRAMES))
    assert "no usable timestamps" in found.media.time_note
    assert found.timeline.by_rate


# --- containers that store no presentation times --------------------------------------------------


def numbered(path, codec, **options):
    """Encode 60 pictures that show their number in the same ten blocks, in the middle."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options={"threads": "1"} | options)
        stream.width, stream.height, stream.pix_fmt = 160, 64, "yuv420p"
        stream.codec_context.qmin = stream.codec_context.qmax = 2
        for i in range(60):
            pixels = np.full((64, 160, 3), 30, np.uint8)
            for k in range(10):
                pixels[:, 16 * k : 16 * (k + 1)] = 220 if i >> k & 1 else 30
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    return path


NO_PTS = {
    "h264.avi": ("libx264", {"bf": "3", "g": "20"}),
    "open.avi": (
        "libx264",
        {"x264-params": "open-gop=1:keyint=12:min-keyint=12:bframes=3:scenecut=0"},
    ),
    "long.avi": ("libx264", {"bf": "3", "g": "250"}),
    "p_only.avi": ("libx264", {"bf": "0", "g": "20"}),
    "mpeg4.avi": ("mpeg4", {"bf": "2"}),
    "mpeg2.avi": ("mpeg2video", {"bf": "2"}),
    "h264.h264": ("libx264", {"bf": "3", "g": "20"}),
    "hevc.hevc": ("libx265", {"x265-params": "log-level=none:keyint=20:bframes=3"}),
    "mpeg4.m4v": ("mpeg4", {"bf": "2"}),
    "mpeg2.m2v": ("mpeg2video", {"bf": "2"}),
}


@pytest.mark.parametrize("name", NO_PTS)
def test_frames_of_a_container_without_presentation_times_are_in_their_order(name, check, tmp_path):
    codec, options = NO_PTS[name]
    found = check(numbered(tmp_path / name, codec, **options), range(60))
    assert found.timeline.time_s_N == pytest.approx(np.arange(60) / 25, abs=1e-6)
    if name in ("h264.avi", "open.avi", "long.avi"):
        assert "stores no presentation times" in found.media.time_note
        assert unclaimed(found.media)


# --- fields ---------------------------------------------------------------------------------------

FIELDS = {
    "all in fields": (list(in_fields(in_file_order())), 0),
    "mixed": (list(in_fields(in_file_order(), lambda number: number % 3)), 0),
    "bottom field first": (
        [p for first in in_file_order() for p in (
            Picture(first.number, "bottom", first.is_idr, True, first.frame_num, first.order),
            Picture(first.number, "top", False, True, first.frame_num, first.order))],
        0,
    ),
    "reordered": (reordered(("top", "bottom")), 1),
}  # fmt: skip


def ffmpeg_count(path):
    """Count the frames that ffmpeg decodes."""
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-vsync", "passthrough"]
    listed = subprocess.run([*command, "-f", "framemd5", "-"], capture_output=True, text=True)
    return sum(not line.startswith("#") for line in listed.stdout.splitlines())


def stored_fields(pictures, *, together):
    """Store pictures at their times, each as a packet; `together`: both fields in one."""
    stored = []
    for position, picture in enumerate(pictures):
        pts_ms = 40 * picture.number + 200
        if picture.structure == "frame":
            stored.append(Stored(coded(picture), pts_ms, 20 * position, picture.is_idr))
            continue
        is_second = bool(stored) and stored[-1].pts_ms == pts_ms
        if is_second and together:
            both = stored.pop()
            stored.append(Stored(both.data + coded(picture), pts_ms, both.dts_ms, both.is_key))
        else:
            dts_ms = 20 * position
            stored.append(Stored(coded(picture), pts_ms + 20 * is_second, dts_ms, picture.is_idr))
    return stored


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("container", ["mkv", "mp4", "ts"])
@pytest.mark.parametrize("kind", FIELDS)
def test_two_fields_are_one_frame(kind, container, together, check, tmp_path):
    pictures, reorder = FIELDS[kind]
    stored = stored_fields(pictures, together=together)
    path = mux(tmp_path / f"clip.{container}", stored, reorder=reorder)
    assert ffmpeg_count(path) == NUM_FRAMES
    found = check(path, range(NUM_FRAMES))
    assert found.timeline.time_s_N == pytest.approx(np.arange(NUM_FRAMES) / 25, abs=1.1e-3)
    assert found.media.duration_s == pytest.approx(NUM_FRAMES / 25, abs=2e-3)
    assert found.media.time_note == ""
    plan = found.timeline.plan(np.array([3, 25, 37]))
    runs = list(runs_of(plan))
    decoded = pyav_decoder.attempt(
        str(path), found.media, plan, None, runs, skip_nonref=True
    ).result()
    assert decoded.is_exact_F.all(), "a planned frame's field was left out"


@pytest.mark.parametrize("kind", FIELDS)
def test_two_fields_of_a_raw_stream_are_one_frame(kind, check, tmp_path):
    pictures, reorder = FIELDS[kind]
    path = tmp_path / "clip.264"
    path.write_bytes(parameter_sets(reorder=reorder) + b"".join(map(coded, pictures)))
    assert ffmpeg_count(path) == NUM_FRAMES
    found = check(path, range(NUM_FRAMES))
    assert found.media.duration_s == pytest.approx(NUM_FRAMES / 25)
    assert "no usable timestamps: 25 frames a second" in found.media.time_note


@pytest.mark.parametrize("lost", [11, 10, 79])
def test_a_field_whose_other_one_is_lost_is_no_frame(lost, check, tmp_path):
    pictures = FIELDS["all in fields"][0]
    path = tmp_path / "clip.264"
    path.write_bytes(
        parameter_sets() + b"".join(coded(p) for i, p in enumerate(pictures) if i != lost)
    )
    assert ffmpeg_count(path) == NUM_FRAMES - 1
    check(path, [i for i in range(NUM_FRAMES) if i != lost // 2])


# --- MPEG-TS: joined and cut ----------------------------------------------------------------------


def recording(path, start_ms, first=0, count=20):
    """Pictures first, first + 1 ... as MPEG-TS or MPEG-PS, whose clock begins at `start_ms`."""
    pictures = [Picture(first + i, is_idr=i % GROUP == 0, frame_num=i % GROUP, order=i % GROUP)
                for i in range(count)]  # fmt: skip
    stored = [Stored(coded(p, interlaced=False), start_ms + 40 * i, start_ms + 40 * i, p.is_idr)
              for i, p in enumerate(pictures)]  # fmt: skip
    return mux(path, stored, interlaced=False).read_bytes()


@pytest.mark.parametrize(
    "starts_ms",
    [
        [5000, 100],
        [100, 60_000],
        [100, 20_000, 3000],
        [100, 500],  # a step back of less than a second
    ],
)
def test_joined_recordings_follow_each_other(starts_ms, check, tmp_path):
    parts = [recording(tmp_path / "part.ts", start, 20 * i) for i, start in enumerate(starts_ms)]
    path = tmp_path / "clip.ts"
    path.write_bytes(b"".join(parts))
    count = 20 * len(parts)
    found = check(path, range(count))
    assert found.timeline.time_s_N == pytest.approx(np.arange(count) / 25, abs=1e-4)
    assert found.media.duration_s == pytest.approx(count / 25, abs=1e-4)
    assert f"the clock jumps {len(parts) - 1} times" in found.media.time_note


def test_a_pause_elsewhere_is_a_pause(check, tmp_path):
    times_ms = [40 * i + 15_000 * (i > 20) for i in range(NUM_FRAMES)]
    stored = [Stored(coded(p, interlaced=False), time_ms, time_ms, p.is_idr)
              for p, time_ms in zip(in_file_order(), times_ms, strict=True)]  # fmt: skip
    for container in ("mkv", "mp4", "flv"):
        found = check(mux(tmp_path / f"clip.{container}", stored, interlaced=False), range(40))
        assert found.media.time_note == ""
        assert found.timeline.time_s_N[-1] == pytest.approx(39 / 25 + 15)


def test_a_stream_cut_in_a_group_begins_with_the_next(check, tmp_path):
    content = recording(tmp_path / "whole.ts", 1000)
    packets = [content[at : at + 188] for at in range(0, len(content), 188)]
    path = tmp_path / "clip.ts"
    path.write_bytes(b"".join(packets[:3] + packets[len(packets) // 4 :]))
    found = check(path, list(range(10, 20)))
    assert found.timeline.time_s_N == pytest.approx(np.arange(10) / 25, abs=1e-4)
    assert "begins in the middle of a group" in found.media.time_note


def test_what_needs_the_group_that_was_cut_off_is_left_out(check, tmp_path):
    """MPEG-2: two images are stored after the key frame and shown before it."""
    whole = numbered(tmp_path / "whole.ts", "mpeg2video", bf="2", g="12", sc_threshold="0")
    content = whole.read_bytes()
    packets = [content[at : at + 188] for at in range(0, len(content), 188)]
    path = tmp_path / "clip.ts"
    path.write_bytes(b"".join(packets[:3] + packets[len(packets) // 5 :]))
    with av.open(str(path)) as container:
        shown = [number_shown(frame.to_ndarray(format="rgb24"))
                 for frame in container.decode(video=0)]  # fmt: skip
    assert shown[0] > 5
    check(path, shown)


def test_what_is_shown_before_the_first_key_frame_stays_where_it_can_be_decoded(check, tmp_path):
    pictures = [Picture(2, is_idr=True, order=2)]
    pictures += [Picture(i, is_reference=False, frame_num=1, order=i) for i in (0, 1)]
    pictures += [Picture(i, frame_num=i - 2, order=i) for i in range(3, 12)]
    stored = [Stored(coded(p, interlaced=False), 200 + 40 * p.number, 40 * i, p.is_idr)
              for i, p in enumerate(pictures)]  # fmt: skip
    path = mux(tmp_path / "clip.ts", stored, reorder=2, interlaced=False)
    assert check(path, range(12)).media.time_note == ""


# --- what a decoder makes of it -------------------------------------------------------------------


@pytest.fixture
def doubled(tmp_path):
    """A file of which one timestamp is there twice."""
    times_ms = [40 * (6 if i == 7 else i) for i in range(NUM_FRAMES)]
    stored = [Stored(coded(p, interlaced=False), time_ms, time_ms, p.is_idr)
              for p, time_ms in zip(in_file_order(), times_ms, strict=True)]  # fmt: skip
    return mux(tmp_path / "clip.mkv", stored, interlaced=False)


def test_packets_that_are_not_those_of_the_probe_are_refused(doubled):
    found = probe(str(doubled), "clip")
    found.timeline.mended.stored_P[5] += 1
    with pytest.raises(MediaError) as caught:
        numbers_of(doubled, [9], found)
    assert caught.value.reason is Reason.CORRUPT
    assert numbers_of(doubled, [25], found) == ([25], [True])


def test_a_seek_that_misses_a_packet_is_seen(doubled, monkeypatch):
    """All is then decoded from the top."""
    found = probe(str(doubled), "clip")
    packets_of, num_calls = decode_session.packets_of, []

    def missing_one(*args):
        num_calls.append(1)
        for number, packet in enumerate(packets_of(*args)):
            if number != 3 or len(num_calls) > 1:  # the first one that is read comes after the seek
                yield packet

    monkeypatch.setattr(decode_session, "packets_of", missing_one)
    monkeypatch.setattr(decode_session, "NEAR_PACKETS", 0)
    assert numbers_of(doubled, [25], found) == ([25], [True])
    assert len(num_calls) == 2


def test_decoding_times_that_go_back_leave_the_order_to_the_decoder():
    count = 6
    packets = Packets(
        pts_P=np.array([0, 80, 40, 160, 120, 200]),
        dts_P=np.array([-80, -40, 0, -20, 80, 120]),
        duration_P=np.full(count, 40),
        is_key_P=np.arange(count) == 0,
        is_discard_P=np.zeros(count, bool),
        is_second_P=np.zeros(count, bool),
        is_lone_P=np.zeros(count, bool),
        container="matroska",
        reordered=True,
    )
    timeline = timeline_of(packets, Fraction(1, 1000), 25.0)
    assert not timeline.timed
    assert timeline.time_s_N == pytest.approx(np.arange(count) / 25)


ODD = {  # file: (pictures, the first one's number, seconds, words of the note)
    "dup_pts.mkv": (100, 0, 14.0, "1 of 100 timestamps"),
    "webcam_ms.flv": (150, 0, 8.38, "4 of 150 timestamps"),
    "h264_bframes.avi": (90, 0, 3.6, "stores no presentation times"),
    "ts_clock_reset.ts": (150, 0, 6.0, "the clock jumps 1 times"),
    "cut_mid_gop.ts": (180, 120, 7.2, "48 packets left out"),
    "negative_pts.mp4": (62, 13, 2.48, ""),
}


@pytest.mark.parametrize("name", ODD)
def test_files_of_the_field(name, corpus, check):
    count, first, duration_s, note = ODD[name]
    found = check(corpus / "odd" / name, range(first, first + count))
    assert found.media.duration_s == pytest.approx(duration_s, abs=0.01)
    assert (note in found.media.time_note) if note else found.media.time_note == ""
