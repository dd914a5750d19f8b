"""`vxp-data plan`: what every threshold would keep of a finished run, and cost. Writes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vxp_data.core.budgets import RowsToCut, Target, resolve, subset_order
from vxp_data.core.cost_model import RowCosts
from vxp_data.core.decisions import check_tasks
from vxp_data.core.keep_curve import Kept, RunPlan, SubsetPlan, joint_curve, keep_curve
from vxp_data.core.similarity import Measure
from vxp_data.core.thresholds import ThresholdSpec, cut
from vxp_data.pipeline.curate.exclude import relinked_samples
from vxp_data.pipeline.curate.selection import DecidedBy, put_in_order
from vxp_data.pipeline.redecide import changed_config
from vxp_data.pipeline.run_dir.clip_facts import few_texts, read_clip_facts, row_costs
from vxp_data.pipeline.run_dir.directory import RunDirectory, read_table
from vxp_data.records import CUT_REASONS, Modality, Outcome, Task
from vxp_data.schemas import SAMPLE_CLIP_KEY
from vxp_data.settings.prune import PruneConfig, load_config


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRows:
    """The rows of a finished run, as plan, compare and report look at them."""

    sample_id_N: NDArray[np.object_]
    task_N: NDArray[np.object_]
    score_N: NDArray[np.float64]
    """Of what each subset goes by."""
    scales: Mapping[str, Measure]
    """Whose the scores are, by task."""
    cut_N: NDArray[np.bool_]
    """Rows about which the threshold decided."""
    kept_N: NDArray[np.bool_]
    """Rows that the run keeps."""
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
            kept_N=self.kept_N & ~self.cut_N,
            costs=self.costs,
        )


def read_plan_rows(run: RunDirectory, config: PruneConfig) -> PlanRows:
    """Read a finished run's rows, with what they cost.

    Args:
        run: the run.
        config: for the measure or selectors, the sampling rule and the cost model.
    """
    record = run.read_run()
    columns = ["sample_id", "dataset", "task", "modality", "reason", *SAMPLE_CLIP_KEY, "clips"]
    samples = read_table(run.samples, columns=columns)
    samples = relinked_samples(run, samples)
    decisions = read_table(
        run.decisions, columns=["sample_id", "task", "decision", "reason", "threshold"]
    )
    clips = read_clip_facts(run, samples, config.measure)
    modality_N = few_texts(samples["modality"])
    reason_N = few_texts(decisions["reason"])
    out_N = np.where(np.isin(reason_N.astype(str), sorted(CUT_REASONS)), "", reason_N)
    cut_N = (out_N == "") & (modality_N == Modality.VIDEO)
    # A row that is out, or is kept whatever the threshold, takes no part in a selection.
    gone_N = np.where(modality_N == Modality.VIDEO, out_N, "")
    decided_by = DecidedBy.of(config)
    ordered = put_in_order(
        run,
        samples,
        clips,
        gone_N,
        decided_by,
        encoder=record["encoder"]["fingerprint"],
        sampler=record["sampler"],
        stored=decided_by == DecidedBy.of(PruneConfig.model_validate(record["config"])),
    )
    return PlanRows(
        sample_id_N=decisions["sample_id"].to_numpy(),
        task_N=few_texts(decisions["task"]),
        score_N=ordered.columns.score,
        scales=decided_by.scales(few_texts(decisions["task"])),
        cut_N=cut_N,
        kept_N=few_texts(decisions["decision"]) == Outcome.KEEP.value,
        threshold_N=decisions["threshold"].to_numpy(),
        frames_there_N=clips.num_frames_N,
        costs=row_costs(clips, modality_N, config.sampling, config.costs),
    )


def plan_choice(
    run: RunDirectory,
    *,
    measure: str | None,
    thresholds: Mapping[str, Target],
    default: Target | None,
    weights: Mapping[str, float] | None,
    tokens_per_gpu_hour: float | None,
    overrides: Sequence[tuple[str, Any, str]] = (),
    num_points: int,
    select: Mapping[str, str] | None = None,
) -> RunPlan:
    """Return the keep curves of a finished run, and what other thresholds would keep of it.

    Args:
        run: the run.
        measure: another measure, or None for the run's; so on for the next ones as in `redecide`.
        thresholds: by task.
        default: for the other tasks.
        weights: of a default that is a budget, by task.
        tokens_per_gpu_hour: for costs in GPU hours.
        overrides: (dotted key, value, origin) over the run's own settings.
        num_points: points of a curve, at most.
        select: selectors by task.

    Raises:
        UserError: there is no finished run, a threshold does not fit, or a budget cannot be met.
    """
    decided = load_config(None, run_settings=run.read_run()["config"]).config
    config = changed_config(
        load_config(None, overrides, run_settings=decided.model_dump(mode="json")).config,
        measure=measure,
        thresholds=thresholds,
        default=default,
        weights=weights,
        tokens_per_gpu_hour=tokens_per_gpu_hour,
        select=select,
    )
    chosen = config if thresholds or default is not None or weights or select else None
    return plan_run(run, decided, chosen, config=config, num_points=num_points)


def plan_run(
    run: RunDirectory,
    decided: PruneConfig,
    chosen: PruneConfig | None,
    *,
    config: PruneConfig,
    num_points: int,
) -> RunPlan:
    """Return the keep curves of a finished run, in seconds.

    Args:
        run: the run.
        decided: its own settings: what is kept now.
        chosen: settings with other thresholds, to see what they would keep; None: no others.
        config: for the measure, the sampling rule and the cost model.
        num_points: points of a curve, at most.

    Raises:
        UserError: a threshold does not fit, or a budget cannot be met.
    """
    rows = read_plan_rows(run, config)
    orders = keep_orders(rows)
    ways: dict[str, tuple[Mapping[str, Target], Target]] = {}
    selects = [task for task in orders if DecidedBy.of(config).selector(task) is not None]
    if not selects:  # the scores of a selector have no knee
        ways["knee"] = ({}, ThresholdSpec("knee", 0.0))
    if chosen is not None:
        tasks = {*rows.task_N.tolist(), *Task}
        check_tasks(chosen.threshold_specs(), tasks)
        check_tasks(set(chosen.select) - {"default"}, tasks, where="select")
        ways["chosen"] = (chosen.threshold_specs(), chosen.default_threshold())
    weights = chosen.budget_weights if chosen is not None else {}
    kept_by: dict[str, dict[str, tuple[str, float, NDArray[np.intp]]]] = {"now": {}}
    for task, order_M in orders.items():
        # The run's own threshold is on its own scale.
        same = DecidedBy.of(decided).scale(task) == rows.scales[task]
        threshold = float(rows.threshold_N[order_M[0]]) if same else float("nan")
        text = decided.thresholds.get(task, decided.thresholds["default"])
        kept_by["now"][task] = (text, threshold, order_M[rows.kept_N[order_M]])
    for name, (targets, default) in ways.items():
        kept_by[name] = _kept(rows, orders, targets, default, weights)
    always_A = np.flatnonzero(rows.kept_N & ~rows.cut_N)
    return RunPlan(
        measure=rows.decided_by(),
        units=rows.costs.units(),
        num_rows=len(rows.task_N),
        subsets=tuple(
            SubsetPlan(
                task=task,
                curve=keep_curve(order_M, rows.score_N, rows.costs, num_points=num_points),
                kept=tuple(_named(name, *kept_by[name][task], rows.costs) for name in kept_by),
            )
            for task, order_M in orders.items()
        ),
        joint=SubsetPlan(
            task="all",
            curve=joint_curve(list(orders.values()), rows.costs, num_points=num_points),
            kept=tuple(
                _named(name, "", float("nan"), _joined(by_task), rows.costs)
                for name, by_task in kept_by.items()
            ),
        ),
        always=_costs(rows.costs, always_A),
        num_out=int((~rows.cut_N & ~rows.kept_N).sum()),
    )


def _kept(
    rows: PlanRows,
    orders: Mapping[str, NDArray[np.intp]],
    targets: Mapping[str, Target],
    default: Target,
    weights: Mapping[str, float],
) -> dict[str, tuple[str, float, NDArray[np.intp]]]:
    """Cut every subset; return, by task, the threshold as text and number, and the rows kept."""
    from vxp_data.pipeline.run_record import threshold_text

    any_scale = next(iter(rows.scales.values()))  # each subset with rows has its own
    to_cut = rows.to_cut()
    specs, default_spec = resolve(targets, default, weights, to_cut, any_scale, rows.scales)
    kept = {}
    for task, order_M in orders.items():
        names = rows.sample_id_N[order_M].tolist()
        spec = specs.get(task, default_spec)
        done = cut(spec, rows.score_N[order_M], names, rows.scales[task])
        text = threshold_text(targets.get(task, default))
        kept[task] = (text, done.threshold, order_M[done.keep_N])
    return kept


def _named(
    name: str, text: str, threshold: float, row_M: NDArray[np.intp], costs: RowCosts
) -> Kept:
    return Kept(name=name, text=text, threshold=threshold, costs=_costs(costs, row_M))


def _costs(costs: RowCosts, row_M: NDArray[np.intp]) -> dict[str, float]:
    return {unit: costs.total(row_M, unit) for unit in costs.units()}


def _joined(by_task: Mapping[str, tuple[str, float, NDArray[np.intp]]]) -> NDArray[np.intp]:
    return np.concatenate(
        [np.zeros(0, dtype=np.intp), *(row_M for _, _, row_M in by_task.values())]
    )


def keep_orders(rows: PlanRows) -> dict[str, NDArray[np.intp]]:
    """Return, by task, the rows that may be cut, the first to be kept first."""
    tasks = sorted({str(task) for task in rows.task_N[rows.cut_N].tolist()})
    to_cut = rows.to_cut()
    return {task: subset_order(to_cut, task, rows.scales[task]) for task in tasks}
