"""What encoders_compared.py counts: agreement of two rankings, and its interval over clips.

Shape suffixes: N clips or rows, B draws of them, F G frames of a clip, D embedding width, P pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vxp_data.core.selectors.ranks import rank_correlation
from vxp_data.core.similarity import Measure
from vxp_data.core.thresholds import cut, parse_keep

DRAWS: Final = 4000
"""Of clips, with replacement, for an interval."""
HALF: Final = parse_keep("0.5")

Floats = NDArray[np.floating[Any]]


def spearman(first_N: Floats, second_N: Floats, *, seed: int = 0) -> dict[str, Any]:
    """Return the rank correlation of two columns, and its 95 % interval over clips.

    The interval is that of the bootstrap: the middle 95 % of the correlations of DRAWS draws of N
    clips with replacement. A draw in which one column is all alike has none, and is left out.
    """
    rng = np.random.default_rng(seed)
    drawn_BN = rng.integers(0, len(first_N), (DRAWS, len(first_N)))
    found_B = np.array([rank_correlation(first_N[own_N], second_N[own_N]) for own_N in drawn_BN])
    low, high = np.nanpercentile(found_B, [2.5, 97.5])
    whole = rank_correlation(first_N, second_N)
    return {name: round(float(value), 3) for name, value in
            (("spearman", whole), ("low", low), ("high", high))}  # fmt: skip


def kept(score_N: Floats, names: Sequence[str], measure: Measure) -> NDArray[np.bool_]:
    """Return which of these rows `--keep 0.5` keeps."""
    return cut(HALF, np.asarray(score_N, np.float64), names, measure).keep_N


def kept_by_subset(
    score_N: Floats, names: Sequence[str], subset_N: NDArray[Any], measure: Measure
) -> NDArray[np.bool_]:
    """Return which rows `--keep 0.5` keeps of each subset."""
    keep_N = np.zeros(len(names), np.bool_)
    for subset in np.unique(subset_N):
        row_M = np.flatnonzero(subset_N == subset)
        keep_N[row_M] = kept(score_N[row_M], [names[row] for row in row_M], measure)
    return keep_N


def with_duration(
    score_N: Floats, duration_s_N: Floats, names: Sequence[str], measure: Measure
) -> dict[str, Any]:
    """Return how redundancy goes with duration, and how long kept and pruned clips are."""
    keep_N = kept(score_N, names, measure)
    return {
        **spearman(measure.redundancy(np.asarray(score_N, np.float64)), duration_s_N),
        "kept_median_s": round(float(np.median(duration_s_N[keep_N])), 2),
        "pruned_median_s": round(float(np.median(duration_s_N[~keep_N])), 2),
    }


def moved_most(
    first_N: Floats, second_N: Floats, names: Sequence[str], *, count: int
) -> list[dict[str, Any]]:
    """Return the clips whose rank differs most, 1 = the most redundant in both."""
    rank_N, other_N = ranks(first_N), ranks(second_N)
    order_N = np.argsort(-np.abs(rank_N - other_N), kind="stable")[:count]
    return [
        {"clip": names[row], "first": int(rank_N[row]), "second": int(other_N[row])}
        for row in order_N.tolist()
    ]


def ranks(redundancy_N: Floats) -> NDArray[np.int64]:
    """Rank from 1, the most redundant; of equal ones the earlier first."""
    rank_N = np.empty(len(redundancy_N), np.int64)
    rank_N[np.argsort(-redundancy_N, kind="stable")] = np.arange(1, len(redundancy_N) + 1)
    return rank_N


def unit_mean(emb_FD: Floats) -> NDArray[np.float64]:
    """Return the mean of unit rows, of norm 1."""
    mean_D = np.asarray(emb_FD, np.float64).mean(0)
    return np.asarray(mean_D / np.linalg.norm(mean_D))


def nearest_in_time(time_s_F: Floats, other_s_G: Floats) -> NDArray[np.int64]:
    """Return for each time the index of the nearest other one; of two alike, the earlier."""
    away_s_FG = np.abs(time_s_F[:, None] - other_s_G[None, :])
    return np.asarray(away_s_FG.argmin(1), np.int64)


def frame_cosines(emb_FD: Floats, emb_GD: Floats, near_F: NDArray[np.int64]) -> Floats:
    """Return the cosine of each frame to the one that stands for it."""
    first_FD, second_FD = (_unit(np.asarray(emb, np.float64)) for emb in (emb_FD, emb_GD[near_F]))
    return np.asarray((first_FD * second_FD).sum(1))


def pair_cosines(
    means_ND: Floats, names: Sequence[str], pairs: Sequence[Mapping[str, str]]
) -> dict[str, Any]:
    """Return the cosines of clips' means: of labelled pairs, and of all that are not labelled."""
    cosine_NN = means_ND @ means_ND.T
    at = {name: index for index, name in enumerate(names)}
    labelled = [
        {**pair, "cosine": round(float(cosine_NN[at[pair["first"]], at[pair["second"]]]), 3)}
        for pair in pairs
        if pair["first"] in at and pair["second"] in at
    ]
    is_other_NN = np.triu(np.ones_like(cosine_NN, np.bool_), 1)
    for pair in labelled:
        first, second = at[pair["first"]], at[pair["second"]]
        is_other_NN[min(first, second), max(first, second)] = False
    row_P, column_P = np.nonzero(is_other_NN)
    other_P = cosine_NN[row_P, column_P]
    order_P = np.argsort(-other_P)[:5]
    nearest = [
        {"first": names[row_P[p]], "second": names[column_P[p]], "cosine": round(other_P[p], 3)}
        for p in order_P.tolist()
    ]
    return {
        "labelled": labelled,
        "others": {
            "pairs": len(other_P),
            "median": round(float(np.median(other_P)), 3),
            "nearest": nearest,
        },
    }


def _unit(x_FD: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(x_FD / np.linalg.norm(x_FD, axis=1, keepdims=True))
