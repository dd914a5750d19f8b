"""Rows in the order of what they bring for what they cost, instead of what they bring.

Shapes: M rows of a subset that may be cut.

Scores of measures, selectors and users have no scale in common, and may be negative; so what a row
brings, its quality, is its rank: the share of the subset's candidates that it is at or ahead of. A
row's cost is what an epoch of training pays for it, in tokens; GPU hours are in proportion to them.
Share, count and budget cut this order as any other, so that more never drops what less keeps.
"""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from vxp_data.core.similarity import Measure, outside_scale

Per = Literal["row", "cost"]
PER: Final[tuple[Per, ...]] = ("row", "cost")

_SUFFIX: Final = "/tokens"
"""Of what decides, as decisions say it."""
_UNIT_TOKENS: Final = 1e6
"""Quality is told per million tokens, so that its numbers can be read."""


def quality(redundancy_M: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the share of rows that each row is at or ahead of.

    Args:
        redundancy_M: float64, finite; the least is the first.

    Returns:
        quality_M: float64 in (0, 1]; rows of the same redundancy have the same, the first have 1.
    """
    num_ahead_M = np.searchsorted(np.sort(redundancy_M), redundancy_M, side="left")
    quality_M: NDArray[np.float64] = 1.0 - num_ahead_M / max(1, len(redundancy_M))
    return quality_M


def per_cost(quality_M: NDArray[np.float64], tokens_M: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return quality per million tokens, larger = taken earlier.

    Args:
        quality_M: see `quality`.
        tokens_M: what each row costs, above 0: a video has a frame or more.

    Raises:
        ValueError: a row costs nothing; always our bug.
    """
    if not (tokens_M > 0).all():
        raise ValueError("a row that may be cut costs no tokens; this is a bug in a stage")
    return quality_M / tokens_M * _UNIT_TOKENS


def per_cost_unit(decided_by: str) -> str:
    """Return the unit of the scores by which rows are cut, '' where they are not per cost.

    Args:
        decided_by: what decides, as decisions say it; of several, with commas.
    """
    is_per_cost = any(name.endswith(_SUFFIX) for name in decided_by.split(", "))
    return "quality (0 to 1) per million training tokens" if is_per_cost else ""


def per_cost_scale(scale: Measure) -> Measure:
    """Return whose the scores of `per_cost` are, from whose the ranks are.

    A row that goes by it may be less redundant than one that stays, so the reason is another.
    """
    return outside_scale(f"{scale.name}{_SUFFIX}")
