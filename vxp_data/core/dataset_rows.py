"""As many rows of each dataset as its mixture states: which of those that are left stay.

Shapes: N rows of a run, M of them of one dataset.

Decided last, about rows that nothing else has taken out, and from the rows alone: the same on any
machine, in any order of work. More rows wanted never drop one that fewer keep.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from vxp_data.core.budgets import Target
from vxp_data.core.decisions import Decisions, SampleColumns
from vxp_data.core.seeds import hash64
from vxp_data.core.similarity import Measure
from vxp_data.core.thresholds import ThresholdSpec, keep_order
from vxp_data.errors import UserError, unknown_name
from vxp_data.records import Outcome, Reason

RowsBy = Literal["score", "random"]

_ABOUT: Final = "mixture"
"""What the draws are about; see core.seeds."""
_NAMES_SHOWN: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class RowsRule:
    """How many rows of each dataset stay, and which."""

    datasets: Sequence[str]
    """All of a run, in their order."""
    wanted: Mapping[str, int]
    """By dataset; one that is not named is left as it is."""
    by: RowsBy = "score"
    """'score': the least redundant of each task, the same share of each; rows without a score
    (images, text) are drawn. 'random': all are drawn."""
    seed: int = 0
    """Of what is drawn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetRows:
    """The rows of one dataset: what is stated, what is there, what stays."""

    dataset: str
    wanted: int | None
    """Rows that are to stay; None: all that can."""
    num_in: int
    """Rows of its manifest."""
    found: int
    """Rows that can stay: usable, no duplicates, let through by filters and thresholds."""
    kept: int


def is_cut_by_rows(target: Target) -> bool:
    """Whether a task has no threshold of its own, but is cut where its datasets have their rows."""
    return isinstance(target, ThresholdSpec) and target.policy == "mixture"


def wanted_rows(
    stated: Mapping[str, int | None], given: Mapping[str, int], scale: float
) -> dict[str, int]:
    """Return how many rows of each dataset are wanted.

    Args:
        stated: by dataset of the run, as its mixture states; None where it states none.
        given: by dataset, instead of these.
        scale: share of them, in (0, 1]; the nearest whole number, one at least.

    Raises:
        UserError: a dataset is named that the run has not, or rows of none are stated.
    """
    for name in given:
        if name not in stated:
            raise unknown_name("dataset in mixture.datasets", name, stated)
    rows = {name: given.get(name, number) for name, number in stated.items()}
    wanted = {name: max(1, int(scale * n + 0.5)) for name, n in rows.items() if n is not None}
    if not wanted:
        raise UserError(
            f"mixture.rows: none of the datasets of this run ({_names(list(stated))}) states how "
            "many rows are wanted. Write `rows` beside each in a mixture file and prune that, or "
            f"--set mixture.datasets.{next(iter(stated), 'NAME')}=1000."
        )
    return wanted


def require_rows(counts: Sequence[DatasetRows]) -> None:
    """Check that every dataset has as many rows as are wanted.

    Raises:
        UserError: some have fewer; with the numbers of each.
    """
    lacking = [c for c in counts if c.wanted is not None and c.found < c.wanted]
    if lacking:
        each = ", ".join(f"{c.dataset} {c.found:,} of {c.wanted:,}" for c in lacking)
        raise UserError(
            f"mixture.too_few: {len(lacking)} of {len(counts)} datasets have fewer rows than are "
            f"wanted: {each}. Prune less (--keep mixture takes out no more than the rows say, but "
            "filters and duplicates go first), ask for fewer (mixture.scale, mixture.datasets), or "
            "take what is there: --set mixture.too_few=keep."
        )


def cut_to_rows(
    samples: SampleColumns,
    decisions: Decisions,
    rule: RowsRule,
    measures: Mapping[str, Measure],
    cut_tasks: Mapping[str, bool],
) -> tuple[Decisions, tuple[DatasetRows, ...]]:
    """Take out what datasets have beyond their rows.

    Args:
        samples: N rows, with their datasets.
        decisions: about them, by everything else.
        rule: what is wanted.
        measures: by task, whose the scores are.
        cut_tasks: by task, whether the rows stand in for its threshold; see `is_cut_by_rows`.

    Returns:
        The decisions, in which rows beyond are pruned: as `dataset_excess`; those with a score,
        where the rows stand in for a threshold, for the measure's own reason, and the threshold is
        then the score of the last row kept of the dataset and task. And the counts of the datasets.
    """
    dataset_N, task_N = (np.asarray(c, np.object_) for c in (samples.dataset, samples.task))
    stays_N = decisions.decision == Outcome.KEEP.value
    redundancy_N = _redundancy(samples, decisions, measures)
    order = _Order(rule, np.asarray(samples.sample_id, np.object_), task_N, redundancy_N)
    decision_N, reason_N = decisions.decision.copy(), decisions.reason.copy()
    threshold_N = decisions.threshold.copy()
    counts = []
    for name in rule.datasets:
        of_dataset_N = dataset_N == name
        row_M = np.flatnonzero(of_dataset_N & stays_N)
        wanted = rule.wanted.get(name)
        gone_M = row_M[:0] if wanted is None else order.of(row_M)[wanted:]
        decision_N[gone_M], reason_N[gone_M] = Outcome.PRUNE.value, Reason.DATASET_EXCESS.value
        for task, row_T in _by_task(task_N, row_M[~np.isnan(redundancy_N[row_M])]):
            if cut_tasks[task]:
                left_T = decision_N[row_T] == Outcome.KEEP.value
                reason_N[row_T[~left_T]] = measures[task].reason.value
                last = float(redundancy_N[row_T[left_T]].max(initial=-np.inf))
                threshold_N[row_T] = measures[task].own_units(last)
        counts.append(
            DatasetRows(
                dataset=name, wanted=wanted, num_in=int(of_dataset_N.sum()),
                found=len(row_M), kept=len(row_M) - len(gone_M),
            )
        )  # fmt: skip
    cut = replace(decisions, decision=decision_N, reason=reason_N, threshold=threshold_N)
    return cut, tuple(counts)


def rows_order(
    rule: RowsRule,
    ids_M: NDArray[np.object_],
    task_M: NDArray[np.object_],
    redundancy_M: NDArray[np.float64],
) -> NDArray[np.intp]:
    """Order the rows of one dataset as they are kept; the first n are those that n rows keep.

    Args:
        rule: says by what.
        ids_M: their sample ids.
        task_M: their tasks.
        redundancy_M: the lower the earlier; NaN for a row without a score.
    """
    if rule.by == "random":
        return _drawn(rule, ids_M)
    rows, places = [np.zeros(0, dtype=np.intp)], [np.zeros(0)]
    scored_M = ~np.isnan(redundancy_M)
    for _, row_T in _by_task(task_M, np.arange(len(ids_M))):  # the same share of each is taken
        has_T = scored_M[row_T]
        by_score, others = row_T[has_T], row_T[~has_T]
        own = by_score[keep_order(redundancy_M[by_score], ids_M[by_score].tolist())]
        for ordered in (own, others[_drawn(rule, ids_M[others])]):
            rows.append(ordered)
            places.append((np.arange(len(ordered)) + 0.5) / max(1, len(ordered)))
    order_M: NDArray[np.intp] = np.concatenate(rows)
    return order_M[np.argsort(np.concatenate(places), kind="stable")]


@dataclass(frozen=True, slots=True)
class _Order:
    """The rows of a run, to be ordered dataset by dataset."""

    rule: RowsRule
    ids_N: NDArray[np.object_]
    task_N: NDArray[np.object_]
    redundancy_N: NDArray[np.float64]

    def of(self, row_M: NDArray[np.intp]) -> NDArray[np.intp]:
        columns = (self.ids_N[row_M], self.task_N[row_M], self.redundancy_N[row_M])
        ordered: NDArray[np.intp] = row_M[rows_order(self.rule, *columns)]
        return ordered


def _redundancy(
    samples: SampleColumns, decisions: Decisions, measures: Mapping[str, Measure]
) -> NDArray[np.float64]:
    """Return the redundancy of rows that a threshold lets through; NaN for all others."""
    redundancy_N = np.full(len(samples), np.nan)
    scored_N = decisions.reason == Reason.WITHIN_THRESHOLD.value
    task_N = np.asarray(samples.task, np.object_)
    for task, row_T in _by_task(task_N, np.flatnonzero(scored_N)):
        redundancy_N[row_T] = measures[task].redundancy(samples.score[row_T])
    return redundancy_N


def _by_task(
    task_N: NDArray[np.object_], row_M: NDArray[np.intp]
) -> Iterator[tuple[str, NDArray[np.intp]]]:
    for task in sorted(set(task_N[row_M].tolist())):
        yield str(task), row_M[task_N[row_M] == task]


def _drawn(rule: RowsRule, ids_M: NDArray[np.object_]) -> NDArray[np.intp]:
    """Order rows by numbers that nothing but the seed and their ids decide."""
    keys = [(hash64(_ABOUT, rule.seed, str(name)), str(name)) for name in ids_M.tolist()]
    return np.array(sorted(range(len(keys)), key=keys.__getitem__), dtype=np.intp)


def _names(names: Sequence[str]) -> str:
    more = len(names) - _NAMES_SHOWN
    return ", ".join(names[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
