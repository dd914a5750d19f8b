"""The edges that an MP4 or QuickTime file leaves out of its pictures: its 'clap' box."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from fractions import Fraction
from typing import BinaryIO, Final

from vxp_data.decoders.mp4_box import BOX_HEAD_BYTES, box_at

_MOST_BOXES: Final = 4096
"""Read of one parent; a header has some dozens."""
_TO_TABLE: Final = (b"mdia", b"minf", b"stbl", b"stsd")
_TABLE_HEAD_BYTES: Final = 8
_ENTRY_HEAD_BYTES: Final = 78
"""Of a picture's sample entry, before its own boxes; its size stands at 24."""

Range = tuple[int, int]
"""Bytes [start, stop)."""


def mp4_edges(file: BinaryIO, track: int) -> dict[str, int]:
    """Read the clean aperture of a track: pixels left out, by the names that `crop.Crop` has.

    Args:
        file: an MP4 or QuickTime file.
        track: the number that its header has.

    Returns:
        Nothing where there is no such track, or the aperture is no part of the picture.
    """
    for moov in _children(file, (0, file.seek(0, 2)), b"moov"):
        for trak in _children(file, moov, b"trak"):
            if track in _numbers(file, trak):
                return _aperture(file, trak)
        return {}
    return {}


def _numbers(file: BinaryIO, trak: Range) -> Iterator[int]:
    """Return the number in a track's header."""
    for start, _ in _children(file, trak, b"tkhd"):
        head = _read(file, start, 24)
        if len(head) == 24:
            yield struct.unpack_from(">I", head, 20 if head[0] == 1 else 12)[0]


def _aperture(file: BinaryIO, trak: Range) -> dict[str, int]:
    """Return the edges around the aperture in a track's first sample entry."""
    inner = trak
    for kind in _TO_TABLE:
        found = next(_children(file, inner, kind), None)
        if found is None:
            return {}
        inner = found
    entry = next(_children(file, (inner[0] + _TABLE_HEAD_BYTES, inner[1])), None)
    if entry is None or entry[1] - entry[0] < _ENTRY_HEAD_BYTES:
        return {}
    width_px, height_px = struct.unpack(">HH", _read(file, entry[0] + 24, 4))
    for start, stop in _children(file, (entry[0] + _ENTRY_HEAD_BYTES, entry[1]), b"clap"):
        fields = _read(file, start, min(32, stop - start))
        if len(fields) == 32:
            return _edges(struct.unpack(">IIIIiIiI", fields), width_px, height_px)
    return {}


def _edges(fields: tuple[int, ...], width_px: int, height_px: int) -> dict[str, int]:
    """Turn an aperture's size and the place of its middle into edges, as FFmpeg does."""
    if 0 in fields[1::2]:
        return {}
    shown_x, shown_y, off_x, off_y = (
        Fraction(over, under) for over, under in zip(fields[::2], fields[1::2], strict=True)
    )
    left, top = (width_px - shown_x) / 2 + off_x, (height_px - shown_y) / 2 + off_y
    edges = {
        "left_px": int(left),
        "top_px": int(top),
        "right_px": int(width_px - shown_x - left),
        "bottom_px": int(height_px - shown_y - top),
    }
    return {} if min(edges.values()) < 0 else edges


def _children(file: BinaryIO, within: Range, kind: bytes = b"") -> Iterator[Range]:
    """Return where the contents of boxes of a kind lie in a parent's; b'' for any kind."""
    at, stop = within
    for _ in range(_MOST_BOXES):
        box = box_at(at, _read(file, at, min(BOX_HEAD_BYTES, max(0, stop - at))), stop)
        if box is None or box.stop > stop:
            return
        if kind in (b"", box.kind):
            yield box.content, box.stop
        at = box.stop


def _read(file: BinaryIO, start: int, num_bytes: int) -> bytes:
    file.seek(start)
    return file.read(num_bytes)
