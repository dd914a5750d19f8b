"""Where an MP4 or QuickTime file keeps its header, told from its top-level boxes alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from vxp_data.decoders.mp4_box import BOX_HEAD_BYTES, box_at

_FIRST_BOXES: Final = frozenset({b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot"})
_PAYLOAD: Final = frozenset({b"mdat", b"free", b"skip", b"wide"})
_FRAGMENTS: Final = frozenset({b"moof", b"mfra", b"styp"})
_MOST_BOXES: Final = 64
_MOST_HEADER_BYTES: Final = 256 << 20
"""Four days of video have 100 MB of header."""


def header_ranges(
    read: Callable[[int, int], bytes], num_bytes: int
) -> list[tuple[int, int]] | None:
    """Find all that is not images and sound: what must be there for the file to be opened.

    Args:
        read: gives the bytes [start, stop) of the file.
        num_bytes: the file's length.

    Returns:
        Byte ranges [start, stop) of the boxes; None where the file is no MP4 with one index of all
        its frames (fragmented, cut short, odd), so that it has to be fetched whole.
    """
    ranges: list[tuple[int, int]] = []
    kinds: set[bytes] = set()
    at = 0
    for number in range(_MOST_BOXES):
        if at == num_bytes:
            return ranges if {b"moov", b"mdat"} <= kinds else None
        box = box_at(at, read(at, min(at + BOX_HEAD_BYTES, num_bytes)), num_bytes)
        if box is None or box.stop > num_bytes or box.kind in _FRAGMENTS:
            return None
        if number == 0 and box.kind not in _FIRST_BOXES:
            return None
        kinds.add(box.kind)
        ranges.append((at, at + BOX_HEAD_BYTES if box.kind in _PAYLOAD else box.stop))
        at = box.stop
        if sum(stop - start for start, stop in ranges) > _MOST_HEADER_BYTES:
            return None
    return None
