"""What a run gave, per task subset, as numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vxp_data.core.decisions import Decisions, SampleColumns
from vxp_data.records import Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class SubsetSummary:
    """One task subset. Hours count every file once, however many rows name it."""

    task: str
    rows: int
    videos: int
    hours: float
    kept: int
    pruned: int
    duplicates: int
    quarantined: int
    threshold: float
    """In the measure's own units; NaN where nothing was cut, or each dataset at its own."""
    hours_kept: float
    inexact: int = 0
    """Kept rows about clips of which some frames could not be decoded."""


def summarise(
    samples: SampleColumns,
    decisions: Decisions,
    file_N: NDArray[np.int64],
    duration_s_N: NDArray[np.float64],
    is_inexact_N: NDArray[np.bool_],
) -> tuple[SubsetSummary, ...]:
    """Count each task subset, in the order of the tasks' names.

    Args:
        samples: N samples.
        decisions: about them.
        file_N: number of each sample's file, -1 where there is none.
        duration_s_N: of each sample's clip, 0 where there is none.
        is_inexact_N: some frames of its clip could not be decoded.
    """
    task_N = np.asarray(samples.task, dtype=object)
    kept_N = decisions.decision == Outcome.KEEP.value
    return tuple(
        SubsetSummary(
            task=task,
            rows=int(mine_N.sum()),
            videos=len(np.unique(file_N[mine_N & (file_N >= 0)])),
            hours=_hours(file_N[mine_N], duration_s_N[mine_N]),
            kept=_count(decisions, mine_N, Outcome.KEEP),
            pruned=_count(decisions, mine_N, Outcome.PRUNE),
            duplicates=_count(decisions, mine_N, Outcome.DUPLICATE),
            quarantined=_count(decisions, mine_N, Outcome.QUARANTINE),
            threshold=only_number(decisions.threshold[mine_N]),
            hours_kept=_hours(file_N[mine_N & kept_N], duration_s_N[mine_N & kept_N]),
            inexact=int((mine_N & kept_N & is_inexact_N).sum()),
        )
        for task in sorted(set(samples.task))
        for mine_N in [task_N == task]
    )


def _count(decisions: Decisions, mine_N: NDArray[np.bool_], outcome: Outcome) -> int:
    return int((decisions.decision[mine_N] == outcome.value).sum())


def _hours(file_N: NDArray[np.int64], duration_s_N: NDArray[np.float64]) -> float:
    longest_s_F = np.zeros(int(file_N.max(initial=-1)) + 2)  # the last is what has no file
    np.maximum.at(longest_s_F, file_N, duration_s_N)
    return math.fsum(longest_s_F[:-1]) / 3600


def only_number(value_N: NDArray[np.float64]) -> float:
    """Return the number that all values have which are not NaN; NaN where they have several."""
    numbers = np.unique(value_N[~np.isnan(value_N)])
    return float(numbers[0]) if len(numbers) == 1 else math.nan
