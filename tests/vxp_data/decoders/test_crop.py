"""Cropping in headers written by hand, sound and broken: Matroska, then MP4."""

from __future__ import annotations

import io
import random
import struct

import pytest

from vxp_data.decoders.matroska_crop import matroska_edges
from vxp_data.decoders.mp4_crop import mp4_edges


def element(ident: str, content: bytes = b"", *, is_open: bool = False) -> bytes:
    """Write an element with a length of eight bytes, or of none that is known."""
    size = b"\x01" + b"\xff" * 7 if is_open else b"\x01" + len(content).to_bytes(7, "big")
    return bytes.fromhex(ident) + size + content


def number(ident: str, value: int, num_bytes: int = 1) -> bytes:
    return element(ident, value.to_bytes(num_bytes, "big"))


def track(kind: int = 1, codec: str = "V_VP9", **edges: int) -> bytes:
    numbers = {"left": "54cc", "top": "54bb", "right": "54dd", "bottom": "54aa"}
    video = b"".join(number(numbers[side], value, 2) for side, value in edges.items())
    name = element("86", codec.encode()) if codec else b""
    return element("ae", number("d7", 1) + number("83", kind) + name + element("e0", video))


EBML = element("1a45dfa3", number("4286", 1))
INFO = element("1549a966", number("2ad7b1", 1_000_000, 3))
CLUSTER = element("1f43b675", number("e7", 0))


def tracks(*entries: bytes) -> bytes:
    return element("1654ae6b", b"".join(entries))


def edges_in(content: bytes, number: int = 0) -> list[int]:
    """Return left, top, right, bottom; nothing where there is no such track."""
    return list(matroska_edges(io.BytesIO(content), number).values())


PLAIN, CUT = track(), track(left=300, top=2, right=3, bottom=4)
NONE, WANTED = [0, 0, 0, 0], [300, 2, 3, 4]


@pytest.mark.parametrize("is_open", [False, True])
def test_edges_are_read_from_the_header(is_open: bool) -> None:
    segment = element("18538067", INFO + tracks(CUT) + CLUSTER, is_open=is_open)
    assert edges_in(EBML + segment) == WANTED
    assert edges_in(EBML + element("18538067", tracks(PLAIN), is_open=is_open)) == NONE


def test_the_video_track_of_that_number_counts() -> None:
    sound, nameless = track(kind=2, codec="A_OPUS", left=9), track(codec="", left=9)
    content = EBML + element("18538067", tracks(sound, nameless, PLAIN, sound, CUT))
    assert edges_in(content, 0) == NONE
    assert edges_in(content, 1) == WANTED
    assert edges_in(content, 2) == []


def test_a_header_behind_the_images_is_found_by_the_seek_head() -> None:
    place = len(element("114d9b74", seek(0))) + len(CLUSTER)
    content = element("114d9b74", seek(place)) + CLUSTER + tracks(CUT)
    assert edges_in(EBML + element("18538067", content)) == WANTED
    astray = element("114d9b74", seek(1 << 40)) + CLUSTER + tracks(CUT)
    assert edges_in(EBML + element("18538067", astray)) == []


def seek(place: int) -> bytes:
    return element("4dbb", element("53ab", bytes.fromhex("1654ae6b")) + number("53ac", place, 8))


def test_no_content_makes_it_fail() -> None:
    whole = EBML + element("18538067", element("114d9b74", seek(99)) + tracks(PLAIN, CUT) + CLUSTER)
    for seed in range(500):
        rng = random.Random(seed)
        data = bytearray(whole)
        for _ in range(rng.randrange(1, 8)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        edges_in(bytes(data[: rng.randrange(len(data) + 1)]), rng.randrange(3))
    for data in (b"", b"\x1a", EBML, b"\0" * 100, b"\xff" * 100):
        assert edges_in(data) == []


# --- MP4 ----------------------------------------------------------------------------------------


def box(kind: str, content: bytes = b"", *, long: bool = False) -> bytes:
    if long:
        return struct.pack(">I4sQ", 1, kind.encode(), len(content) + 16) + content
    return struct.pack(">I4s", len(content) + 8, kind.encode()) + content


def mp4(*traks: bytes, long: bool = False) -> bytes:
    return box("ftyp", b"isom") + box("mdat", bytes(50), long=long) + box("moov", b"".join(traks))


def trak(number: int, *aperture: int, version: int = 0) -> bytes:
    """Write a track of 320 x 180 pixels."""
    ids = bytes(16) if version else bytes(8)
    head = box("tkhd", bytes([version, 0, 0, 7]) + ids + struct.pack(">I", number) + bytes(60))
    clap = box("clap", struct.pack(">IIIIiIiI", *aperture)) if aperture else b""
    entry = bytearray(78)
    struct.pack_into(">HH", entry, 24, 320, 180)
    table = box("stsd", struct.pack(">II", 0, 1) + box("avc1", bytes(entry) + box("avcC") + clap))
    return box("trak", head + box("mdia", box("minf", box("stbl", table))))


def aperture_in(content: bytes, track: int = 1) -> list[int]:
    return list(mp4_edges(io.BytesIO(content), track).values())


def test_an_aperture_is_read_as_edges() -> None:
    middle = trak(1, 240, 1, 140, 1, 0, 1, 0, 1)
    assert aperture_in(mp4(middle)) == aperture_in(mp4(middle, long=True)) == [40, 20, 40, 20]
    assert aperture_in(mp4(trak(1, 480, 2, 140, 1, -20, 1, 20, 1))) == [20, 40, 60, 0]
    assert aperture_in(mp4(trak(1, 320, 1, 180, 1, 0, 1, 0, 1))) == [0, 0, 0, 0]
    assert aperture_in(mp4(trak(1))) == []


def test_an_aperture_that_is_no_part_of_the_picture_is_none() -> None:
    for aperture in ((640, 1, 180, 1, 0, 1, 0, 1), (240, 0, 140, 1, 0, 1, 0, 1),
                     (240, 1, 140, 1, 200, 1, 0, 1)):  # fmt: skip
        assert aperture_in(mp4(trak(1, *aperture))) == []


def test_the_track_of_that_number_counts() -> None:
    content = mp4(trak(7), trak(3, 240, 1, 140, 1, 0, 1, 0, 1, version=1))
    assert (aperture_in(content, 3), aperture_in(content, 7)) == ([40, 20, 40, 20], [])
    assert aperture_in(content, 1) == []


def test_no_content_of_an_mp4_makes_it_fail() -> None:
    whole = mp4(trak(2), trak(1, 240, 1, 140, 1, 0, 1, 0, 1))
    for seed in range(500):
        rng = random.Random(seed)
        data = bytearray(whole)
        for _ in range(rng.randrange(1, 8)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        aperture_in(bytes(data[: rng.randrange(len(data) + 1)]), rng.randrange(1, 3))
    for data in (b"", b"\0" * 7, b"\0" * 100, b"\xff" * 100):
        assert aperture_in(data) == []
