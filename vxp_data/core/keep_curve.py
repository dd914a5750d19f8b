"""The keep curve: what every threshold would keep, and what that costs, before it is chosen.

Shapes: M rows of a subset that may be cut; P points of a curve.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vxp_data.core.cost_model import RowCosts
from vxp_data.core.dataset_rows import DatasetRows
from vxp_data.core.per_cost import Per
from vxp_data.core.question_facts import QuestionShares


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepCurve:
    """What is kept at P shares of a subset's rows, from few to all."""

    share_P: NDArray[np.float64]
    """Share of the rows, in (0, 1]."""
    threshold_P: NDArray[np.float64]
    """Redundancy of the last row kept, in the measure's own units; NaN for several subsets."""
    costs: Mapping[str, NDArray[np.float64]]
    """By unit of cost_model.UNITS, [P]: what the kept rows cost together."""

    def __len__(self) -> int:
        return len(self.share_P)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What one way of cutting keeps of the rows that a threshold may drop."""

    name: str
    """'now', 'knee', or 'chosen'."""
    text: str
    """The threshold as recipes have it; '' for several subsets."""
    threshold: float
    """In the measure's own units; NaN where there is none."""
    costs: Mapping[str, float]
    """By unit; see core.cost_model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SubsetPlan:
    """The curve of one task subset, and the points on it that have names."""

    task: str
    curve: KeepCurve
    kept: tuple[Kept, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bought:
    """What is kept of all subsets where rows are taken by one order."""

    per: Per
    costs: Mapping[str, float]
    """By unit."""
    quality: float
    """Sum over the kept rows of the share of their subset that each is at or ahead of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """What thresholds would keep of a run."""

    measure: str
    units: tuple[str, ...]
    """Of the costs; GPU hours only where their rate is known."""
    num_rows: int
    """All rows of the run."""
    subsets: tuple[SubsetPlan, ...]
    joint: SubsetPlan
    """Of all subsets together: the same share of each, a file counted once."""
    always: Mapping[str, float]
    """What images and text-only rows cost, which are kept whatever the threshold, as far as the
    rows of their datasets allow; of the chosen way, else of now."""
    num_out: int
    """Rows that no threshold brings back: quarantined, duplicates, or dropped by a filter."""
    asked: Mapping[str, tuple[QuestionShares, ...]]
    """By task, what is asked: by all usable rows ('in'), and by those that each of the ways of
    cutting keeps, with those that are always kept."""
    asked_of_all: bool
    """All rows were read for that; else so many of a subset as `inspect.asked` draws."""
    bought: tuple[Bought, ...]
    """Of the chosen way: per row and per cost; none where it has no budget and is per row."""
    datasets: tuple[DatasetRows, ...]
    """Of the chosen way, else of now: rows of each dataset, wanted, found and kept; none for a run
    of before they were counted."""


def keep_curve(
    order_M: NDArray[np.intp],
    score_N: NDArray[np.float64],
    costs: RowCosts,
    *,
    num_points: int,
) -> KeepCurve:
    """Return the curve of one subset, at shares 1/P, 2/P, ..., 1.

    Args:
        order_M: its rows, the first to be kept first; see `thresholds.keep_order`.
        score_N: of all rows, in the measure's own units.
        costs: of all rows.
        num_points: P at most; a subset of fewer rows has a point a row.

    Returns:
        The curve; no points for a subset without rows.
    """
    num_rows = len(order_M)
    num_points = min(num_points, num_rows)
    share_P = np.arange(1, num_points + 1) / max(1, num_points)
    kept_P = _rows_at(share_P, num_rows)
    return KeepCurve(
        share_P=share_P,
        threshold_P=score_N[order_M[kept_P - 1]],
        costs={unit: costs.along(order_M, unit)[kept_P - 1] for unit in costs.units()},
    )


def joint_curve(
    orders: Sequence[NDArray[np.intp]], costs: RowCosts, *, num_points: int
) -> KeepCurve:
    """Return the curve of several subsets together, the same share of each; a file counts once.

    Args:
        orders: per subset, its rows, the first to be kept first.
        costs: of all rows.
        num_points: P.
    """
    order_M = np.concatenate([np.zeros(0, dtype=np.intp), *orders])
    # Row k of n (from 1) is kept at share p where k <= p n + 0.5.
    at_M = np.concatenate([np.zeros(0), *((np.arange(len(o)) + 0.5) / len(o) for o in orders)])
    turn_M = np.argsort(at_M, kind="stable")
    share_P = np.arange(1, num_points + 1) / num_points if len(order_M) else np.zeros(0)
    kept_P = np.searchsorted(at_M[turn_M], share_P, side="right")
    columns = {}
    for unit in costs.units():
        along = np.append(0.0, costs.along(order_M[turn_M], unit))
        columns[unit] = along[kept_P]
    return KeepCurve(share_P=share_P, threshold_P=np.full(len(share_P), np.nan), costs=columns)


def _rows_at(share_P: NDArray[np.float64], num_rows: int) -> NDArray[np.intp]:
    """Return how many rows a share is: the nearest whole number, as the policy `share` has it."""
    kept_P: NDArray[np.intp] = np.floor(share_P * num_rows + 0.5).astype(np.intp)
    return kept_P
