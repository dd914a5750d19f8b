"""`vxp-data plan`: what every threshold would keep of a finished run, and cost. Writes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vxp_data.core.budgets import Budget, Target, resolve
from vxp_data.core.cost_model import RowCosts
from vxp_data.core.decisions import check_tasks
from vxp_data.core.keep_curve import (
    Bought,
    Kept,
    RunPlan,
    SubsetPlan,
    joint_curve,
    keep_curve,
)
from vxp_data.core.per_cost import PER, Per
from vxp_data.core.thresholds import ThresholdSpec, cut
from vxp_data.errors import UserError
from vxp_data.pipeline.curate.outside_scores import ScoreFile, read_score_file
from vxp_data.pipeline.curate.selection import DecidedBy
from vxp_data.pipeline.inspect.asked import asked_table, read_asked
from vxp_data.pipeline.inspect.plan_rows import PlanRows, keep_orders, read_plan_rows
from vxp_data.pipeline.redecide import changed_config
from vxp_data.pipeline.run_dir.directory import RunDirectory
from vxp_data.records import Task
from vxp_data.settings.curation import is_on_scores
from vxp_data.settings.prune import PruneConfig, load_config

SETTABLE: Final = (
    "budget_weights", "costs", "measure", "sampling", "select", "selection", "thresholds",
)  # fmt: skip
"""Sections of the settings that a plan goes by."""


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
    scores: ScoreFile | None = None,
    per: Per | None = None,
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
        scores: a file of scores, which is read and not kept.
        per: what the order is by.

    Raises:
        UserError: there is no finished run, a threshold does not fit, a budget cannot be met, or
            rows have no score; or a setting is one that a plan has no use for.
    """
    _check_settable(overrides)
    found, table = (None, None) if scores is None else read_score_file(run, scores)
    decided = load_config(None, run_settings=run.read_run()["config"]).config
    config = changed_config(
        load_config(None, overrides, run_settings=decided.model_dump(mode="json")).config,
        measure=measure,
        thresholds=thresholds,
        default=default,
        weights=weights,
        tokens_per_gpu_hour=tokens_per_gpu_hour,
        select=select,
        scores=found,
        per=per,
    )
    is_other = thresholds or default is not None or weights or select or found or per
    return plan_run(
        run, decided, config if is_other else None,
        config=config, num_points=num_points, brought=table,
    )  # fmt: skip


def _check_settable(overrides: Sequence[tuple[str, Any, str]]) -> None:
    for key, _, origin in overrides:
        section = key.partition(".")[0]
        if section in ("filters", "duplicates"):
            raise UserError(
                f"{origin}: `plan` looks at the rows that filters and duplicates left in the last "
                "decision. `vxp-data decide` with this setting shows what it leaves; it takes "
                "seconds, and can be decided back."
            )
        if section not in SETTABLE:
            raise UserError(
                f"{origin}: `plan` takes settings of the sections {', '.join(SETTABLE)}; another "
                "setting changes nothing that it shows."
            )


def plan_run(
    run: RunDirectory,
    decided: PruneConfig,
    chosen: PruneConfig | None,
    *,
    config: PruneConfig,
    num_points: int,
    brought: pa.Table | None = None,
) -> RunPlan:
    """Return the keep curves of a finished run, in seconds.

    Args:
        run: the run.
        decided: its own settings: what is kept now.
        chosen: settings with other thresholds, to see what they would keep; None: no others.
        config: for the measure, the sampling rule and the cost model.
        num_points: points of a curve, at most.
        brought: the user's scores that `config` names, where they are not in the run.

    Raises:
        UserError: a threshold does not fit, or a budget cannot be met.
    """
    rows = read_plan_rows(run, config, brought)
    orders = keep_orders(rows)
    ways: dict[str, tuple[Mapping[str, Target], Target]] = {}
    by = DecidedBy.of(config)
    if not by.per_cost and all(by.selector(task) is None for task in orders):  # else a mere order
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
    joined = {name: _joined(by_task) for name, by_task in kept_by.items()}
    asked = read_asked(run, rows)
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
                _named(name, "", float("nan"), row_M, rows.costs) for name, row_M in joined.items()
            ),
        ),
        always=_costs(rows.costs, np.flatnonzero(rows.always_N)),
        num_out=int((~rows.cut_N & ~rows.always_N).sum()),
        asked=asked_table(asked, rows, joined),
        asked_of_all=asked.is_whole,
        bought=() if chosen is None else _bought(rows, chosen, joined["chosen"]),
    )


def _bought(rows: PlanRows, chosen: PruneConfig, kept_M: NDArray[np.intp]) -> tuple[Bought, ...]:
    """Return what a budget buys by row and by cost; nothing where neither is asked for."""
    targets, default = chosen.threshold_specs(), chosen.default_threshold()
    every = (default, *targets.values())
    has_budget = any(isinstance(target, Budget) for target in every)
    is_asked = has_budget or chosen.selection.per == "cost"
    if not is_asked or any(map(is_on_scores, every)):
        return ()
    found = []
    for per in PER:
        row_M = kept_M  # by the chosen order
        if per != chosen.selection.per:
            other = rows.ordered_per(per)
            kept = _kept(other, keep_orders(other), targets, default, chosen.budget_weights)
            row_M = _joined(kept)
        costs = _costs(rows.costs, row_M)
        found.append(Bought(per=per, costs=costs, quality=float(rows.quality_N[row_M].sum())))
    return tuple(found)


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
