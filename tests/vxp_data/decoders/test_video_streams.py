"""Of several video streams, the one that is the video: every picture carries its own number."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from support.big_videos import ffmpeg
from support.decoders import skip_without
from support.numbered_cards import number_of, write_cards
from support.picture_bench import PictureBench
from vxp_data.core.frame_sampling import uniform
from vxp_data.decoders.indexed import probe_by_index, probe_indexed
from vxp_data.errors import MediaError
from vxp_data.records import MediaLimits, Reason
from vxp_data.registry import DECODERS

NUM_CARDS = 30
ELSEWHERE = 500
"""Numbers of the streams that are not the video begin here."""


@pytest.fixture(scope="module")
def bench() -> Iterator[PictureBench]:
    bench = PictureBench(160)
    yield bench
    bench.close()


Stream = tuple[int, int, int, str]
"""Cards, width, height, codec."""
VIDEO: Stream = (NUM_CARDS, 320, 180, "libx264")
PREVIEW: Stream = (1, 160, 90, "mjpeg")
FILES: dict[str, tuple[list[Stream], int, tuple[str, ...]]] = {
    "preview_first.mkv": ([PREVIEW, VIDEO], 1, ()),
    "preview_first.mov": ([PREVIEW, VIDEO], 1, ()),
    "big_preview_first.mp4": ([(1, 640, 360, "mjpeg"), VIDEO], 1, ("-disposition:v:0", "default")),
    "preview_first.avi": ([PREVIEW, (NUM_CARDS, 320, 180, "mpeg4")], 1, ()),
    "preview_first.ts": ([(1, 160, 90, "libx264"), VIDEO], 1, ()),
    "preview_last.mkv": ([VIDEO, PREVIEW], 0, ()),
    "fragments.mp4": ([(1, 160, 90, "libx264"), VIDEO], 1, ("-movflags", "frag_keyframe")),
    "low_rung_first.mp4": (
        [(NUM_CARDS, 64, 36, "libx264"), VIDEO], 1,
        ("-disposition:v:0", "0", "-disposition:v:1", "default"),
    ),
    "low_rung_is_default.mkv": (
        [VIDEO, (NUM_CARDS, 64, 36, "libx264")], 1,
        ("-disposition:v:0", "0", "-disposition:v:1", "default"),
    ),
    "low_rung_first.ts": ([(NUM_CARDS, 64, 36, "libx264"), VIDEO], 1, ()),
    "low_rung_first.avi": (
        [(NUM_CARDS, 64, 36, "mpeg4"), (NUM_CARDS, 320, 180, "mpeg4")], 1, (),
    ),
    "fewer_frames_first.ts": ([(5, 320, 180, "libx264"), VIDEO], 1, ()),
    "same_twice.mkv": ([VIDEO, VIDEO], 0, ("-disposition:v:0", "0", "-disposition:v:1", "0")),
    "cover_first.mp4": ([PREVIEW, VIDEO], 1, ("-disposition:v:0", "attached_pic")),
}  # fmt: skip
"""Streams in the file's order, which of them is the video, and how the file is written."""


@pytest.fixture(scope="module", params=FILES)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("streams")
    return write(folder / request.param)


def write(path: Path) -> Path:
    streams, chosen, options = FILES[path.name]
    inputs: list[str] = []
    codecs: list[str] = []
    for number, (num_cards, width, height, codec) in enumerate(streams):
        first = 0 if number == chosen else ELSEWHERE
        raw = write_cards(path.with_name(f"{number}.rgb"), first, num_cards, width, height)
        inputs += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}"]
        inputs += ["-r", "25", "-i", str(raw)]
        pixels = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        codecs += ["-map", f"{number}:v", f"-c:v:{number}", codec, f"-pix_fmt:v:{number}", pixels]
    return ffmpeg(path, *inputs, *codecs, *options)


def test_the_video_is_chosen_and_read(made: Path, bench: PictureBench) -> None:
    streams, chosen, _ = FILES[made.name]
    frames_FHWC, decoded, found = bench.read(made)
    # FFmpeg lists covers of an MP4 behind its tracks.
    assert found.media.stream_index == (0 if made.name == "cover_first.mp4" else chosen)
    assert found.media.num_frames == len(found.timeline) == NUM_CARDS
    _, width, height, _ = streams[chosen]
    assert (decoded.geometry.width_px, decoded.geometry.height_px) == (width, height)
    assert decoded.is_exact_F.all()
    assert [number_of(frame) for frame in frames_FHWC] == uniform(NUM_CARDS, 8).tolist()


@pytest.mark.parametrize("decoder", [name for name in DECODERS.names() if name != "pyav"])
def test_other_decoders_give_the_same_video_or_say_unsupported(
    decoder: str, made: Path, bench: PictureBench
) -> None:
    skip_without(decoder, bench.sandbox)
    found = bench.probe(made)
    plan = found.timeline.plan(uniform(len(found.timeline), 8))
    try:
        frames_FHWC, _ = bench.decode(made, found.media, plan, decoder)
    except MediaError as error:
        if error.reason is not Reason.UNSUPPORTED:
            raise
        return
    assert [number_of(frame) for frame in frames_FHWC] == plan.frame_index_F.tolist()


def test_every_way_to_probe_chooses_the_same_stream(bench: PictureBench, tmp_path: Path) -> None:
    for name in ("preview_first.mov", "big_preview_first.mp4", "low_rung_first.mp4"):
        path = write(tmp_path / name)
        wanted = bench.probe(path)
        call = (str(path), str(path), MediaLimits())
        by_index = bench.sandbox.call(probe_by_index, *call, timeout_s=60).value
        in_parts = bench.sandbox.call(probe_indexed, *call, timeout_s=60).value
        for found in (by_index, in_parts.probe):
            assert found.media.stream_index == 1
            assert found.media.num_frames == NUM_CARDS
            np.testing.assert_array_equal(found.timeline.time_s_N, wanted.timeline.time_s_N)
        data = path.read_bytes()
        assert len(in_parts.offset_P) == NUM_CARDS
        assert sum(in_parts.num_bytes_P) < len(data)


def test_a_file_that_has_another_stream_there_than_it_had_has_a_reason(
    bench: PictureBench, tmp_path: Path
) -> None:
    found = bench.probe(write(tmp_path / "preview_first.mkv"))
    plan = found.timeline.plan(uniform(len(found.timeline), 2))
    sound = ffmpeg(tmp_path / "tone.mkv", "-f", "lavfi", "-i", "sine=d=1", "-c:a", "flac")
    with pytest.raises(MediaError, match="stream 1") as caught:
        bench.decode(sound, found.media, plan)
    assert caught.value.reason is Reason.CORRUPT


@pytest.mark.parametrize(
    ("name", "num_frames", "size"),
    [
        ("preview_first.mov", 100, (320, 180)),
        ("preview_first.mkv", 100, (320, 180)),
        ("ladder.mp4", 100, (320, 180)),
        ("cover_first.mp4", 100, (320, 180)),
    ],
)
def test_files_with_several_streams(
    name: str, num_frames: int, size: tuple[int, int], corpus: Path, bench: PictureBench
) -> None:
    frames_FHWC, decoded, found = bench.read(corpus / "odd" / name)
    assert found.media.num_frames == num_frames
    assert (decoded.geometry.width_px, decoded.geometry.height_px) == size
    assert [number_of(frame) for frame in frames_FHWC] == uniform(num_frames, 8).tolist()
