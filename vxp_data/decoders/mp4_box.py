"""The boxes of which an MP4 or QuickTime file is made, one at a time."""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

BOX_HEAD_BYTES: Final = 16
"""Of a box, at most."""


class Box(NamedTuple):
    """A box, by where it lies in the file."""

    kind: bytes
    content: int
    """Where its head ends."""
    stop: int


def box_at(at: int, head: bytes, end: int) -> Box | None:
    """Read the head of a box; None where there is none.

    Args:
        at: where it begins.
        head: the file's bytes from there on, BOX_HEAD_BYTES of them or what is left.
        end: where its parent ends, or the file; a box without a size ends there.
    """
    if len(head) < 8:
        return None
    num_bytes, kind = struct.unpack(">I4s", head[:8])
    content = at + 8
    if num_bytes == 1 and len(head) == BOX_HEAD_BYTES:
        (num_bytes,) = struct.unpack(">Q", head[8:])
        content = at + BOX_HEAD_BYTES
    elif num_bytes == 0:
        num_bytes = end - at
    return None if num_bytes < content - at else Box(kind, content, at + num_bytes)
