"""Files made to cost much more than they weigh are `too_large` before anything is decoded.

They are made here, byte by byte where no muxer would write them.
"""

from __future__ import annotations

import os
import struct
import time
import zlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from vxp_data.decoders.child import probe_file
from vxp_data.decoders.image import Orientation, geometry_of
from vxp_data.decoders.probe import probe
from vxp_data.decoders.sandbox import Sandbox
from vxp_data.errors import MediaError
from vxp_data.records import MediaLimits, Reason
from vxp_data.settings.prune import DecodeConfig

WIDTH_PX, HEIGHT_PX, NUM_FRAMES = 64, 48, 10


def encode(path: Path, times: list[int], *, num_streams: int = 1) -> Path:
    """Write frames at those times (in 1/25 s), the same in each stream."""
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("mpeg4", rate=25) for _ in range(num_streams)]
        for stream in streams:
            stream.width, stream.height, stream.pix_fmt = WIDTH_PX, HEIGHT_PX, "yuv420p"
            stream.codec_context.time_base = Fraction(1, 25)
        for stream in streams:
            for number, at in enumerate(times):
                shade = np.full((HEIGHT_PX, WIDTH_PX, 3), 20 * number % 256, np.uint8)
                frame = av.VideoFrame.from_ndarray(shade, format="rgb24")
                frame.pts, frame.time_base = at, Fraction(1, 25)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    return path


def boxes(content: bytes, start: int, stop: int) -> Iterator[tuple[bytes, int, int]]:
    """Return (kind, start, end) of the MP4 boxes in a stretch."""
    while start + 8 <= stop:
        num_bytes, kind = struct.unpack(">I4s", content[start : start + 8])
        yield kind, start, start + num_bytes
        start += num_bytes


def repeat_tracks(content: bytes, times: int) -> bytes:
    """Put an MP4's tracks into its header again and again."""
    moov, end = next((a, b) for kind, a, b in boxes(content, 0, len(content)) if kind == b"moov")
    inside = [(kind, content[a:b]) for kind, a, b in boxes(content, moov + 8, end)]
    body = b"".join(box * (times if kind == b"trak" else 1) for kind, box in inside)
    return content[:moov] + struct.pack(">I4s", 8 + len(body), b"moov") + body + content[end:]


def claim_frames(content: bytes, count: int) -> bytes:
    """Let an MP4's tables of times and sizes speak of so many frames, of one byte each."""
    changed = bytearray(content)
    sizes, times = content.index(b"stsz"), content.index(b"stts")
    changed[sizes + 8 : sizes + 16] = struct.pack(">II", 1, count)
    changed[times + 12 : times + 16] = struct.pack(">I", count)
    return bytes(changed)


def png(width_px: int, height_px: int) -> bytes:
    """Make a black image of one bit a pixel: half a megabyte for 60,000 x 60,000."""
    packer = zlib.compressobj(9)
    row = bytes(1 + (width_px + 7) // 8)
    data = b"".join(packer.compress(row) for _ in range(height_px)) + packer.flush()

    def chunk(kind: bytes, held: bytes) -> bytes:
        return (
            struct.pack(">I", len(held)) + kind + held + struct.pack(">I", zlib.crc32(kind + held))
        )

    header = struct.pack(">IIBBBBB", width_px, height_px, 1, 0, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def gif(width_px: int, height_px: int) -> bytes:
    """Make 35 bytes that promise an image."""
    size = struct.pack("<HH", width_px, height_px)
    colours = b"\x80\0\0" + b"\0\0\0\xff\xff\xff"
    return b"GIF89a" + size + colours + b"\x2c\0\0\0\0" + size + b"\0\x02\x02\x44\x01\0\x3b"


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("plain")
    return encode(folder / "a.mp4", list(range(NUM_FRAMES))).read_bytes()


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    sandbox = Sandbox(DecodeConfig().memory_mib << 20)
    yield sandbox
    sandbox.close()


YEAR = 25 * 86400 * 365
BOMBS = {
    "60000.gif": (lambda path, _: write(path, gif(60_000, 60_000)), "60000 x 60000 pixels"),
    "12000.gif": (lambda path, _: write(path, gif(12_000, 12_000)), "12000 x 12000 pixels"),
    "60000.png": (lambda path, _: write(path, png(60_000, 60_000)), "60000 x 60000 pixels"),
    "16000.png": (lambda path, _: write(path, png(16_000, 16_000)), "16000 x 16000 pixels"),
    "frames.mp4": (lambda p, plain: write(p, claim_frames(plain, 2**32 - 1)), "20000000 frames"),
    "frames2.mp4": (lambda p, plain: write(p, claim_frames(plain, 21_000_000)), "20000000 frames"),
    "streams.mp4": (lambda p, plain: write(p, repeat_tracks(plain, 300)), "256 streams"),
    "streams2.mp4": (lambda p, plain: write(p, repeat_tracks(plain, 5000)), "256 streams"),
    "streams.ts": (lambda path, _: encode(path, [0], num_streams=300), "256 streams"),
    "year.mkv": (lambda path, _: encode(path, [0, 1, 2, YEAR]), "31536000 s; at most 604800"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_too_large_within_seconds_and_the_next_file_is_fine(
    name, tmp_path, plain, sandbox
):
    make, words = BOMBS[name]
    path = make(tmp_path / name, plain)
    assert path.stat().st_size < 12 << 20
    started_s = time.monotonic()
    with pytest.raises(MediaError) as caught:
        sandbox.call(probe_file, str(path), name, path.suffix == ".png", timeout_s=60)
    assert caught.value.reason is Reason.TOO_LARGE
    assert words in caught.value.message
    assert time.monotonic() - started_s < 30
    good = write(tmp_path / "good.mp4", plain)
    assert sandbox.call(probe_file, str(good), "good", False, timeout_s=60).value.media.width_px


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"max_pixels": WIDTH_PX * HEIGHT_PX - 1}, "64 x 48 pixels; at most 3071"),
        ({"max_frames": NUM_FRAMES - 1}, "more than 9 frames"),
        ({"max_duration_s": 0.39}, "at most 0"),
        ({"max_streams": 1}, "more than 1 streams"),
    ],
)
def test_a_file_at_a_limit_passes_and_one_beyond_it_does_not(tmp_path, plain, limits, words):
    path = write(tmp_path / "a.mp4", plain)
    at_the_limit = MediaLimits(max_pixels=WIDTH_PX * HEIGHT_PX, max_frames=10, max_duration_s=0.4)
    assert probe(str(path), "a", limits=at_the_limit).media.num_frames == NUM_FRAMES
    two = write(tmp_path / "two.mp4", repeat_tracks(plain, 2))
    assert probe(str(two), "two", limits=MediaLimits(max_streams=2)).media.num_frames == NUM_FRAMES
    with pytest.raises(MediaError, match=words) as caught:
        probe(str(two), "two", limits=MediaLimits(**limits))
    assert caught.value.reason is Reason.TOO_LARGE


def test_8k_is_fine_by_default_and_settings_reach_the_gate(tmp_path):
    assert DecodeConfig().limits() == MediaLimits()
    assert 7680 * 4320 <= DecodeConfig().max_pixels < 60_000 * 60_000
    eight_k = write(tmp_path / "8k.png", png(7680, 4320))
    assert probe(str(eight_k), "8k", image=True).media.width_px == 7680
    smaller = DecodeConfig(max_pixels=1000, max_frames=2, max_streams=3, max_duration_s=4)
    assert smaller.limits() == MediaLimits(
        max_pixels=1000, max_frames=2, max_streams=3, max_duration_s=4
    )


def test_a_named_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "clip.mp4")
    with pytest.raises(MediaError, match="is a device, pipe or socket") as caught:
        probe(str(tmp_path / "clip.mp4"), "clip")
    assert caught.value.reason is Reason.UNREADABLE


@pytest.mark.parametrize("start", ["#EXTM3U\n", "\ufeff#EXTM3U\n", "ffconcat version 1.0\n"])
def test_a_playlist_with_a_video_behind_it_is_forbidden(tmp_path, start):
    """FFmpeg 8 finds the video; decoders with another FFmpeg go by the beginning."""
    video = encode(tmp_path / "a.nut", [0, 1, 2]).read_bytes()
    elsewhere = f"#EXTINF:1,\nfile://{tmp_path}/a.nut\nfile {tmp_path}/a.nut\n"
    path = write(tmp_path / "clip.mp4", (start + elsewhere).encode() + video)
    with pytest.raises(MediaError) as caught:
        probe(str(path), "clip")
    assert caught.value.reason is Reason.FORBIDDEN
    if "EXTM3U" in start:  # this is why the beginning is looked at
        options = {"protocol_whitelist": "file", "format_whitelist": "nut"}
        av.open(f"file:{path}", options=options).close()


def test_absurd_pixels_count_as_square():
    frame = av.VideoFrame(64, 48, "rgb24")
    for aspect in (Fraction(1 << 30), Fraction(1, 1 << 30)):
        geometry = geometry_of(frame, aspect, Orientation())
        assert (geometry.width_px, geometry.height_px) == (64, 48)
    assert geometry_of(frame, Fraction(2), Orientation()).width_px == 128
