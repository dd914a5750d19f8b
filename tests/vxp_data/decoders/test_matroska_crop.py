"""Cropping in Matroska headers written by hand, sound and broken."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from vxp_data.decoders.matroska_crop import Crop, matroska_crop


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


def crop_in(tmp_path: Path, content: bytes, stream: int = 0) -> Crop | None:
    path = tmp_path / "a.mkv"
    path.write_bytes(content)
    return matroska_crop(str(path), stream)


PLAIN, CUT = track(), track(left=300, top=2, right=3, bottom=4)
WANTED = Crop(left_px=300, top_px=2, right_px=3, bottom_px=4)


@pytest.mark.parametrize("is_open", [False, True])
def test_edges_are_read_from_the_header(tmp_path: Path, is_open: bool) -> None:
    segment = element("18538067", INFO + tracks(CUT) + CLUSTER, is_open=is_open)
    assert crop_in(tmp_path, EBML + segment) == WANTED
    assert crop_in(tmp_path, EBML + element("18538067", tracks(PLAIN), is_open=is_open)) is None


def test_the_video_track_of_that_number_counts(tmp_path: Path) -> None:
    sound, nameless = track(kind=2, codec="A_OPUS", left=9), track(codec="", left=9)
    content = EBML + element("18538067", tracks(sound, nameless, PLAIN, sound, CUT))
    assert crop_in(tmp_path, content, 0) is None
    assert crop_in(tmp_path, content, 1) == WANTED
    assert crop_in(tmp_path, content, 2) is None


def test_a_header_behind_the_images_is_found_by_the_seek_head(tmp_path: Path) -> None:
    place = len(element("114d9b74", seek(0))) + len(CLUSTER)
    content = element("114d9b74", seek(place)) + CLUSTER + tracks(CUT)
    assert crop_in(tmp_path, EBML + element("18538067", content)) == WANTED
    astray = element("114d9b74", seek(1 << 40)) + CLUSTER + tracks(CUT)
    assert crop_in(tmp_path, EBML + element("18538067", astray)) is None


def seek(place: int) -> bytes:
    return element("4dbb", element("53ab", bytes.fromhex("1654ae6b")) + number("53ac", place, 8))


def test_no_content_makes_it_fail(tmp_path: Path) -> None:
    whole = EBML + element("18538067", element("114d9b74", seek(99)) + tracks(PLAIN, CUT) + CLUSTER)
    for seed in range(500):
        rng = random.Random(seed)
        data = bytearray(whole)
        for _ in range(rng.randrange(1, 8)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        crop_in(tmp_path, bytes(data[: rng.randrange(len(data) + 1)]), rng.randrange(3))
    for data in (b"", b"\x1a", EBML, b"\0" * 100, b"\xff" * 100):
        assert crop_in(tmp_path, data) is None
