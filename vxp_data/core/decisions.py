"""Decisions: where each sample ends, and the accounting that none is lost.

Shapes: N samples of a run, in input order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vxp_data.core.budgets import Budget, RowsToCut, Target, resolve
from vxp_data.core.cost_model import RowCosts
from vxp_data.core.similarity import Measure
from vxp_data.core.thresholds import cut
from vxp_data.errors import unknown_name
from vxp_data.records import Modality, Outcome, Reason, is_excluding, outcome_of

TextColumn = Sequence[str | None] | NDArray[np.object_]
"""N texts (members of a StrEnum are texts); None and '' both mean: none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleColumns:
    """What a decision needs to know of N samples."""

    sample_id: TextColumn
    """Unique in a run."""

    task: TextColumn
    """Task subset; each is cut on its own."""

    modality: TextColumn
    """Values of records.Modality."""

    reason: TextColumn
    """Why the row itself cannot be used; '' or None if it can."""

    media_reason: TextColumn
    """Why the row's media cannot be used; '' or None if it can or there is none."""

    score: NDArray[np.float64]
    """The measure's score of the row's clip, in the measure's own units; NaN where none."""

    dropped: TextColumn | None = None
    """Why rows go that could be used: reasons of filters and of duplicates, '' or None for a row
    that stays; None where none of them goes."""

    dataset: TextColumn | None = None
    """Which dataset each comes from; None where that decides nothing."""

    held: TextColumn | None = None
    """Why videos stay whatever the threshold, members of records.KEEP_REASONS, '' or None for one
    that does not; None where none does."""

    def __post_init__(self) -> None:
        _check_lengths(self)

    def __len__(self) -> int:
        return len(self.sample_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decisions:
    """What was decided for N samples, in their order."""

    decision: NDArray[np.object_]
    """str, a value of records.Outcome."""

    reason: NDArray[np.object_]
    """str, a value of records.Reason or a filter's own (records.OWN_REASON)."""

    score: NDArray[np.float64]
    """As given."""

    threshold: NDArray[np.float64]
    """Of the row's task subset, in the measure's own units; NaN for rows that took no part."""

    def __post_init__(self) -> None:
        _check_lengths(self)

    def __len__(self) -> int:
        return len(self.decision)


def decide(
    samples: SampleColumns,
    *,
    thresholds: Mapping[str, Target],
    default: Target,
    measure: Measure,
    weights: Mapping[str, float] | None = None,
    costs: RowCosts | None = None,
    measures: Mapping[str, Measure] | None = None,
) -> Decisions:
    """Decide for every sample: quarantine, keep, prune or duplicate.

    A row with a reason of its own or of its media is quarantined (its own reason goes first), a row
    that is dropped ends by what it is dropped for; text and single images are kept; the videos that
    are left are cut per task subset.

    Args:
        samples: N rows.
        thresholds: by task; see `check_tasks` for names that no row has.
        default: for every other task.
        measure: whose scores they are.
        weights: by task, for a default that is a budget; see `budgets.resolve`.
        costs: of the N rows; budgets need them.
        measures: whose the scores of a task are, where that is another measure.

    Returns:
        One decision a sample, in input order.

    Raises:
        RuntimeError: a video without reason has no score, a modality is unknown, or a row is
            dropped for no known reason: our bug.
        UserError: a fixed threshold is outside the measure's range, or a budget cannot be met.
    """
    sample_id_N, task_N, modality_N = map(
        _objects, (samples.sample_id, samples.task, samples.modality)
    )
    own_N, media_N = _objects(samples.reason), _objects(samples.media_reason)
    reason_N = np.where(own_N.astype(np.bool_), own_N, media_N)
    lost_N = reason_N.astype(np.bool_)
    dropped_N = _objects([""] * len(samples) if samples.dropped is None else samples.dropped)
    dropped_N = np.where(lost_N, "", dropped_N)
    gone_N = lost_N | dropped_N.astype(np.bool_)
    held_N = _held(samples, gone_N)
    video_N = ~gone_N & (modality_N == Modality.VIDEO) & ~held_N.astype(np.bool_)
    image_N = ~gone_N & (modality_N == Modality.IMAGE)
    text_N = ~gone_N & (modality_N == Modality.TEXT)
    kept_N = held_N.astype(np.bool_)
    _refuse(~(gone_N | video_N | kept_N | image_N | text_N), sample_id_N, "has no known modality")
    scoreless_N = video_N & ~np.isfinite(samples.score)
    _refuse(scoreless_N, sample_id_N, "is a video with no score or reason")

    decision_N = np.full(len(samples), Outcome.KEEP.value, dtype=np.object_)
    threshold_N = np.full(len(samples), np.nan)
    decision_N[lost_N] = Outcome.QUARANTINE.value
    reason_N[lost_N] = [str(reason) for reason in reason_N[lost_N]]
    _drop(np.flatnonzero(gone_N & ~lost_N), dropped_N, decision_N, reason_N)
    reason_N[image_N] = Reason.IMAGE.value
    reason_N[text_N] = Reason.TEXT_ONLY.value
    reason_N[kept_N] = held_N[kept_N]
    if any(isinstance(target, Budget) for target in (default, *thresholds.values())):
        if costs is None:
            raise ValueError("budgets need the rows' costs")
        rows = RowsToCut(
            sample_id_N=sample_id_N, task_N=task_N, score_N=samples.score,
            cut_N=video_N, kept_N=image_N | kept_N, costs=costs,
        )  # fmt: skip
        thresholds, default = resolve(thresholds, default, weights or {}, rows, measure, measures)
    for task, row_M in _rows_by_task(task_N, np.flatnonzero(video_N)).items():
        spec = thresholds.get(task, default)
        assert not isinstance(spec, Budget)  # all of them are numbers of rows by now
        own = (measures or {}).get(task, measure)
        done = cut(spec, samples.score[row_M], sample_id_N[row_M].tolist(), own)
        pruned_M = row_M[~done.keep_N]
        threshold_N[row_M] = done.threshold
        reason_N[row_M] = Reason.WITHIN_THRESHOLD.value
        reason_N[pruned_M] = own.reason.value
        decision_N[pruned_M] = Outcome.PRUNE.value
    return Decisions(
        decision=decision_N, reason=reason_N, score=samples.score.copy(), threshold=threshold_N
    )


def rows_to_cut(samples: SampleColumns) -> NDArray[np.bool_]:
    """Mark the rows about which a threshold decides: usable videos that neither go nor are held."""
    gone_N = _objects(samples.reason).astype(np.bool_)
    for column in (samples.media_reason, samples.dropped, samples.held):
        if column is not None:
            gone_N |= _objects(column).astype(np.bool_)
    cut_N: NDArray[np.bool_] = ~gone_N & (_objects(samples.modality) == Modality.VIDEO)
    return cut_N


def _held(samples: SampleColumns, gone_N: NDArray[np.bool_]) -> NDArray[np.object_]:
    """Return the reasons of videos that are kept whatever the threshold, '' for all other rows."""
    held_N = _objects([""] * len(samples) if samples.held is None else samples.held)
    is_video_N = _objects(samples.modality) == Modality.VIDEO
    return np.where(gone_N | ~is_video_N | (held_N == None), "", held_N)  # noqa: E711


def _drop(
    row_M: NDArray[np.intp],
    dropped_N: NDArray[np.object_],
    decision_N: NDArray[np.object_],
    reason_N: NDArray[np.object_],
) -> None:
    """Record how rows end that are dropped before any threshold."""
    for row in row_M.tolist():
        reason = str(dropped_N[row])
        outcome = outcome_of(reason)
        if outcome is None or not is_excluding(reason):
            raise RuntimeError(
                f"{reason!r} is no reason for which rows are dropped; this is a bug in a stage"
            )
        decision_N[row], reason_N[row] = outcome.value, reason


def check_tasks(
    tasks: Iterable[str], tasks_present: Iterable[str], *, where: str = "thresholds"
) -> None:
    """Check that every task with a threshold of its own, or a filter, has rows.

    Args:
        tasks: that a setting names.
        tasks_present: that rows have, or may have.
        where: the setting.

    Raises:
        UserError: no row has such a task: the setting would silently do nothing.
    """
    present = set(tasks_present)
    for task in tasks:
        if task not in present:
            raise unknown_name(f"task in {where}", task, present)


@dataclass(frozen=True, slots=True)
class Accounting:
    """How many samples came in, and where they ended."""

    num_samples: int
    """Samples that came in."""

    counts: Mapping[tuple[str, str, str], int]
    """Decisions by (task, outcome, reason), sorted."""

    def per_task(self) -> dict[str, dict[str, int]]:
        """Return counts by task, then by each of the four outcomes, zeros included."""
        tasks = {task: {outcome.value: 0 for outcome in Outcome} for task, _, _ in self.counts}
        for (task, outcome, _), number in self.counts.items():
            tasks[task][outcome] = tasks[task].get(outcome, 0) + number
        return tasks

    def per_reason(self) -> dict[str, int]:
        """Return counts by reason, in the order of reasons' names."""
        reasons: Counter[str] = Counter()
        for (_, _, reason), number in self.counts.items():
            reasons[reason] += number
        return dict(sorted(reasons.items()))

    def check(self) -> None:
        """Check that no sample is lost, none counted twice and every reason fits its outcome.

        Raises:
            RuntimeError: otherwise; always our bug.
        """
        for (task, outcome, reason), number in self.counts.items():
            if outcome_of(reason) != outcome:
                raise RuntimeError(
                    f"{number} samples of task {task!r} have outcome {outcome!r} with reason "
                    f"{reason!r}, which does not belong to it; this is a bug in a stage"
                )
        if (decided := sum(self.counts.values())) != self.num_samples:
            raise RuntimeError(
                f"{self.num_samples} samples came in, {decided} are accounted for "
                f"({self.per_task()}); this is a bug in a stage"
            )


def account(decisions: Decisions, samples: SampleColumns) -> Accounting:
    """Count decisions by task, outcome and reason; `check()` the result.

    Columns of different lengths are counted to the longer one, so that `check` sees the difference.
    """
    rows = zip_longest(samples.task, decisions.decision, decisions.reason, fillvalue="")
    return Accounting(len(samples), dict(sorted(Counter(rows).items())))


def _objects(column: TextColumn) -> NDArray[np.object_]:
    return np.asarray(column, dtype=np.object_)


def _check_lengths(columns: Any) -> None:
    values = {field.name: getattr(columns, field.name) for field in fields(columns)}
    lengths = {name: len(value) for name, value in values.items() if value is not None}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"columns must have the same length, got {lengths}")


def _refuse(bad_N: NDArray[np.bool_], sample_id_N: NDArray[np.object_], what: str) -> None:
    if bad_N.any():
        raise RuntimeError(
            f"sample {sample_id_N[int(bad_N.argmax())]!r} {what} ({int(bad_N.sum())} of "
            f"{len(bad_N)} samples); this is a bug in a stage"
        )


def _rows_by_task(
    task_N: NDArray[np.object_], row_M: NDArray[np.intp]
) -> dict[str, NDArray[np.intp]]:
    """Return the rows of each task, ascending, in one pass however many tasks there are."""
    code_of: dict[str, int] = {}
    codes = (code_of.setdefault(task, len(code_of)) for task in task_N[row_M])
    code_M = np.fromiter(codes, dtype=np.int64, count=len(row_M))
    sorted_M = row_M[np.argsort(code_M, kind="stable")]
    ends = np.cumsum(np.bincount(code_M, minlength=len(code_of)))
    return dict(zip(code_of, np.split(sorted_M, ends[:-1]), strict=False))
