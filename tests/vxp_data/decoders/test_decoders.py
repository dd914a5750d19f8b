"""Decoders against an ffmpeg program that shares no code path with them, and the gate's reasons."""

from __future__ import annotations

import csv
import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from support import ffmpeg_truth
from support.decoders import skip_without
from support.gpu_stand_ins import offer_stand_ins
from vxp_data.core.frame_sampling import uniform
from vxp_data.decoders import decode_session, pyav_decoder
from vxp_data.decoders.base import FrameSize, decodes_on_gpu
from vxp_data.decoders.child import decode_file, probe_file
from vxp_data.decoders.probe import probe
from vxp_data.decoders.runs import runs_of, whole_run
from vxp_data.decoders.sandbox import NO_LIMIT, FrameArena, Sandbox
from vxp_data.errors import MediaError
from vxp_data.records import Reason
from vxp_data.registry import DECODERS

SIDE = FrameSize(width_px=ffmpeg_truth.SIDE_PX, height_px=ffmpeg_truth.SIDE_PX)
MAX_DIFFERENCE = 6.0
"""Mean absolute difference of one frame: libraries scale differently; test patterns most of all."""
CLEARLY = 0.3
"""Share of two frames' difference by which the wrong one must be nearer: filters differ too."""


# --- clips made on the spot ---------------------------------------------------------------------


def image(i, width=160, height=120):
    """An image that tells its number in eight bars, with a corner that tells which way is up."""
    rgb = np.empty((height, width, 3), np.uint8)
    rgb[..., 0] = np.linspace(40, 200, width, dtype=np.uint8)
    rgb[..., 1] = np.linspace(30, 160, height, dtype=np.uint8)[:, None]
    rgb[..., 2] = 90
    for bit in range(8):
        bar = slice(bit * width // 8, (bit + 1) * width // 8)
        rgb[height // 3 : 2 * height // 3, bar] = (230, 200, 40) if i >> bit & 1 else (20, 40, 180)
    rgb[: height // 4, : width // 4] = (220, 20, 20)
    return rgb


def encode(
    path, num_frames=60, *, pts=None, size=(160, 120), pix_fmt="yuv420p", rotate=0, title="", **x264
):
    """Encode images 0.. with libx264; `pts` in milliseconds."""
    tags = {key: x264.pop(key) for key in ("colorspace", "color_range") if key in x264}
    options = {"preset": "veryfast", "crf": "12", "threads": "1"} | x264
    with av.open(str(path), "w") as container:
        container.metadata["title"] = title
        stream = container.add_stream("libx264", rate=25, options=options)
        stream.width, stream.height = size
        stream.pix_fmt = pix_fmt
        stream.codec_context.time_base = Fraction(1, 1000)
        for key, value in tags.items():
            setattr(stream.codec_context, key, value)
        if rotate:
            stream.set_display_rotation(rotate)
        for i in range(num_frames):
            frame = av.VideoFrame.from_ndarray(image(i, *size), format="rgb24")
            frame.pts = 40 * i if pts is None else pts[i]
            frame.time_base = Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


VFR_MS = [40 * i if i < 30 else 1200 + 400 * (i - 30) for i in range(60)]
CLIPS = {
    "plain.mp4": {"g": "12"},
    "b_frames.mp4": {"bf": "3", "g": "12", "x264-params": "b-pyramid=normal"},
    "open_gop.mkv": {"x264-params": "open-gop=1:keyint=12:min-keyint=12:bframes=3:scenecut=0"},
    "long_gop.mp4": {"num_frames": 200, "g": "500", "bf": "2"},
    "vfr.mp4": {"pts": VFR_MS, "g": "10"},
    "late_start.mkv": {"pts": [7000 + 40 * i for i in range(60)], "g": "10", "bf": "0"},
    "rotated_90.mp4": {"rotate": 90},
    "rotated_180.mp4": {"rotate": 180},
    "rotated_270.mp4": {"rotate": 270},
    "odd.mp4": {"size": (161, 121), "pix_fmt": "yuv444p"},
    "sar_2_1.mp4": {"x264-params": "sar=2/1"},
    "ten_bit.mp4": {"pix_fmt": "yuv420p10le"},
    "bt709.mp4": {"colorspace": 1, "color_range": 1},
    "full_range.mp4": {"colorspace": 1, "color_range": 2},
    "b_frames.ts": {"bf": "3", "g": "12"},
    "two_frames.mp4": {"num_frames": 2},
}


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    return {name: encode(folder / name, **how) for name, how in CLIPS.items()}


# --- the comparison -----------------------------------------------------------------------------


@pytest.fixture(scope="session")
def truth_of(tmp_path_factory):
    """Decode with ffmpeg, each clip once a session."""
    folder = tmp_path_factory.mktemp("truth")
    known = {}

    def truth(path):
        if path not in known:
            known[path] = ffmpeg_truth.decode(path, folder / f"{len(known)}.raw")
        return known[path]

    return truth


class Bench:
    """A child process and its arena, so that a decoder that hangs or dies fails one test."""

    def __init__(self):
        self.arena = FrameArena()
        self.sandbox = Sandbox(2 << 30, self.arena)
        self.gpu_sandbox = Sandbox(NO_LIMIT, self.arena)

    def probe(self, path):
        return self.sandbox.call(probe_file, str(path), str(path), False, timeout_s=60).value

    def decode(self, name, path, media, plan):
        self.arena.reserve(len(plan) * SIDE.width_px * SIDE.height_px * 3)
        call = (decode_file, name, str(path), media, plan, SIDE)
        sandbox = self.gpu_sandbox if decodes_on_gpu(name) else self.sandbox
        decoded = sandbox.call(*call, timeout_s=60).value
        return self.arena.take(decoded.shape), decoded


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        offer_stand_ins(tmp_path_factory.mktemp("installed") / "package", patch)
        bench = Bench()
        yield bench
        bench.sandbox.close()
        bench.gpu_sandbox.close()
        bench.arena.close()


STAND_IN = "nvdec-on-cpu"
"""The decoder on a GPU, with torchcodec on a core."""


@pytest.fixture(params=[*DECODERS.names(), STAND_IN])
def decoder(request, bench):
    skip_without(request.param, bench.sandbox)
    return request.param


def difference(one, other):
    return float(np.abs(one.astype(np.int16) - other).mean())


def closer_elsewhere(frame, index, truth, planned, noise):
    """Find a frame that is clearly another one, and yet nearer: a planned one or a neighbour.

    `noise` is how far the library's own filter is from ffmpeg's; frames no further apart than
    twice that cannot be told apart.
    """
    here = difference(frame, truth.frames_NHWC[index])
    for other in sorted({*planned, *range(index - 2, index + 3)} - {index}):
        if not 0 <= other < len(truth):
            continue
        apart = difference(truth.frames_NHWC[index], truth.frames_NHWC[other])
        clearly = difference(frame, truth.frames_NHWC[other]) + CLEARLY * apart < here
        if apart > max(1.0, 2 * noise) and clearly:
            return other
    return None


def compare(name, path, bench, truth, max_difference=MAX_DIFFERENCE):
    """Check one decoder's 20 frames of one clip; return the reason where it does not claim it."""
    found = bench.probe(path)
    plan = found.timeline.plan(uniform(len(found.timeline), 20))
    try:
        frames_FHWC, decoded = bench.decode(name, path, found.media, plan)
    except MediaError as error:
        if error.reason is Reason.UNSUPPORTED and name != "pyav":
            return error.reason
        raise
    index_F = plan.frame_index_F
    if plan.timed and plan.mended is None:  # ffmpeg's times are the file's
        index_F = truth.places_of(plan.time_s_F + found.media.start_s)
        if len(truth) == len(found.timeline):
            assert index_F.tolist() == plan.frame_index_F.tolist(), "another presentation order"
    planned = [int(index) for index in index_F if 0 <= index < len(truth)]
    assert planned, "ffmpeg gave none of the planned frames"
    away_of = {
        i: difference(frames_FHWC[i], truth.frames_NHWC[index])
        for i, index in enumerate(index_F.tolist())
        if 0 <= index < len(truth)  # ffmpeg could not decode the others either
    }
    noise = float(np.median(list(away_of.values())))
    wrong = []
    for i, away in away_of.items():
        index = int(index_F[i])
        nearer = closer_elsewhere(frames_FHWC[i], index, truth, planned, noise)
        if away > max_difference or nearer is not None or not decoded.is_exact_F[i]:
            wrong.append((i, index, round(away, 2), nearer, bool(decoded.is_exact_F[i])))
    assert not wrong, f"{path.name}: (slot, frame, difference, nearer to, exact): {wrong}"
    return None


@pytest.mark.parametrize("clip", CLIPS)
def test_decoder_gives_the_frames_of_ffmpeg_or_says_unsupported(
    clip, decoder, made, bench, truth_of
):
    truth = truth_of(made[clip])
    assert len(truth) == CLIPS[clip].get("num_frames", 60)
    unsupported = compare(decoder, made[clip], bench, truth, max_difference=4.0)
    may_refuse = {"ten_bit.mp4", "odd.mp4"} if decodes_on_gpu(decoder) else {"ten_bit.mp4"}
    assert unsupported is None or clip.endswith((".ts", ".mkv")) or clip in may_refuse


def corpus_clips():
    folder = os.environ.get("VXP_CORPUS")
    if not folder:
        return [pytest.param("", marks=pytest.mark.skip(reason="VXP_CORPUS is not set"))]
    with (Path(folder) / "catalog.tsv").open(newline="") as file:
        rows = csv.DictReader(file, delimiter="\t")
        return [row["file"] for row in rows if int(row["n_frames_decoded"] or 0)]


NOT_FOR_US = {
    "hard/made__audio_with_cover_art.m4a": Reason.NO_VIDEO_STREAM,  # an image is not a video
    "hard/made__jpeg_named.mp4": Reason.NOT_VIDEO,  # a row that calls it an image may have it
}
DAMAGED = {
    # Damaged key frames: what a codec conceals depends on the images before, which a decode that
    # starts at the key frame does not have.
    "hard/mp4parse-rust__no_timescale.mp4",
    "hard/made__bitflips_400_mdat.mp4",
}


@pytest.mark.parametrize("clip", corpus_clips())
def test_pyav_gives_the_frames_of_ffmpeg_on_the_corpus(clip, corpus, bench, truth_of):
    path = corpus / clip
    if clip in NOT_FOR_US:
        with pytest.raises(MediaError) as caught:
            bench.probe(path)
        assert caught.value.reason is NOT_FOR_US[clip]
    elif clip in DAMAGED:
        found = bench.probe(path)
        plan = found.timeline.plan(uniform(len(found.timeline), 20))
        assert bench.decode("pyav", path, found.media, plan)[1].is_exact_F.sum() >= 19
    else:
        compare("pyav", path, bench, truth_of(path))


def test_sound_tracks_are_those_that_the_corpus_catalogue_lists(corpus):
    with (corpus / "catalog.tsv").open(newline="") as file:
        rows = [
            row for row in csv.DictReader(file, delimiter="\t") if row["n_frames_decoded"] != "0"
        ]
    listed = {row["file"]: row["has_audio"] == "yes" for row in rows if row["n_frames_decoded"]}
    media = {name: probe(str(corpus / name), name).media for name in listed.keys() - NOT_FOR_US}
    assert {name: m.num_audio_streams > 0 for name, m in media.items()} == {
        name: listed[name] for name in media
    }
    assert {True, False} == set(listed.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", [*(n for n in DECODERS.names() if n != "pyav"), STAND_IN])
@pytest.mark.parametrize("clip", corpus_clips())
def test_other_decoders_give_the_frames_of_ffmpeg_where_they_claim_the_media(
    name, clip, corpus, bench, truth_of
):
    if clip in NOT_FOR_US:
        return
    skip_without(name, bench.sandbox)
    try:
        compare(name, corpus / clip, bench, truth_of(corpus / clip))
    except MediaError as error:  # an honest failure; PyAV has its try then
        if error.reason is not Reason.DECODE_FAILED:
            raise


# --- the gate -----------------------------------------------------------------------------------


def cut_before_moov(path, source):
    content = source.read_bytes()
    path.write_bytes(content[: content.index(b"moov") - 4])


def sound_only(path):
    with av.open(str(path), "w", format="matroska") as container:
        stream = container.add_stream("pcm_s16le", rate=48000, layout="mono")
        frame = av.AudioFrame(format="s16", layout="mono", samples=1024)
        frame.sample_rate = 48000
        frame.pts = 0
        container.mux(stream.encode(frame))


BROKEN = {
    "missing": lambda _path, _source: None,
    "empty": lambda path, _source: path.touch(),
    "unreadable": lambda path, _source: path.mkdir(),
    "not_video": lambda path, _source: path.write_text("<!DOCTYPE html><title>403</title>"),
    "truncated": cut_before_moov,
    "no_video_stream": lambda path, _source: sound_only(path),
}


@pytest.mark.parametrize("reason", BROKEN)
def test_broken_file_has_its_own_reason(reason, tmp_path, made):
    path = tmp_path / "clip.mp4"
    BROKEN[reason](path, made["plain.mp4"])
    with pytest.raises(MediaError) as caught:
        probe(str(path), "clip")
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{clip}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile '{clip}'\n",
        "\n#EXTM3U\n#EXTINF:9,\nhttp://127.0.0.1:9/a.ts\n",
    ],
)
@pytest.mark.parametrize("suffix", ["mp4", "m3u8"])
def test_playlist_is_forbidden_by_any_name(text, suffix, tmp_path, made):
    path = tmp_path / f"clip.{suffix}"
    path.write_text(text.format(clip=made["b_frames.ts"]))
    with pytest.raises(MediaError) as caught:
        probe(str(path), "clip")
    assert caught.value.reason is Reason.FORBIDDEN


def test_metadata_that_is_no_utf8_does_not_fail_the_file(tmp_path):
    path = encode(tmp_path / "clip.mkv", 5, title="TITLE_OF_IT")
    content = path.read_bytes()
    assert b"TITLE_OF_IT" in content
    path.write_bytes(content.replace(b"TITLE_OF_IT", b"\xff\xfe\xe9TLE_OF_IT"))
    assert probe(str(path), "clip").media.num_frames == 5


# --- the timeline -------------------------------------------------------------------------------


def test_times_are_seconds_since_the_first_frame_and_follow_the_file(made):
    found = probe(str(made["vfr.mp4"]), "clip")
    assert found.timeline.time_s_N == pytest.approx(np.array(VFR_MS) / 1000, abs=1e-9)
    late = probe(str(made["late_start.mkv"]), "clip")
    assert late.media.start_s == pytest.approx(7.0)
    assert late.timeline.time_s_N == pytest.approx(np.arange(60) / 25, abs=1e-9)


def test_each_group_of_images_is_decoded_once(made):
    timeline = probe(str(made["plain.mp4"]), "clip").timeline
    assert np.flatnonzero(timeline.is_key_N).tolist() == [0, 12, 24, 36, 48]
    runs = list(runs_of(timeline.plan(np.array([1, 5, 14, 40, 41, 59]))))
    assert [(run.first, run.last, run.start) for run in runs] == [
        (0, 1, 0),
        (2, 2, 12),
        (3, 4, 36),
        (5, 5, 48),
    ]


@pytest.mark.parametrize(
    "clip", ["plain.mp4", "b_frames.mp4", "open_gop.mkv", "vfr.mp4", "b_frames.ts", "long_gop.mp4"]
)
@pytest.mark.parametrize("step", [1, 3, 13])
def test_frames_are_bit_for_bit_those_of_one_forward_pass(clip, step, made, monkeypatch):
    monkeypatch.setattr(decode_session, "NEAR_PACKETS", 0)  # short clips: seek to every run
    path = str(made[clip])
    found = probe(path, "clip")
    plan = found.timeline.plan(np.arange(step - 1, len(found.timeline), step))
    runs = list(runs_of(plan))
    whole = [whole_run(plan)]
    by_runs = pyav_decoder.attempt(path, found.media, plan, SIDE, runs, skip_nonref=True).result()
    at_once = pyav_decoder.attempt(path, found.media, plan, SIDE, whole, skip_nonref=False).result()
    assert by_runs.is_exact_F.all()
    assert at_once.is_exact_F.all()
    assert (by_runs.frames_FHWC == at_once.frames_FHWC).all()


@pytest.mark.parametrize("clip", ["plain.mp4", "b_frames.mp4", "vfr.mp4", "late_start.mkv"])
def test_a_seek_lands_on_the_key_frame_itself(clip, made, monkeypatch):
    """Nothing is read that no planned frame needs."""
    num_read = []
    packets_of = decode_session.packets_of

    def counted(*args):
        for packet in packets_of(*args):
            num_read.append(packet.pts)
            yield packet

    path = str(made[clip])
    found = probe(path, "clip")
    keys = np.flatnonzero(found.timeline.is_key_N)
    plan = found.timeline.plan(keys[1:] + 1)
    monkeypatch.setattr(decode_session, "NEAR_PACKETS", 0)
    monkeypatch.setattr(decode_session, "packets_of", counted)
    runs = list(runs_of(plan))
    assert len(runs) == len(keys) - 1 >= 4
    pyav_decoder.attempt(path, found.media, plan, SIDE, runs, skip_nonref=True)
    assert len(num_read) == sum(run.end - run.start + 1 for run in runs)
