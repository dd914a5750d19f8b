"""What a run gave, per task subset, as numbers."""

from __future__ import annotations

from collections.abc import Sequence
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
    """In the measure's own units; NaN where nothing was cut."""
    hours_kept: float


def summarise(
    samples: SampleColumns,
    decisions: Decisions,
    media_uri: Sequence[object],
    duration_s_N: NDArray[np.float64],
) -> tuple[SubsetSummary, ...]:
    """Count each task subset, in the order of the tasks' names."""
    task_N = np.array(samples.task, dtype=object)
    uri_N = np.array([str(uri) for uri in media_uri], dtype=object)
    kept_N = decisions.decision == Outcome.KEEP.value
    return tuple(
        SubsetSummary(
            task=task,
            rows=int(mine_N.sum()),
            videos=len(set(uri_N[mine_N]) - {""}),
            hours=_hours(uri_N[mine_N], duration_s_N[mine_N]),
            kept=_count(decisions, mine_N, Outcome.KEEP),
            pruned=_count(decisions, mine_N, Outcome.PRUNE),
            duplicates=_count(decisions, mine_N, Outcome.DUPLICATE),
            quarantined=_count(decisions, mine_N, Outcome.QUARANTINE),
            threshold=_first_number(decisions.threshold[mine_N]),
            hours_kept=_hours(uri_N[mine_N & kept_N], duration_s_N[mine_N & kept_N]),
        )
        for task in sorted(set(samples.task))
        for mine_N in [task_N == task]
    )


def _count(decisions: Decisions, mine_N: NDArray[np.bool_], outcome: Outcome) -> int:
    return int((decisions.decision[mine_N] == outcome.value).sum())


def _hours(uri_N: NDArray[np.object_], duration_s_N: NDArray[np.float64]) -> float:
    longest: dict[str, float] = {}
    for uri, duration_s in zip(uri_N, duration_s_N.tolist(), strict=True):
        longest[uri] = max(longest.get(uri, 0.0), duration_s)
    return sum(longest.values()) / 3600


def _first_number(value_N: NDArray[np.float64]) -> float:
    numbers = value_N[~np.isnan(value_N)]
    return float(numbers[0]) if len(numbers) else float("nan")
