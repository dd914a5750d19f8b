"""The same video twice, told from its frames: whether two clips match, and which of them stays.

Shapes: F frames of one clip, G frames of another, D embedding width, W windows, C clips, O offsets.

Two clips match where the frames that lie at the same moment look the same. The moment is found by
shifting one clip against the other, at constant speed, so that order counts: a clip that shows the
same images in another order does not match. A clip may lie inside a longer one. How short it may
be follows from the frames that there are: of 20 uniform frames, MIN_MATCHED lie in a part of about
a sixth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vxp_data.core.similarity import MEAN_PAIRWISE

MIN_MATCHED: Final = 3
"""Frames of the longer clip that must lie within the shorter one; fewer are no evidence."""
MIN_COVERED: Final = 0.9
"""Share of a clip's duration that must lie inside another, for it to be a duplicate of that."""
FULL_EVIDENCE: Final = 10
"""Frames compared from which on they are all the evidence there need be; with half as many, half
the contrast is allowed: a few dark frames are found in many a film."""
NOISE: Final = 0.001
"""What coding alone may change of a cosine, where nothing moves."""
_MAX_OFFSETS: Final = 48
"""Offsets tried a pair, those of the most similar pairs of frames."""
_NORM_GRID: Final = 2.0**26
_WINDOW_FRAMES: Final = (10, 5)
"""Lengths of the windows whose means find a clip inside a longer one."""
_WINDOW_STEPS: Final = 2
"""Windows of a length begin this often in it: 5 and 2 frames apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipTimes:
    """When the frames of a clip lie."""

    time_s_F: NDArray[np.float64]
    """Since the clip's start, ascending."""
    duration_s: float
    """Of the clip."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """How well two clips fit together where they fit best."""

    agreement: float
    """Mean cosine of frames at the same moment, in [-1, 1]; -1 where fewer than MIN_MATCHED are."""
    offset_s: float
    """Where the second clip begins in the first, seconds; negative: the first begins in it."""
    num_matched: int
    """Frames of the longer clip that lie within the shorter one."""
    first_covered: float
    """Share of the first clip that lies inside the second, in [0, 1]."""
    second_covered: float
    """Share of the second clip that lies inside the first, in [0, 1]."""

    def turned(self) -> Match:
        """Return the same fit with the clips in the other order."""
        return Match(
            agreement=self.agreement,
            offset_s=-self.offset_s,
            num_matched=self.num_matched,
            first_covered=self.second_covered,
            second_covered=self.first_covered,
        )

    def is_same(self, *, own: float, threshold: float, contrast: float) -> bool:
        """Whether the two show the same where they lie upon each other.

        Args:
            own: mean cosine among the frames of the more static of the two; see `own_likeness`.
            threshold: least agreement.
            contrast: how unlike the two may be, as a share of how unlike the frames of either are
                among themselves. Two people before the same wall are as unlike as one of them is
                over time (1); a copy is nearly the same (0).
        """
        allowed = contrast * min(1.0, self.num_matched / FULL_EVIDENCE)
        unlike = 1.0 - self.agreement
        return self.agreement >= threshold and unlike <= allowed * (1.0 - own) + NOISE


NO_MATCH: Final = Match(
    agreement=-1.0, offset_s=0.0, num_matched=0, first_covered=0.0, second_covered=0.0
)


def match_clips(cosine_FG: NDArray[np.float64], first: ClipTimes, second: ClipTimes) -> Match:
    """Fit two clips together: the shift in time at which their frames agree most.

    Each frame of the longer clip is compared with the two frames of the shorter one between which
    it falls, and the better one counts. Shifts that leave more than 1 - MIN_COVERED of the shorter
    clip outside are not tried. Where the durations differ by less than that, the two are also
    compared with one of them stretched to the other's duration.

    Args:
        cosine_FG: cosines between the frames of the first and the second clip.
        first: times of the first clip's F frames.
        second: times of the second clip's G frames.

    Returns:
        The best fit; of those that agree as well to within NOISE, the one with most frames.
    """
    if second.duration_s > first.duration_s:
        # Only the shorter clip's shifts within the longer one are written down here.
        return match_clips(cosine_FG.T, second, first).turned()
    if second.duration_s <= 0 or cosine_FG.shape[0] < MIN_MATCHED or cosine_FG.shape[1] < 2:
        return NO_MATCH
    offset_s_O = _offsets(cosine_FG, first, second)
    time_s_OF = first.time_s_F[None, :] - offset_s_O[:, None]
    if second.duration_s >= MIN_COVERED * first.duration_s:
        # Such as a film played at 25 instead of 24 frames a second: 4 % shorter, all of it there.
        stretched_s_F = first.time_s_F * (second.duration_s / first.duration_s)
        time_s_OF = np.concatenate([stretched_s_F[None, :], time_s_OF])
        offset_s_O = np.concatenate([[0.0], offset_s_O])
    agreement_O, num_O = _agreements(cosine_FG, time_s_OF, second)
    # Of fits that are as good but for noise, the one with most frames.
    is_best_O = agreement_O >= agreement_O.max() - NOISE
    best = int(np.argmax(np.where(is_best_O, num_O, -1)))
    if num_O[best] < MIN_MATCHED:
        return NO_MATCH
    offset_s = float(offset_s_O[best])
    overlap_s = min(offset_s + second.duration_s, first.duration_s) - max(offset_s, 0.0)
    return Match(
        agreement=float(agreement_O[best]),
        offset_s=offset_s,
        num_matched=int(num_O[best]),
        first_covered=min(1.0, overlap_s / first.duration_s),
        second_covered=min(1.0, overlap_s / second.duration_s),
    )


def own_likeness(
    match: Match,
    first_FD: NDArray[np.floating[Any]],
    second_GD: NDArray[np.floating[Any]],
    first: ClipTimes,
    second: ClipTimes,
) -> float:
    """Return how alike the frames of the more static of two clips are: their mean cosine.

    Of the longer clip the frames within the shorter one: a film that is dark for as long as a
    shorter one is like that in nothing but darkness, however much happens in the rest of it.

    Args:
        match: of the two.
        first_FD: frames of the first, unit rows.
        second_GD: of the second.
        first: their times.
        second: likewise.
    """
    if second.duration_s > first.duration_s:
        return own_likeness(match.turned(), second_GD, first_FD, second, first)
    at_s_F = first.time_s_F - match.offset_s
    within_HD = first_FD[(at_s_F >= 0) & (at_s_F < second.duration_s)]
    likeness = [
        float(MEAN_PAIRWISE.compute(emb_FD[None])[0])
        for emb_FD in (within_HD, second_GD)
        if len(emb_FD) > 1
    ]
    return max(likeness, default=1.0)


def _offsets(
    cosine_FG: NDArray[np.float64], first: ClipTimes, second: ClipTimes
) -> NDArray[np.float64]:
    """Return the shifts to try: equal starts, equal ends, and those of the most similar frames."""
    out_s = (1 - MIN_COVERED) * second.duration_s
    spare_s = first.duration_s - second.duration_s
    offset_s_P = (first.time_s_F[:, None] - second.time_s_F[None, :]).ravel()
    allowed_P = (offset_s_P >= -out_s) & (offset_s_P <= spare_s + out_s)
    order_P = np.argsort(-cosine_FG.ravel()[allowed_P], kind="stable")[:_MAX_OFFSETS]
    return np.concatenate([[0.0, spare_s], offset_s_P[allowed_P][order_P]])


def _agreements(
    cosine_FG: NDArray[np.float64], time_s_OF: NDArray[np.float64], second: ClipTimes
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return, for each shift, the mean cosine and the number of frames that lie in both clips."""
    num_F, num_G = cosine_FG.shape
    inside_OF = (time_s_OF >= 0) & (time_s_OF < second.duration_s)
    later_OF = np.searchsorted(second.time_s_F, time_s_OF)
    earlier_OF = np.clip(later_OF - 1, 0, num_G - 1)
    # Before the shorter clip's first frame or behind its last, that one is compared twice.
    later_OF = np.clip(later_OF, 0, num_G - 1)
    frame_F = np.arange(num_F)
    nearest_OF = np.maximum(cosine_FG[frame_F, earlier_OF], cosine_FG[frame_F, later_OF])
    num_O = inside_OF.sum(axis=1)
    sum_O = np.where(inside_OF, nearest_OF, 0.0).sum(axis=1)
    enough_O = num_O >= MIN_MATCHED
    agreement_O = np.where(enough_O, sum_O / np.maximum(num_O, 1), -1.0)
    return agreement_O, num_O


def clip_mean(emb_FD: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Return the normalised mean of a clip's frames, float32 [D]; zero where they cancel out."""
    mean_D = emb_FD.astype(np.float64).mean(axis=0)
    # Whole numbers whose squares float64 adds exactly: the same norm on every CPU.
    whole_D = np.rint(mean_D * _NORM_GRID)
    norm = np.sqrt((whole_D * whole_D).sum()) / _NORM_GRID
    # A zero row has the cosine 0 with all others: it finds no candidate, where NaN would spread.
    unit_D: NDArray[np.float32] = (mean_D / norm if norm else mean_D).astype(np.float32)
    return unit_D


def window_means(emb_FD: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Return the normalised means of parts of a clip, float32 [W, D]: near a clip inside it.

    Parts of 10 and of 5 frames, each length beginning twice in itself; W = 3 + 8 for 20 frames, 0
    for fewer than 6.
    """
    num_frames = len(emb_FD)
    parts = [
        emb_FD[start : start + length]
        for length in _WINDOW_FRAMES
        if length < num_frames
        for start in range(0, num_frames - length + 1, length // _WINDOW_STEPS)
    ]
    means = [clip_mean(part) for part in parts]
    return np.stack(means) if means else np.zeros((0, emb_FD.shape[1]), dtype=np.float32)
