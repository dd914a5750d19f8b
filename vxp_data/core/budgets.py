"""Budgets: as many of the least redundant rows as 40 GPU hours, 2 M frames or 500 GB pay for.

A budget spans task subsets, which a threshold policy cannot; so it is turned into a number of rows
for each subset, and those are cut like any other count.

Shapes: N rows of a run, M of them in some order.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vxp_data.core.cost_model import FILE_UNITS, UNITS, RowCosts
from vxp_data.core.similarity import Measure
from vxp_data.core.thresholds import ThresholdSpec, keep_order
from vxp_data.errors import UserError, unknown_name

_AMOUNT: Final = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:e([0-9]{1,2}))?([a-z]{0,2})", re.I)
_FACTORS: Final[Mapping[str, float]] = {
    "": 1, "k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9, "t": 1e12,
    "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40,
}  # fmt: skip
_ROUNDING: Final = 1e-9
"""What sums of fractions may be off by, relative: three times 0.1 is within 0.3."""
_BISECTIONS: Final = 200
"""At most; a float64 has 64 bits, and the search ends where no number lies between."""


@dataclass(frozen=True, slots=True)
class Budget:
    """One budget as a user gives it; `str()` is its canonical text, 'frames=2000000'."""

    unit: str
    """One of cost_model.UNITS."""
    amount: float
    """In that unit, 0 or more."""

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise unknown_name("budget unit", self.unit, UNITS)
        if not 0 <= self.amount < math.inf:
            raise UserError(f"budget {self.unit}: got {self.amount!r}, wanted a number, 0 or more.")

    def __str__(self) -> str:
        whole = self.amount.is_integer() if isinstance(self.amount, float) else True
        return f"{self.unit}={int(self.amount) if whole else self.amount!r}"


Target = ThresholdSpec | Budget
"""How much of a subset to keep: a threshold of its own, or what a budget pays for."""


def parse_budget(text: str) -> Budget:
    """Read 'gpu_hours=40', 'frames=2M', 'tokens=1B', 'bytes=500G' (500Gi), 'videos=100000'.

    k, M, G and B (both 10**9), T are powers of a thousand; Ki, Mi, Gi, Ti of 1024.

    Raises:
        UserError: the text is none of these.
    """
    unit, _, number = text.strip().partition("=")
    found = _AMOUNT.fullmatch(number.strip())
    if not found or found[3].lower() not in _FACTORS:
        raise UserError(
            f"budget: got {text!r}, wanted a unit ({', '.join(UNITS)}) and an amount, such as "
            "'frames=2M', 'bytes=500G' or 'gpu_hours=40'."
        )
    exponent = 10.0 ** int(found[2] or 0)
    return Budget(unit.strip(), float(found[1]) * exponent * _FACTORS[found[3].lower()])


@dataclass(frozen=True, slots=True, kw_only=True)
class RowsToCut:
    """What budgets need to know of N rows."""

    sample_id_N: NDArray[np.object_]
    task_N: NDArray[np.object_]
    score_N: NDArray[np.float64]
    cut_N: NDArray[np.bool_]
    """Rows that a threshold may drop: usable videos that are no duplicates. They have scores."""
    kept_N: NDArray[np.bool_]
    """Rows that are kept whatever they cost: images."""
    costs: RowCosts


def resolve(
    targets: Mapping[str, Target],
    default: Target,
    weights: Mapping[str, float],
    rows: RowsToCut,
    measure: Measure,
    measures: Mapping[str, Measure] | None = None,
) -> tuple[dict[str, ThresholdSpec], ThresholdSpec]:
    """Convert budgets to numbers of rows; return everything else as it is.

    The default's budget is one for all subsets without a target of their own; a task's budget is
    its own. What images of these subsets cost is taken off first.

    Args:
        targets: by task.
        default: for every other task.
        weights: by task, above 0, for the default's budget; see `fit`.
        rows: the run's.
        measure: whose scores they are.
        measures: by task, where that is another.

    Returns:
        Thresholds by task, and the default's. No budget is exceeded.

    Raises:
        UserError: images alone cost more than a budget, GPU hours are not known, or a weight
            names a task that no row has.
    """
    tasks = sorted({str(task) for task in rows.task_N[rows.cut_N].tolist()})
    for task, weight in weights.items():
        if task not in tasks:
            raise unknown_name("task in budget weights", task, tasks)
        if not 0 < weight < math.inf:
            raise UserError(f"budget weight of {task}: got {weight!r}, wanted a number above 0.")
    specs = {t: target for t, target in targets.items() if isinstance(target, ThresholdSpec)}
    shared = [task for task in tasks if task not in targets]
    groups = [(t, [t], b) for t, b in targets.items() if isinstance(b, Budget)]
    if isinstance(default, Budget):
        groups.append(("default", shared, default))
        images = ~np.isin(rows.task_N, list(targets))  # also of subsets without videos
    for name, members, budget in groups:
        orders = [subset_order(rows, task, (measures or {}).get(task, measure)) for task in members]
        mine_N = images if name == "default" else rows.task_N == name
        always = np.flatnonzero(rows.kept_N & mine_N)
        numbers = fit(
            budget, orders, [weights.get(task, 1.0) for task in members], always, rows.costs
        )
        specs |= {
            task: ThresholdSpec("count", float(n)) for task, n in zip(members, numbers, strict=True)
        }
    if isinstance(default, Budget):
        return specs, ThresholdSpec("count", 0.0)  # for no row: every task with rows to cut has one
    return specs, default


def fit(
    budget: Budget,
    orders: Sequence[NDArray[np.intp]],
    weights: Sequence[float],
    always_A: NDArray[np.intp],
    costs: RowCosts,
) -> list[int]:
    """Find how many rows of each subset a budget pays for.

    Every subset keeps the same share of its own cost, times its weight; a subset that is kept
    whole leaves the rest to the others. What is left over does not pay for a further row of the
    subset whose turn it is.

    Args:
        budget: unit and amount.
        orders: per subset, its rows, the first to be kept first.
        weights: per subset, above 0: 2 keeps twice the share.
        always_A: rows that are kept anyway, and paid for first.
        costs: of all rows.

    Returns:
        Per subset, how many of its first rows are kept; together, and with `always_A`, they cost
        at most the budget, files that several subsets share counted once.

    Raises:
        UserError: `always_A` alone costs more; or see `RowCosts.gpu_hours_N`.
    """
    before = costs.total(always_A, budget.unit)
    most = budget.amount * (1 + _ROUNDING)
    if before > most:
        raise UserError(
            f"budget {budget}: the images alone, which are always kept, cost {before:g} "
            f"{budget.unit}. Raise the budget, or leave images out of the manifest."
        )
    along = [costs.along(order, budget.unit) for order in orders]
    reach = [w * (a[-1] if len(a) else 0.0) for w, a in zip(weights, along, strict=True)]

    def numbers(share: float) -> list[int]:
        limits = [share * r * (1 + _ROUNDING) for r in reach]
        return [
            int(np.searchsorted(a, limit, side="right"))
            for a, limit in zip(along, limits, strict=True)
        ]

    def fits(chosen: Sequence[int]) -> bool:
        if budget.unit not in FILE_UNITS:
            sums = (a[n - 1] for a, n in zip(along, chosen, strict=True) if n)
            return before + math.fsum(sums) <= most
        rows = [order[:n] for order, n in zip(orders, chosen, strict=True)]
        return costs.total(np.concatenate([*rows, always_A]), budget.unit) <= most

    low, high = 0.0, 1 / min(weights, default=1.0)
    if fits(numbers(high)):
        return numbers(high)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if fits(numbers(middle)) else (low, middle)
    return numbers(low)


def subset_order(rows: RowsToCut, task: str, measure: Measure) -> NDArray[np.intp]:
    """Return a subset's rows that may be cut, the first to be kept first."""
    row_M = np.flatnonzero(rows.cut_N & (rows.task_N == task))
    order_M = keep_order(measure.redundancy(rows.score_N[row_M]), rows.sample_id_N[row_M].tolist())
    ordered: NDArray[np.intp] = row_M[order_M]
    return ordered
