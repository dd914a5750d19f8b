"""Ways of cutting a finished run: which rows a threshold keeps, and then its datasets' rows.

Shapes: N rows of a run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from vxp_data.core.budgets import resolve
from vxp_data.core.dataset_rows import DatasetRows, RowsRule, is_cut_by_rows
from vxp_data.core.decisions import Decisions, SampleColumns
from vxp_data.core.thresholds import cut
from vxp_data.pipeline.curate.mixture_rows import Targets, cut_datasets
from vxp_data.pipeline.inspect.plan_rows import PlanRows
from vxp_data.pipeline.run_record import threshold_text
from vxp_data.records import Modality, Outcome, Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """What one way of cutting keeps of a run."""

    texts: Mapping[str, str]
    """By task, its threshold as recipes have it."""
    thresholds: Mapping[str, float]
    """By task, in its scale's own units; NaN where there is none, or one for each dataset."""
    rows: Mapping[str, NDArray[np.intp]]
    """By task, the rows it keeps of those that a threshold may drop."""
    always_M: NDArray[np.intp]
    """Rows that it keeps whatever the threshold."""
    datasets: tuple[DatasetRows, ...]

    @classmethod
    def of(
        cls,
        rows: PlanRows,
        orders: Mapping[str, NDArray[np.intp]],
        targets: Targets,
        weights: Mapping[str, float],
        rule: RowsRule,
    ) -> Self:
        """Cut every subset, then every dataset.

        Args:
            rows: of the run.
            orders: by task, its rows that may be cut, the first to be kept first.
            targets: how much to keep, by task and of every other.
            weights: by task, for a default that is a budget.
            rule: how many rows of each dataset stay.

        Raises:
            UserError: a threshold does not fit, or a budget cannot be met.
        """
        by_task, default = targets
        any_scale = next(iter(rows.scales.values()))  # each subset with rows has its own
        specs, spec = resolve(by_task, default, weights, rows.to_cut(), any_scale, rows.scales)
        thresholds, kept_N = {}, rows.always_N.copy()
        for task, order_M in orders.items():
            names = rows.sample_id_N[order_M].tolist()
            done = cut(specs.get(task, spec), rows.score_N[order_M], names, rows.scales[task])
            by_rows = is_cut_by_rows(by_task.get(task, default))
            thresholds[task] = float("nan") if by_rows else done.threshold
            kept_N[order_M[done.keep_N]] = True
        left_N, datasets = _cut_datasets(rows, kept_N, rule, targets)
        return cls(
            texts={task: threshold_text(by_task.get(task, default)) for task in orders},
            thresholds=thresholds,
            rows={task: order_M[left_N[order_M]] for task, order_M in orders.items()},
            always_M=np.flatnonzero(left_N & rows.always_N),
            datasets=datasets,
        )

    def cut_rows(self) -> NDArray[np.intp]:
        """Return the rows that it keeps of those that a threshold may drop, of all tasks."""
        return np.concatenate([np.zeros(0, dtype=np.intp), *self.rows.values()])

    def kept_rows(self) -> NDArray[np.intp]:
        """Return all rows that it keeps."""
        return np.concatenate([self.cut_rows(), self.always_M])


def _cut_datasets(
    rows: PlanRows, kept_N: NDArray[np.bool_], rule: RowsRule, targets: Targets
) -> tuple[NDArray[np.bool_], tuple[DatasetRows, ...]]:
    """Return which of the rows that thresholds keep are left, and the counts of the datasets."""
    blank_N = np.full(len(kept_N), "", dtype=np.object_)
    samples = SampleColumns(
        sample_id=rows.sample_id_N,
        task=rows.task_N,
        modality=np.where(rows.cut_N, Modality.VIDEO.value, Modality.IMAGE.value).astype(object),
        reason=blank_N,
        media_reason=blank_N,
        score=rows.score_N,
        dataset=rows.dataset_N,
    )
    stay, go = Outcome.KEEP.value, Outcome.PRUNE.value
    reason_N = np.where(rows.cut_N, Reason.WITHIN_THRESHOLD.value, Reason.IMAGE.value)
    decisions = Decisions(
        decision=np.where(kept_N, stay, go).astype(object),
        reason=np.where(kept_N, reason_N, Reason.REDUNDANT.value).astype(object),
        score=rows.score_N,
        threshold=np.full(len(kept_N), np.nan),
    )
    left, counts = cut_datasets(samples, decisions, rule, rows.scales, targets)
    left_N: NDArray[np.bool_] = left.decision == stay
    return left_N, counts
