"""Redundancy measures: one number a video, from the cosines between its frames.

Shapes: V videos of the same number of frames, F frames of a video, D embedding width, P pairs of
frames.

Every measure is a function of the F x F matrix of cosines, which is all that a set of unit vectors
has when the choice of axes means nothing. So the matrix is computed once for all measures.

Same bits everywhere: components are put on a grid of 2**-26, scaled to whole numbers. A dot product
of two such rows, and every partial sum of it, is then a whole number below 2**53, which float64
holds exactly: order of summation, fused multiply-add, threads, CPU type and the grouping of videos
cannot change it. A float16 lies on that grid already, so nothing is lost; float32 rows move by at
most 2**-27 a component (a cosine by about 1e-8).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from vxp_data.records import Reason

NORM_TOLERANCE: Final = 1e-2
"""How far a row's norm may be from 1: embeddings are stored as float16, then normalised again."""

_GRID: Final = 2.0**26
BLOCK_VALUES: Final = 2**18
"""Embedding values worked on at once, 2 MB of float64: a block that stays in the CPU's cache."""

_Number = TypeVar("_Number", float, NDArray[np.float64])


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """How redundant the frames of a video are, as one number with a direction and a range."""

    name: str
    """Its name in registry.MEASURES and its column in scores.parquet."""

    redundant_when: Literal["high", "low"]
    """Which end of the range means that the frames repeat each other."""

    low: float
    """Least possible score."""

    high: float
    """Greatest possible score; infinity where only the number of frames bounds it."""

    one_frame: float
    """Score of a video of one frame: the redundant end."""

    of_cosines: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    """float64 [V, F, F] cosines, F >= 2, diagonal 1 -> float64 [V]; row v depends on matrix v only,
    to the bit."""

    reason: Reason = Reason.REDUNDANT
    """Why rows go that are beyond the threshold."""

    version: int = 1
    """Raised when scores change: those that a run has stored are worked out anew then."""

    def compute(self, emb_VFD: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Score videos that have the same number of frames.

        Args:
            emb_VFD: frame embeddings, any float dtype, rows of unit L2 norm within NORM_TOLERANCE.

        Returns:
            score_V: float64 in [low, high].

        Raises:
            ValueError: a row is not of unit norm, or there are no frames.
        """
        return score_videos(list(emb_VFD), [self])[self.name]

    def redundancy(self, score: _Number) -> _Number:
        """Orient scores so that higher always means more redundant."""
        return score if self.redundant_when == "high" else -score

    def own_units(self, redundancy: _Number) -> _Number:
        """Undo `redundancy`: give scores or thresholds in the measure's own units."""
        return self.redundancy(redundancy)  # a change of sign is its own inverse

    def _of(self, cosine_VFF: NDArray[np.float64]) -> NDArray[np.float64]:
        if cosine_VFF.shape[1] == 1:
            # One frame has no pair, and the mean over none would be NaN.
            return np.full(len(cosine_VFF), self.one_frame)
        score_V: NDArray[np.float64] = np.clip(self.of_cosines(cosine_VFF), self.low, self.high)
        return score_V


def score_videos(
    embeddings: Sequence[NDArray[np.floating[Any]]], measures: Sequence[Measure]
) -> dict[str, NDArray[np.float64]]:
    """Score every video with every measure.

    Videos are grouped by number of frames and worked on in blocks; neither changes a bit of the
    result. Besides input and output a few MB are held.

    Args:
        embeddings: per video [F, D], any float dtype, rows of unit L2 norm within NORM_TOLERANCE;
            F may differ between videos, D not.
        measures: what to compute.

    Returns:
        By measure name: float64 [V], in the order of `embeddings`.

    Raises:
        ValueError: a row is not of unit norm or has NaN, a video has no frames, or widths differ;
            the message names the video by its index in `embeddings`.
    """
    score = {measure.name: np.empty(len(embeddings), dtype=np.float64) for measure in measures}
    for video_V in _blocks(embeddings):
        cosine_VFF = _cosines(np.stack([embeddings[video] for video in video_V]), video_V)
        for measure in measures:
            score[measure.name][video_V] = measure._of(cosine_VFF)
    return score


def _blocks(embeddings: Sequence[NDArray[np.floating[Any]]]) -> Iterator[list[int]]:
    """Return the indices of videos with the same number of frames, at most a block at a time."""
    by_num_frames: dict[int, list[int]] = {}
    for video, emb_FD in enumerate(embeddings):
        if emb_FD.ndim != 2 or len(emb_FD) == 0 or emb_FD.shape[1] != embeddings[0].shape[-1]:
            raise ValueError(
                f"embeddings must be [F >= 1, D] with the same D; video {video} has shape "
                f"{list(emb_FD.shape)}, video 0 {list(embeddings[0].shape)}"
            )
        by_num_frames.setdefault(len(emb_FD), []).append(video)
    for videos in by_num_frames.values():
        step = max(1, BLOCK_VALUES // max(1, embeddings[videos[0]].size))
        for start in range(0, len(videos), step):
            yield videos[start : start + step]


def _cosines(emb_VFD: NDArray[np.floating[Any]], video_V: Sequence[int]) -> NDArray[np.float64]:
    """Check the rows and return their exact cosines, normalised, as float64 [V, F, F]."""
    grid_VFD = np.multiply(emb_VFD, _GRID, dtype=np.float64)
    np.rint(grid_VFD, out=grid_VFD)
    gram_VFF = grid_VFD @ grid_VFD.swapaxes(1, 2)  # exact: see the module's docstring
    square_VF = np.diagonal(gram_VFF, axis1=1, axis2=2)
    norm_VF = np.sqrt(square_VF) / _GRID
    off_VF = ~(np.abs(norm_VF - 1) <= NORM_TOLERANCE)  # written so that NaN is caught too
    if off_VF.any():
        block_video, frame = np.argwhere(off_VF)[0]
        raise ValueError(
            f"embeddings must have rows of unit L2 norm (within {NORM_TOLERANCE}); row {frame} of "
            f"video {video_V[block_video]} has norm {norm_VF[block_video, frame]:.4g}. "
            "Divide by the norm first."
        )
    # One root of a product, not a product of two: sqrt(x * x) is exactly x in IEEE 754, so that the
    # cosine of a frame with itself is exactly 1.
    scale_VFF = np.sqrt(square_VF[:, :, None] * square_VF[:, None, :])
    cosine_VFF: NDArray[np.float64] = np.clip(gram_VFF / scale_VFF, -1.0, 1.0)
    return cosine_VFF


def cross_cosines(
    first_FD: NDArray[np.floating[Any]], second_GD: NDArray[np.floating[Any]]
) -> NDArray[np.float64]:
    """Return the exact cosines between the frames of two videos: float64 [F, G], in [-1, 1].

    Args:
        first_FD: any float dtype, rows of unit L2 norm within NORM_TOLERANCE.
        second_GD: likewise.
    """
    first, second = (
        np.rint(np.multiply(emb, _GRID, dtype=np.float64)) for emb in (first_FD, second_GD)
    )
    # Whole numbers, so that every sum is exact: see the module's docstring.
    square_F, square_G = (np.einsum("nd,nd->n", grid, grid) for grid in (first, second))
    cosine_FG: NDArray[np.float64] = (first @ second.T) / np.sqrt(
        square_F[:, None] * square_G[None, :]
    )
    return np.clip(cosine_FG, -1.0, 1.0)


def _pick(cosine_VFF: NDArray[np.float64], offset: int | None = None) -> NDArray[np.float64]:
    """Return cosines of frames `offset` apart (None: of all pairs) as contiguous [V, P].

    Contiguous, so that numpy adds up a video's values in the same order whatever V is.
    """
    num_frames = cosine_VFF.shape[1]
    first_P, second_P = np.triu_indices(num_frames, k=1)
    if offset is not None:
        first_P, second_P = np.arange(num_frames - offset), np.arange(offset, num_frames)
    flat = cosine_VFF.reshape(len(cosine_VFF), num_frames**2)
    picked_VP: NDArray[np.float64] = flat.take(first_P * num_frames + second_P, axis=1)
    return picked_VP


def _mean_pairwise(cosine_VFF: NDArray[np.float64]) -> NDArray[np.float64]:
    score_V: NDArray[np.float64] = _pick(cosine_VFF).mean(axis=1)
    return score_V


def _mean_adjacent(cosine_VFF: NDArray[np.float64]) -> NDArray[np.float64]:
    score_V: NDArray[np.float64] = _pick(cosine_VFF, offset=1).mean(axis=1)
    return score_V


def _min_pairwise(cosine_VFF: NDArray[np.float64]) -> NDArray[np.float64]:
    score_V: NDArray[np.float64] = _pick(cosine_VFF).min(axis=1)
    return score_V


def _centroid(cosine_VFF: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean cosine to the normalised mean: its length, sqrt(sum of cosines) / F."""
    num_frames = cosine_VFF.shape[1]
    # The squared length of a sum of unit vectors is the sum of all F * F cosines; by rounding it
    # may fall below 0.
    sum_V = cosine_VFF.reshape(len(cosine_VFF), num_frames**2).sum(axis=1)
    score_V: NDArray[np.float64] = np.sqrt(np.maximum(sum_V, 0.0)) / num_frames
    return score_V


def _effective_frames(cosine_VFF: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the Vendi score to 9 decimals: LAPACK's last bits differ by CPU, may pass 1 or F."""
    num_frames = cosine_VFF.shape[1]
    # The diagonal of K is 1, so that the eigenvalues of K / F sum to 1: shares, which have an
    # entropy.
    share_VF = np.linalg.eigvalsh(cosine_VFF) / num_frames
    log_VF = np.log(np.where(share_VF > 0, share_VF, 1.0))  # 0, or less by rounding, adds nothing
    entropy_V = -(share_VF * log_VF).sum(axis=1)
    score_V: NDArray[np.float64] = np.round(np.exp(entropy_V), 9)
    return score_V


MEAN_PAIRWISE: Final = Measure(
    name="mean_pairwise",
    redundant_when="high",
    low=-1.0,
    high=1.0,
    one_frame=1.0,
    of_cosines=_mean_pairwise,
)
"""Mean cosine over all F(F-1)/2 pairs of frames."""

MEAN_ADJACENT: Final = Measure(
    name="mean_adjacent",
    redundant_when="high",
    low=-1.0,
    high=1.0,
    one_frame=1.0,
    of_cosines=_mean_adjacent,
)
"""Mean cosine of each frame with the next one."""

MIN_PAIRWISE: Final = Measure(
    name="min_pairwise",
    redundant_when="high",
    low=-1.0,
    high=1.0,
    one_frame=1.0,
    of_cosines=_min_pairwise,
)
"""Cosine of the two frames that differ most."""

CENTROID: Final = Measure(
    name="centroid",
    redundant_when="high",
    low=0.0,
    high=1.0,
    one_frame=1.0,
    of_cosines=_centroid,
)
"""Mean cosine of the frames to their normalised mean; 0 where the mean vanishes."""

EFFECTIVE_FRAMES: Final = Measure(
    name="effective_frames",
    redundant_when="low",
    low=1.0,
    high=math.inf,
    one_frame=1.0,
    of_cosines=_effective_frames,
)
"""How many distinct frames there are, in [1, F]: exponential of the entropy of the eigenvalues of
K / F, K the matrix of cosines. The Vendi score (https://arxiv.org/abs/2210.02410)."""


def _of_no_cosines(cosine_VFF: NDArray[np.float64]) -> NDArray[np.float64]:
    raise RuntimeError(f"no measure of {cosine_VFF.shape} cosines; this is a bug in a stage")


def outside_scale(name: str) -> Measure:
    """Return a measure for scores that come from elsewhere, larger = kept: any finite number.

    Args:
        name: what decisions are said to be made by.
    """
    return Measure(
        name=name,
        redundant_when="low",
        low=-math.inf,
        high=math.inf,
        one_frame=math.nan,
        of_cosines=_of_no_cosines,
        reason=Reason.NOT_SELECTED,
    )
