"""The rows of a finished run, as plan, compare and report look at them.

Shapes: N rows of a run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vxp_data.core.budgets import RowsToCut, subset_order
from vxp_data.core.cost_model import RowCosts
from vxp_data.core.decisions import rows_to_cut
from vxp_data.core.per_cost import Per, per_cost
from vxp_data.core.similarity import Measure, outside_scale
from vxp_data.pipeline.curate.exclude import relinked_samples
from vxp_data.pipeline.curate.selection import DecidedBy, put_in_order
from vxp_data.pipeline.run_dir.clip_facts import few_texts, read_clip_facts, row_costs
from vxp_data.pipeline.run_dir.directory import RunDirectory, read_table
from vxp_data.records import CUT_REASONS, Modality, Outcome, Reason
from vxp_data.schemas import SAMPLE_CLIP_KEY
from vxp_data.settings.prune import PruneConfig

_OPEN_REASONS = sorted(CUT_REASONS | {Reason.UNSCORED, Reason.KEPT_UNSCORED, Reason.DATASET_EXCESS})
"""Of rows about which a threshold decides, or would by other scores."""
_NO_FRAMES = (Reason.IMAGE.value, Reason.TEXT_ONLY.value, Reason.DATASET_EXCESS.value)
"""Of images and texts that stay, unless their dataset has too many rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRows:
    """The rows of a finished run, by what is to be decided about them."""

    sample_id_N: NDArray[np.object_]
    dataset_N: NDArray[np.object_]
    task_N: NDArray[np.object_]
    score_N: NDArray[np.float64]
    """Of what each subset goes by."""
    scales: Mapping[str, Measure]
    """Whose the scores are, by task."""
    quality_N: NDArray[np.float64]
    """Ranks, whatever rows cost; see core.per_cost. NaN for rows that are not cut."""
    cut_N: NDArray[np.bool_]
    """Rows about which a threshold decides."""
    always_N: NDArray[np.bool_]
    """Rows that are kept whatever the threshold, as far as their dataset's rows allow."""
    kept_N: NDArray[np.bool_]
    """Rows that the run keeps."""
    usable_N: NDArray[np.bool_]
    """Rows that are not quarantined."""
    threshold_N: NDArray[np.float64]
    """At which the run cut them; NaN for the others."""
    frames_there_N: NDArray[np.float64]
    """Frames in each row's clip, about; see ClipFacts.num_frames_N."""
    costs: RowCosts

    def decided_by(self) -> str:
        """Name what the rows go by: of several subsets each once."""
        return ", ".join(dict.fromkeys(scale.name for scale in self.scales.values()))

    def to_cut(self) -> RowsToCut:
        """Return the same rows as the budgets take them."""
        return RowsToCut(
            sample_id_N=self.sample_id_N,
            task_N=self.task_N,
            score_N=self.score_N,
            cut_N=self.cut_N,
            kept_N=self.always_N,
            costs=self.costs,
        )

    def ordered_per(self, per: Per) -> Self:
        """Return the same rows in the order of their quality, or of quality per cost."""
        score_N = self.quality_N.copy()
        if per == "cost":
            row_M = np.flatnonzero(self.cut_N)
            score_N[row_M] = per_cost(score_N[row_M], self.costs.tokens_N[row_M])
        return replace(
            self, score_N=score_N, scales=dict.fromkeys(self.scales, outside_scale(f"per {per}"))
        )


def read_plan_rows(
    run: RunDirectory, config: PruneConfig, brought: pa.Table | None = None
) -> PlanRows:
    """Read a finished run's rows, with what they cost.

    Args:
        run: the run.
        config: for the measure or selectors, the sampling rule and the cost model.
        brought: the user's scores that `config` names, where they are not in the run.
    """
    record = run.read_run()
    columns = ["sample_id", "dataset", "task", "modality", "reason", *SAMPLE_CLIP_KEY, "clips"]
    samples = read_table(run.samples, columns=columns)
    samples = relinked_samples(run, samples)
    decisions = read_table(
        run.decisions, columns=["sample_id", "task", "decision", "reason", "threshold"]
    )
    clips = read_clip_facts(run, samples, config.measure)
    is_video_N = few_texts(samples["modality"]) == Modality.VIDEO
    reason_N = few_texts(decisions["reason"])
    # A row that is out, or is kept whatever the threshold, takes no part in a selection.
    gone_N = np.where(np.isin(reason_N.astype(str), _OPEN_REASONS) | ~is_video_N, "", reason_N)
    decided_by = DecidedBy.of(config)
    costs = row_costs(clips, few_texts(samples["modality"]), config.sampling, config.costs)
    ordered = put_in_order(
        run,
        samples,
        clips,
        gone_N,
        decided_by,
        encoder=record["encoder"]["fingerprint"],
        sampler=record["sampler"],
        tokens_N=costs.tokens_N,
        stored=decided_by == DecidedBy.of(PruneConfig.model_validate(record["config"])),
        brought=brought,
    )
    decision_N = few_texts(decisions["decision"])
    kept_N, cut_N = decision_N == Outcome.KEEP.value, rows_to_cut(ordered.columns)
    held_N = ordered.columns.held
    assert held_N is not None  # it always says who is held
    is_held_N = is_video_N & (np.asarray(held_N, dtype=object) != "")
    return PlanRows(
        sample_id_N=decisions["sample_id"].to_numpy(),
        dataset_N=few_texts(samples["dataset"]),
        task_N=few_texts(decisions["task"]),
        score_N=ordered.columns.score,
        scales=decided_by.scales(few_texts(decisions["task"])),
        quality_N=ordered.quality_N,
        cut_N=cut_N,
        always_N=is_held_N | (np.isin(reason_N.astype(str), _NO_FRAMES) & ~is_video_N),
        kept_N=kept_N,
        usable_N=decision_N != Outcome.QUARANTINE.value,
        threshold_N=decisions["threshold"].to_numpy(),
        frames_there_N=clips.num_frames_N,
        costs=costs,
    )


def keep_orders(rows: PlanRows) -> dict[str, NDArray[np.intp]]:
    """Return, by task, the rows that may be cut, the first to be kept first."""
    tasks = sorted({str(task) for task in rows.task_N[rows.cut_N].tolist()})
    to_cut = rows.to_cut()
    return {task: subset_order(to_cut, task, rows.scales[task]) for task in tasks}
