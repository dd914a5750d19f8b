"""Frame sampling: which frames of a video are decoded for scoring.

Shapes: N frames of a video in presentation order, F frames wanted, K key frames.

Times are seconds since the first presented frame, never decreasing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from vxp_data.errors import unknown_name

FrameSampler = Callable[[int, int], NDArray[np.int64]]
"""(num_available, num_frames) -> indices in [0, num_available), strictly increasing; min of the two
many. What registry.FRAME_SAMPLERS holds."""

TIME_TOLERANCE_S: Final = 1e-6
"""Times nearer than this are equal: a time is a whole number of ticks times an inexact float."""

SELECTION_VERSION: Final = 2
"""Counts up when other frames of a video are selected than before, by the same settings: then what
is embedded is embedded anew. How it is stored is another version, `schemas.RUN_FORMAT_VERSION`.

1: a clip had the frames that begin in it. 2: those that are on screen in it, `frames_shown`."""

Seek = Literal["exact", "keyframe", "auto"]
SEEKS: Final[tuple[str, ...]] = get_args(Seek)


def uniform(num_available: int, num_frames: int) -> NDArray[np.int64]:
    """Take frames at equal distances, first and last included: round(linspace(0, N-1, F)).

    Halves are rounded to the even index, as np.round does. Fewer frames than wanted: all of them.
    One frame wanted: the first.

    Args:
        num_available: frames the video has, N >= 0.
        num_frames: frames wanted, F >= 1.

    Returns:
        index: int64 [min(N, F)], strictly increasing.

    Raises:
        ValueError: an argument is out of range.

    Source:
        The LLaVA family; its versions that cast linspace to int without rounding cut down instead.
    """
    _check_counts(num_available, num_frames)
    if num_available <= num_frames:
        return np.arange(num_available, dtype=np.int64)
    return np.round(np.linspace(0, num_available - 1, num_frames)).astype(np.int64)


def midpoint(num_available: int, num_frames: int) -> NDArray[np.int64]:
    """Take the middle of each of F equal parts of the video: floor((i + 1/2) * N / F).

    Never the black first or last frame of a long video. Arguments, result and errors as `uniform`;
    one frame wanted: the middle one.
    """
    _check_counts(num_available, num_frames)
    if num_available <= num_frames:
        return np.arange(num_available, dtype=np.int64)
    odd_F = 2 * np.arange(num_frames, dtype=np.int64) + 1
    return odd_F * num_available // (2 * num_frames)  # whole numbers: no rounding to think about


def plan_indices(
    time_s_N: NDArray[np.float64],
    is_key_N: NDArray[np.bool_],
    *,
    sampler: FrameSampler,
    num_frames: int,
    seek: Seek,
) -> NDArray[np.int64]:
    """Choose the frames to decode.

    Args:
        time_s_N: float64, presentation time of every frame, seconds, never decreasing.
        is_key_N: bool, which frames are key frames.
        sampler: gives the targets; one of registry.FRAME_SAMPLERS.
        num_frames: frames wanted, F >= 1.
        seek: 'exact': the targets themselves. 'keyframe': the key frame nearest to each, several
            times cheaper to decode, maybe fewer frames. 'auto': key frames where they are as many
            as the targets and none is further from its target than half the targets' spacing
            (time from first to last frame, over the number of targets), else exact. A video
            without key frames: exact, always.

    Returns:
        index: int64, strictly increasing, at most F; empty for a video without frames.

    Raises:
        UserError: unknown `seek`.
        ValueError: lengths differ, or time goes backwards or is NaN.
    """
    if seek not in SEEKS:
        raise unknown_name("seek", seek, SEEKS)
    _check_timeline(time_s_N, is_key_N)
    exact_F = sampler(len(time_s_N), num_frames)
    if seek == "exact" or not is_key_N.any():
        return exact_F
    key_F = _nearest_key(exact_F, time_s_N, is_key_N)
    planned = np.unique(key_F)
    if seek == "auto":
        half_spacing_s = (time_s_N[-1] - time_s_N[0]) / len(exact_F) / 2
        away_s_F = np.abs(time_s_N[key_F] - time_s_N[exact_F])
        if len(planned) < len(exact_F) or (away_s_F > half_spacing_s).any():
            return exact_F
    return planned


def frames_shown(
    time_s_N: NDArray[np.float64], duration_s: float, start_s: float, end_s: float
) -> slice:
    """Find the frames of a clip: those on screen at some moment of it.

    A frame is on screen from its own time until the next frame's, the last one until the end of
    the video. So the first frame of a clip may have begun before it, and two clips that meet in
    between may share one frame; where they meet at a frame's time, they share none.

    Args:
        time_s_N: float64, presentation time of every frame, seconds, never decreasing.
        duration_s: of the video, seconds; the last frame is shown until then.
        start_s: start of the clip, seconds, included.
        end_s: end of the clip, seconds, excluded; infinity for the video's end.

    Returns:
        Slice of the frames, with start <= stop; empty if the clip holds no moment of the video.

    Raises:
        ValueError: start_s > end_s, or time goes backwards or is NaN.

    Source:
        torchcodec's `get_frames_played_in_range`.
    """
    _check_clip(time_s_N, start_s, end_s)
    num_frames = len(time_s_N)
    if num_frames == 0 or end_s - start_s <= 0:
        return slice(0, 0)
    last_s = float(time_s_N[-1])
    if start_s > last_s + TIME_TOLERANCE_S and start_s >= duration_s - TIME_TOLERANCE_S:
        return slice(num_frames, num_frames)
    if end_s <= time_s_N[0] + TIME_TOLERANCE_S:
        return slice(0, 0)
    shown = int(np.searchsorted(time_s_N, start_s + TIME_TOLERANCE_S, side="right")) - 1
    # Of several frames with that very time, all belong to the clip: else no clip had the others.
    start = int(np.searchsorted(time_s_N, time_s_N[max(shown, 0)], side="left"))
    stop = int(np.searchsorted(time_s_N, end_s - TIME_TOLERANCE_S, side="left"))
    return slice(start, max(stop, start + 1))


def frames_beginning(time_s_N: NDArray[np.float64], start_s: float, end_s: float) -> slice:
    """Find the frames that begin in a clip, start_s <= time < end_s: SELECTION_VERSION 1.

    Arguments, result and errors as `frames_shown`.
    """
    _check_clip(time_s_N, start_s, end_s)
    start, stop = np.searchsorted(time_s_N, [start_s, end_s], side="left")
    return slice(int(start), int(stop))


def _nearest_key(
    index_F: NDArray[np.int64], time_s_N: NDArray[np.float64], is_key_N: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Return the key frame nearest in time to each target; the earlier of two equally near.

    In the targets' order, repeats included; there is at least one key frame.
    """
    key_K = np.flatnonzero(is_key_N)
    time_s_K, target_s_F = time_s_N[key_K], time_s_N[index_F]
    after_F = np.minimum(np.searchsorted(time_s_K, target_s_F), len(key_K) - 1)
    before_F = np.maximum(after_F - 1, 0)
    earlier_F = target_s_F - time_s_K[before_F] <= np.abs(time_s_K[after_F] - target_s_F)
    return key_K[np.where(earlier_F, before_F, after_F)].astype(np.int64)


def _check_counts(num_available: int, num_frames: int) -> None:
    if num_available < 0:
        raise ValueError(f"num_available must be 0 or more, got {num_available}")
    if num_frames < 1:
        raise ValueError(f"num_frames must be 1 or more, got {num_frames}")


def _check_clip(time_s_N: NDArray[np.float64], start_s: float, end_s: float) -> None:
    _check_timeline(time_s_N)
    if not start_s <= end_s:
        raise ValueError(f"a clip must have start_s <= end_s, got [{start_s}, {end_s})")


def _check_timeline(
    time_s_N: NDArray[np.float64], is_key_N: NDArray[np.bool_] | None = None
) -> None:
    if is_key_N is not None and len(is_key_N) != len(time_s_N):
        raise ValueError(f"got {len(time_s_N)} times and {len(is_key_N)} key frame flags")
    if not (ok_N := np.diff(time_s_N, prepend=-np.inf) >= 0).all():  # NaN compares false
        bad = int(ok_N.argmin())
        raise ValueError(
            f"time_s_N must never decrease; frame {bad} of {len(time_s_N)} is at {time_s_N[bad]} s "
            f"after {time_s_N[max(bad - 1, 0)]} s"
        )
