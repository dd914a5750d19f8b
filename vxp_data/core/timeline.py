"""Every frame's time as one short text, exact to the bit.

A video's timestamps are whole numbers of ticks, at a constant rate nearly always equally far apart:
their differences pack into a hundredth of a character a frame.

Shapes: N frames of a video in presentation order.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from typing import Final

import numpy as np
from numpy.typing import NDArray

_SEPARATOR: Final = ":"


def frame_times(tick_N: NDArray[np.int64], tick_s: float) -> NDArray[np.float64]:
    """Convert timestamps to seconds since the first frame: (tick - first tick) * tick_s.

    The one place where times are made, so that those of a probe and of a stored timeline are equal
    to the bit.

    Args:
        tick_N: int64, timestamps in presentation order; N >= 1.
        tick_s: what a tick lasts, seconds.
    """
    time_s_N: NDArray[np.float64] = (tick_N - tick_N[0]) * tick_s
    return time_s_N


def pack_timeline(tick_N: NDArray[np.int64], tick_s: float) -> str:
    """Write a timeline as ASCII text.

    Args:
        tick_N: int64, timestamps in presentation order, never decreasing; N >= 1.
        tick_s: what a tick lasts, seconds.

    Returns:
        '<tick_s, decimal>:<text>', where text is base64 of a zlib stream of the N - 1 differences
        between neighbours, little-endian int64.
    """
    gap_bytes = np.diff(tick_N).astype("<i8").tobytes()
    return f"{tick_s!r}{_SEPARATOR}{base64.b64encode(zlib.compress(gap_bytes)).decode('ascii')}"


def unpack_timeline(text: str) -> NDArray[np.float64]:
    """Read what `pack_timeline` wrote.

    Returns:
        time_s: float64 [N], seconds since the first frame: `frame_times` of the same ticks.

    Raises:
        ValueError: the text is not a timeline.
    """
    tick_s, _, packed = text.partition(_SEPARATOR)
    try:
        gap_bytes = zlib.decompress(base64.b64decode(packed, validate=True))
        gap_N = np.frombuffer(gap_bytes, dtype="<i8")
        tick_N = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(gap_N, dtype=np.int64)])
        return frame_times(tick_N, float(tick_s))
    except (ValueError, binascii.Error, zlib.error) as error:
        raise ValueError(f"not a timeline: {text[:40]!r} ({error})") from error
