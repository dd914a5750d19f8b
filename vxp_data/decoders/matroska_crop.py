"""The edges that a Matroska file leaves out of its pictures, from its header."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import BinaryIO, Final

_EBML: Final = 0x1A45DFA3
_SEGMENT: Final = 0x18538067
_SEEK_HEAD: Final = 0x114D9B74
_SEEK: Final = 0x4DBB
_SEEK_ID: Final = 0x53AB
_SEEK_POSITION: Final = 0x53AC
_CLUSTER: Final = 0x1F43B675
_TRACKS: Final = 0x1654AE6B
_TRACK_ENTRY: Final = 0xAE
_TRACK_TYPE: Final = 0x83
_CODEC_ID: Final = 0x86
_VIDEO: Final = 0xE0
_EDGES: Final = {0x54CC: "left_px", 0x54BB: "top_px", 0x54DD: "right_px", 0x54AA: "bottom_px"}
_IS_VIDEO: Final = 1

_MOST_ELEMENTS: Final = 4096
"""Read of one parent: a header has some dozens."""
_MOST_TRACKS_BYTES: Final = 16 << 20
"""Codecs keep their own headers there."""


def matroska_edges(file: BinaryIO, number: int) -> dict[str, int]:
    """Read the cropping of a video track: pixels by the names that `crop.Crop` has.

    Args:
        file: a Matroska or WebM file.
        number: of the track among the video tracks of the header, from 0.

    Returns:
        Nothing where there is no such track.
    """
    num_bytes = file.seek(0, 2)
    tracks = _tracks(file, num_bytes)
    videos = [video for start, stop in tracks for video in _videos(file, start, stop)]
    return videos[number] if number < len(videos) else {}


def _tracks(file: BinaryIO, num_bytes: int) -> list[tuple[int, int]]:
    """Find the element that lists the tracks, before the first cluster or where it is said to be.

    Returns:
        Its content as a byte range [start, stop), or nothing.
    """
    top = {ident: (start, stop) for ident, start, stop in _elements(file, 0, num_bytes, {_SEGMENT})}
    if _EBML not in top or _SEGMENT not in top:
        return []
    segment, end = top[_SEGMENT]
    said: list[int] = []
    for ident, start, stop in _elements(file, segment, end, {_TRACKS, _CLUSTER}):
        if ident == _TRACKS:
            return [(start, stop)]
        if ident == _SEEK_HEAD:
            said += [segment + at for at in _tracks_position(file, start, stop)]
    found = [next(_elements(file, at, end), (0, 0, 0)) for at in said]
    return [(start, stop) for ident, start, stop in found if ident == _TRACKS][:1]


def _tracks_position(file: BinaryIO, start: int, stop: int) -> Iterator[int]:
    """Return where a seek head says that the tracks are, bytes from the segment's start."""
    for ident, seek_start, seek_stop in _elements(file, start, stop):
        if ident == _SEEK:
            fields = _numbers(file, seek_start, seek_stop)
            if fields.get(_SEEK_ID) == _TRACKS:
                yield fields.get(_SEEK_POSITION, 0)


def _videos(file: BinaryIO, start: int, stop: int) -> Iterator[dict[str, int]]:
    """Return the cropping of each track that is a video stream to FFmpeg, in the file's order."""
    if stop - start > _MOST_TRACKS_BYTES:
        return
    for ident, entry_start, entry_stop in _elements(file, start, stop):
        if ident != _TRACK_ENTRY:
            continue
        parts = {
            ident: (first, last) for ident, first, last in _elements(file, entry_start, entry_stop)
        }
        fields = _numbers(file, entry_start, entry_stop)
        if fields.get(_TRACK_TYPE) == _IS_VIDEO and _CODEC_ID in parts:
            edges = _numbers(file, *parts[_VIDEO]) if _VIDEO in parts else {}
            yield {name: edges.get(ident, 0) for ident, name in _EDGES.items()}


def _numbers(file: BinaryIO, start: int, stop: int) -> dict[int, int]:
    """Read the children of an element that are no longer than a number."""
    found = {}
    for ident, first, last in _elements(file, start, stop):
        if last - first <= 8:
            file.seek(first)
            found[ident] = int.from_bytes(file.read(last - first), "big")
    return found


def _elements(
    file: BinaryIO, start: int, stop: int, last: Collection[int] = ()
) -> Iterator[tuple[int, int, int]]:
    """Walk the elements in [start, stop) of a file, up to the first of `last`, if any.

    Yields:
        An element's number with its length marker, and its content as a range [start, stop).
    """
    at = start
    for _ in range(_MOST_ELEMENTS):
        if at >= stop:
            return
        file.seek(at)
        head = file.read(12)
        id_bytes = 9 - head[0].bit_length() if head else 9
        if id_bytes > 4 or len(head) <= id_bytes:
            return
        size_bytes = 9 - head[id_bytes].bit_length()
        if size_bytes > 8 or len(head) < id_bytes + size_bytes:
            return
        ident = int.from_bytes(head[:id_bytes], "big")
        data_bits = 7 * size_bytes
        size = int.from_bytes(head[id_bytes : id_bytes + size_bytes], "big") & (1 << data_bits) - 1
        content = at + id_bytes + size_bytes
        if content > stop:
            return
        is_open = size == (1 << data_bits) - 1  # a live recording: to the end of its parent
        at = stop if is_open else min(content + size, stop)
        yield ident, content, at
        if ident in last:
            return
