"""Timestamps that are wrong here and there, made into times that rise from frame to frame.

Pure functions. Shapes: P packets in file order, N frames in the order in which they are shown.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

NO_STAMP: Final = int(np.iinfo(np.int64).min)
"""What FFmpeg has for a timestamp that is not there."""

_MOST_SCALE: Final = 1 << 20
"""So many frames in one tick at most: beyond, it is not a time that went wrong here and there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RisingStamps:
    """Timestamps of which each is later than the one before."""

    stamp_N: NDArray[np.int64]
    scale: int
    """How many of its ticks make one of those given."""
    num_moved: int
    """Frames whose own timestamp was missing or out of line."""


def rising(stamp_N: NDArray[np.int64], gap: int) -> RisingStamps | None:
    """Keep as many timestamps as rise, and put those of other frames evenly between neighbours'.

    Frames are not put in another order. Where a tick is too long for what comes between, all are
    counted in shorter ones.

    Args:
        stamp_N: int64, in the order of the frames; NO_STAMP where there is none.
        gap: ticks from one frame to the next at the ends, where there is no neighbour to one side.

    Returns:
        None where less than half of them rise: they are no times then.
    """
    kept_K = _longest_rise(stamp_N)
    num_moved = len(stamp_N) - len(kept_K)
    if num_moved > len(kept_K):
        return None
    place_K, kept_stamp_K = kept_K, stamp_N[kept_K]
    ends = np.array([-1, len(stamp_N)])
    left = kept_stamp_K[0] - gap * (kept_K[0] + 1)
    right = kept_stamp_K[-1] + gap * (len(stamp_N) - kept_K[-1])
    place_K = np.concatenate([ends[:1], place_K, ends[1:]])
    kept_stamp_K = np.concatenate([[left], kept_stamp_K, [right]])
    steps_K, ticks_K = np.diff(place_K), np.diff(kept_stamp_K)
    scale = int(np.max(-(-steps_K // np.maximum(ticks_K, 1))))
    if scale > _MOST_SCALE:
        return None
    base_N = np.repeat(np.arange(len(steps_K)), steps_K)[1:]
    step_N = np.arange(len(stamp_N)) - place_K[base_N]
    # In whole numbers: a float has not room for the ticks of some files.
    risen_N = kept_stamp_K[base_N] * scale + step_N * (ticks_K * scale)[base_N] // steps_K[base_N]
    return RisingStamps(stamp_N=risen_N.astype(np.int64), scale=scale, num_moved=num_moved)


def _longest_rise(stamp_N: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the indices of the longest strictly rising series, NO_STAMP left out.

    A single stamp that is far ahead then counts as wrong, and not all that come after it.
    """
    ends: list[int] = []  # the lowest stamp in which a series of each length ends
    end_index: list[int] = []
    before = np.full(len(stamp_N), -1, dtype=np.int64)
    for i, stamp in enumerate(stamp_N.tolist()):
        if stamp == NO_STAMP:
            continue
        at = bisect_left(ends, stamp)
        if at < len(ends) and ends[at] == stamp:
            continue  # of two that are equal, the first keeps its time
        before[i] = end_index[at - 1] if at else -1
        ends[at : at + 1], end_index[at : at + 1] = [stamp], [i]
    kept: list[int] = []
    i = end_index[-1] if end_index else -1
    while i >= 0:
        kept.append(i)
        i = int(before[i])
    return np.array(kept[::-1], dtype=np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockJumps:
    """Where the clock of a stream was set anew, and by how much."""

    offset_P: NDArray[np.int64]
    """What to take from each packet's timestamps."""
    num_jumps: int
    total_ticks: int
    """All jumps together, back or forward."""


def clock_jumps(dts_P: NDArray[np.int64], longest: int) -> ClockJumps | None:
    """Find steps back, and forward by more than `longest`: each is to be one frame's duration.

    Args:
        dts_P: int64, decoding timestamps; NO_STAMP where there is none.
        longest: ticks that two packets may lie apart.

    Returns:
        None where there is no such step.
    """
    there_K = np.flatnonzero(dts_P != NO_STAMP)
    step_K = np.diff(dts_P[there_K])
    is_jump_K = (step_K < 0) | (step_K > longest)
    if not is_jump_K.any():
        return None
    sound_K = step_K[~is_jump_K & (step_K > 0)]
    frame_ticks = int(np.median(sound_K)) if len(sound_K) else 1
    jump_K = np.where(is_jump_K, step_K - frame_ticks, 0)
    jump_P = np.zeros(len(dts_P), dtype=np.int64)
    jump_P[there_K[1:]] = jump_K
    return ClockJumps(
        offset_P=np.cumsum(jump_P),
        num_jumps=int(is_jump_K.sum()),
        total_ticks=int(np.abs(jump_K).sum()),
    )
