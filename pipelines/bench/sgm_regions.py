"""What is known of the tokens of sgm.py's clips: which change, which stand out.

Shape suffixes: N clips, T frames of a clip, K tokens of a frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sgm_clips import Clip

Bools = NDArray[np.bool_]
REGIONS: Final = ("all", "moving", "still", "standing")
COVERED: Final = 0.25
"""A token is of a patch that covers this much of it."""


def changes(clip: Clip) -> Bools:
    """Return which tokens a moving patch touches now or touched a frame before: [T, K].

    In the first frame, that has none before it, the one after counts.
    """
    touched_TK = clip.cover_TN > 0
    beside_TK = np.concatenate([touched_TK[1:2], touched_TK[:-1]])
    changes_TK: Bools = (touched_TK | beside_TK) & (clip.motion != "still")
    return changes_TK


def regions(clip: Clip) -> dict[str, Bools]:
    """Return each region of REGIONS, bool [T, K].

    `moving`: of the patch, where it moves. `standing`: of a bright patch that stands still: the
    decoy, or without one the patch itself in clips in which it does not move. `still`: no patch is
    there, nor was a frame before.
    """
    covered_TK = clip.cover_TN >= COVERED
    moves = clip.motion != "still"
    has_decoy = bool(clip.decoy_TN.any())
    patch_stands_TK = covered_TK & (not moves and not has_decoy)
    return {
        "all": np.ones_like(covered_TK),
        "moving": covered_TK & moves,
        "still": (clip.cover_TN == 0) & ~changes(clip) & (clip.decoy_TN == 0),
        "standing": (clip.decoy_TN >= COVERED) | patch_stands_TK,
    }


def stacked(clips: Sequence[Clip]) -> dict[str, Bools]:
    """Return the regions of many clips: bool [N, T, K] by name."""
    every = [regions(clip) for clip in clips]
    return {name: np.stack([own[name] for own in every]) for name in REGIONS}


def auc(scores_FK: NDArray[np.float32], over_FK: Bools, under_FK: Bools) -> float:
    """Return how often a token of one region scores above one of another in its frame.

    Args:
        scores_FK: of frames.
        over_FK: the region that 1 is for.
        under_FK: the region that 0 is for.

    Returns:
        share: mean over the frames that have both; ties count half.
    """
    shares = []
    for score_K, over_K, under_K in zip(scores_FK, over_FK, under_FK, strict=True):
        if over_K.any() and under_K.any():
            gap = score_K[over_K][:, None] - score_K[under_K][None]
            shares.append(float(((gap > 0) + 0.5 * (gap == 0)).mean()))
    return float(np.mean(shares))
