"""Which of several clips that show the same stays: groups without chaining.

Shapes: C clips, ordered by preference (see `representative_order`); P pairs of compared clips.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipRank:
    """What decides which of two clips that show the same is kept."""

    num_pixels: int
    """Of an image, as displayed."""
    duration_s: float
    num_rows: int
    """Samples about it."""
    media_id: str
    clip_start_s: float
    clip_end_s: float


def representative_order(clips: Sequence[ClipRank]) -> list[int]:
    """Order clips by who is kept: more pixels, longer, more rows; then by content.

    The order in which clips come does not matter, as long as their contents are different.
    """
    return sorted(
        range(len(clips)),
        key=lambda index: (
            -clips[index].num_pixels,
            -clips[index].duration_s,
            -clips[index].num_rows,
            clips[index].media_id,
            clips[index].clip_start_s,
            clips[index].clip_end_s,
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SamePairs:
    """Pairs of clips that show the same where they lie upon each other."""

    first_P: NDArray[np.int64]
    """Indices in the clips' order."""
    second_P: NDArray[np.int64]
    preference_P: NDArray[np.float64]
    """How well they fit together: of several clips that may stand for one, the greatest does."""
    first_covers_P: NDArray[np.bool_]
    """The second lies inside the first."""
    second_covers_P: NDArray[np.bool_]
    """The first lies inside the second."""

    def __len__(self) -> int:
        return len(self.first_P)


def choose_representatives(
    pairs: SamePairs, duration_s_C: NDArray[np.float64], num_rows_C: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Decide which clips stay and which is a duplicate of which.

    A clip is a duplicate of a clip that stays and covers it; of several, the one that fits best.
    Clips are decided in their order of preference, those that lie inside a longer one after all
    others, longest first: what contains more is never the duplicate. Each duplicate has a pair of
    its own with its representative: a is like b and b like c says nothing of a and c.

    Args:
        pairs: compared and found to be the same, in any order.
        duration_s_C: of the clips, in their order of preference.
        num_rows_C: samples about each; a clip without any takes no part.

    Returns:
        representative_C: index of each clip's representative; its own where it stays, -1 without
            rows.
    """
    covered_by: dict[int, list[tuple[float, int]]] = {}
    mutual_P = pairs.first_covers_P & pairs.second_covers_P
    inside: set[int] = set()
    for big_P, small_P, covers_P in (
        (pairs.first_P, pairs.second_P, pairs.first_covers_P),
        (pairs.second_P, pairs.first_P, pairs.second_covers_P),
    ):
        for pair in np.flatnonzero(covers_P).tolist():
            big, small = int(big_P[pair]), int(small_P[pair])
            if not (num_rows_C[big] and num_rows_C[small]):
                continue
            covered_by.setdefault(small, []).append((-float(pairs.preference_P[pair]), big))
            if not mutual_P[pair]:
                inside.add(small)
    num_clips = len(duration_s_C)
    representative_C = np.full(num_clips, -1, dtype=np.int64)
    whole = (clip for clip in range(num_clips) if clip not in inside)
    for clip in (*whole, *sorted(inside, key=lambda clip: (-duration_s_C[clip], clip))):
        if num_rows_C[clip]:
            stay = [
                (dislike, k) for dislike, k in covered_by.get(clip, ()) if representative_C[k] == k
            ]
            representative_C[clip] = min(stay)[1] if stay else clip
    return representative_C
