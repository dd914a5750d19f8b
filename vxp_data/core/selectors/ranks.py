"""Ranks within groups: how a share is taken of each of them.

Shapes: N rows or clips.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def quantiles(value_N: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return where each value lies among all, in (0, 1); equal ones in the middle of theirs.

    What is NaN lies at 0.5, and does not count for the others.
    """
    known_N = ~np.isnan(value_N)
    quantile_N = np.full(len(value_N), 0.5)
    value_M = value_N[known_N]
    if len(value_M):
        sorted_M = np.sort(value_M)
        below_M = np.searchsorted(sorted_M, value_M, side="left")
        up_to_M = np.searchsorted(sorted_M, value_M, side="right")
        quantile_N[known_N] = (below_M + up_to_M) / (2 * len(value_M))
    return quantile_N


def quantiles_in(
    value_N: NDArray[np.floating[Any]], group_N: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return where each value lies among those of its group; see `quantiles`.

    Whoever takes rows by these takes the same share of each group.
    """
    quantile_N = np.empty(len(value_N))
    order_N = np.argsort(group_N, kind="stable")
    ends = np.flatnonzero(np.diff(group_N[order_N])) + 1
    for row_M in np.split(order_N, ends):
        quantile_N[row_M] = quantiles(value_N[row_M])
    return quantile_N


def rank_correlation(first_N: NDArray[np.floating[Any]], second_N: NDArray[Any]) -> float:
    """Return Spearman's correlation of two columns; NaN where one of them is all alike."""
    off_N, other_N = quantiles(first_N) - 0.5, quantiles(second_N) - 0.5
    size = float(np.sqrt((off_N * off_N).sum() * (other_N * other_N).sum()))
    return float((off_N * other_N).sum()) / size if size else float("nan")
