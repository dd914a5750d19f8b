"""Damage that keeps a file whole: header fields with values that are allowed and odd.

Colour (matrix, primaries, transfer, range), field order, edit lists, time bases, pixel aspect and
cropping, in MP4's and Matroska's headers and in the codecs' own.
"""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from typing import Any, Final

import av
from av.bitstream import BitStreamFilterContext

Draw = Callable[[random.Random, int], bytes]


def _any(rng: random.Random, num_bytes: int) -> bytes:
    return rng.randbytes(num_bytes)


def _small(rng: random.Random, num_bytes: int) -> bytes:
    """Return a number as enumerations have them, and some that they reserve."""
    return rng.choice([*range(20), 0x7F, 0xFF]).to_bytes(num_bytes, "big")


def _rate(rng: random.Random, num_bytes: int) -> bytes:
    """Return ticks in a second, or how long something lasts in ticks."""
    most = (1 << 8 * num_bytes) - 1
    rates = [0, 1, 7, 25, 600, 1000, 90_000, 1_000_000, most >> 1, most]
    return min(rng.choice(rates), most).to_bytes(num_bytes, "big")


def _time(rng: random.Random, num_bytes: int) -> bytes:
    """Return a time in ticks; -1 begins an empty edit."""
    times = [-1, 0, 1, 512, 90_000, -90_000, (1 << 8 * num_bytes - 1) - 1]
    return rng.choice(times).to_bytes(num_bytes, "big", signed=True)


MP4_FIELDS: Final[tuple[tuple[bytes, int, int, Draw], ...]] = (
    *((b"colrnclx", at, 2, _small) for at in (0, 2, 4)),
    (b"colrnclx", 6, 1, _any),
    (b"fiel", 0, 1, _small),
    (b"fiel", 1, 1, _small),
    *((b"pasp", at, 4, _rate) for at in (0, 4)),
    *((b"mdhd", at, 4, _rate) for at in (12, 16)),
    *((b"mvhd", at, 4, _rate) for at in (12, 16)),
    (b"elst", 4, 4, _small),
    (b"elst", 8, 4, _rate),
    (b"elst", 12, 4, _time),
    (b"elst", 16, 4, _rate),
    (b"stts", 12, 4, _rate),
    (b"ctts", 12, 4, _time),
    *((b"tkhd", at, 4, _any) for at in (40, 44, 52, 56)),
)
"""A box's name, and in its content: the field's place, its length, what is written there."""

MATROSKA_FIELDS: Final[tuple[tuple[bytes, int, Draw], ...]] = (
    *((bytes.fromhex(f"55{number}81"), 1, _small) for number in ("b1", "b9", "ba", "bb", "b7")),
    (b"\x9a\x81", 1, _small),
    (b"\x9d\x81", 1, _small),
    *((bytes.fromhex(f"54{edge}81"), 1, _any) for edge in ("aa", "bb", "cc", "dd")),
    (bytes.fromhex("2ad7b183"), 3, _rate),
    (bytes.fromhex("23e38384"), 4, _rate),
)
"""An element's number and length, how long it is, what is written there."""


def set_header_fields(rng: random.Random, data: bytearray, _: bytes) -> bytearray:
    """Write odd values into 1 to 3 fields of an MP4's or a Matroska file's header."""
    places = [(at, size, draw) for name, skip, size, draw in MP4_FIELDS
              for at in _places(data, name, skip, size)]  # fmt: skip
    if data.startswith(b"\x1a\x45\xdf\xa3"):
        head = data[: 1 << 16]
        places = [(at, size, draw) for name, size, draw in MATROSKA_FIELDS
                  for at in _places(head, name, 0, size)]  # fmt: skip
    for at, size, draw in rng.sample(places, min(len(places), rng.randrange(1, 4))):
        data[at : at + size] = draw(rng, size)
    return data


def _places(data: bytearray, name: bytes, skip: int, size: int) -> list[int]:
    """Find where a field lies, once for each of its names."""
    found, at = [], data.find(name)
    while at >= 0 and at + len(name) + skip + size <= len(data):
        found.append(at + len(name) + skip)
        at = data.find(name, at + 1)
    return found


def _colours(rng: random.Random) -> dict[str, str]:
    names = ("colour_primaries", "transfer_characteristics", "matrix_coefficients")
    return {name: str(rng.choice([*range(18), 255])) for name in names}


def _sequence_fields(rng: random.Random) -> dict[str, str]:
    """Draw what stands in the sequence header of H.264 and HEVC."""
    return _colours(rng) | {
        "video_full_range_flag": str(rng.randrange(2)),
        "chroma_sample_loc_type": str(rng.randrange(6)),
        "sample_aspect_ratio": rng.choice(["1/1", "4/3", "1/250", "250/1"]),
        "tick_rate": rng.choice(["25", "90000/1001", "1/10", "1000000"]),
        "crop_right": str(2 * rng.randrange(8)),
        "crop_top": str(2 * rng.randrange(8)),
    }


METADATA: Final[dict[str, tuple[str, Callable[[random.Random], dict[str, str]]]]] = {
    "h264": ("h264_metadata", _sequence_fields),
    "hevc": ("hevc_metadata", _sequence_fields),
    "mpeg2video": ("mpeg2_metadata", lambda rng: _colours(rng) | {"frame_rate": "25"}),
    "av1": (
        "av1_metadata",
        lambda rng: {name.replace("colour", "color"): n for name, n in _colours(rng).items()},
    ),
    "vp9": (
        "vp9_metadata",
        lambda rng: {"color_space": str(rng.randrange(8)), "color_range": str(rng.randrange(2))},
    ),
}
"""FFmpeg's filter for a codec's own headers, and its options."""


def retag_stream(rng: random.Random, data: bytearray, _: bytes) -> bytearray:
    """Write a video's packets anew: other tags, container, time base and first time.

    A first time below 0 becomes an edit list in MP4. What cannot be written so is left as it is.
    """
    container = rng.choice(["mp4", "mov", "matroska", "mpegts", "avi"])
    made = io.BytesIO()
    try:
        with av.open(io.BytesIO(bytes(data)), metadata_errors="replace") as given:
            _remux(rng, given, made, container)
    except (av.FFmpegError, ValueError, LookupError, OverflowError):
        return data
    return bytearray(made.getvalue()) or data


def _remux(rng: random.Random, given: Any, made: io.BytesIO, container: str) -> None:
    source = given.streams.video[0]
    options = {"fflags": "+bitexact"}
    if container in ("mp4", "mov"):
        flags = ["empty_moov", "frag_keyframe", "use_metadata_tags", "negative_cts_offsets"]
        options |= {"movflags": rng.choice(flags), "use_editlist": str(rng.randrange(2))}
        options |= {"video_track_timescale": rng.choice(["0", "25", "600", "90000", "1000000"])}
    with av.open(made, "w", format=container, container_options=options) as out:
        stream = out.add_stream_from_template(source, opaque=True)
        tagged = _metadata(rng, source, stream)
        shift = rng.choice([0, 0, 1, -1, -5, 1000]) * _ticks_of_a_frame(source)
        for packet in given.demux(source):
            if packet.dts is None:
                continue
            packet.pts = None if packet.pts is None else packet.pts + shift
            packet.dts += shift
            for part in tagged.filter(packet) if tagged else [packet]:
                part.stream = stream
                out.mux(part)


def _metadata(rng: random.Random, source: Any, stream: Any) -> BitStreamFilterContext | None:
    if (name := source.codec_context.name.removeprefix("lib")) not in METADATA:
        return None
    filter_name, draw = METADATA[name]
    options = ":".join(f"{key}={value}" for key, value in draw(rng).items())
    return BitStreamFilterContext(f"{filter_name}={options}", source, stream)


def _ticks_of_a_frame(source: Any) -> int:
    rate, time_base = source.average_rate, source.time_base
    return max(1, round(1 / (rate * time_base))) if rate and time_base else 1


HEADER_MUTATIONS: Final = (set_header_fields, retag_stream)
