"""`vxp-data plan`: what every threshold would keep of a finished run, and cost. Writes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vxp_data.core.budgets import Budget, Target
from vxp_data.core.cost_model import RowCosts
from vxp_data.core.dataset_rows import DatasetRows, RowsRule
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
from vxp_data.core.thresholds import ThresholdSpec
from vxp_data.errors import UserError
from vxp_data.pipeline.curate.mixture_rows import Targets, rows_rule
from vxp_data.pipeline.curate.outside_scores import ScoreFile, read_score_file
from vxp_data.pipeline.curate.selection import DecidedBy
from vxp_data.pipeline.inspect.asked import asked_table, read_asked
from vxp_data.pipeline.inspect.plan_rows import PlanRows, keep_orders, read_plan_rows
from vxp_data.pipeline.inspect.plan_ways import Way
from vxp_data.pipeline.redecide import changed_config
from vxp_data.pipeline.run_dir.directory import RunDirectory
from vxp_data.pipeline.run_dir.samples import dataset_from_facts
from vxp_data.pipeline.run_dir.summary import only_number
from vxp_data.pipeline.run_record import decided_from_record
from vxp_data.records import Task
from vxp_data.settings.curation import is_on_scores
from vxp_data.settings.prune import PruneConfig, load_config

SETTABLE: Final = (
    "budget_weights", "costs", "measure", "mixture", "sampling", "select", "selection",
    "thresholds",
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
    given = (thresholds, default, weights, select, found, per)
    by_settings = (config.mixture, config.thresholds) != (decided.mixture, decided.thresholds)
    is_other = by_settings or any(each not in (None, {}) for each in given)
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
    ways, rule = _ways(run, rows, orders, decided, chosen, config)
    last = ways["now" if chosen is None else "chosen"]
    asked = read_asked(run, rows)
    return RunPlan(
        measure=rows.decided_by(),
        units=rows.costs.units(),
        num_rows=len(rows.task_N),
        subsets=tuple(
            SubsetPlan(
                task=task,
                curve=keep_curve(order_M, rows.score_N, rows.costs, num_points=num_points),
                kept=tuple(
                    Kept(
                        name=name,
                        text=way.texts[task],
                        threshold=way.thresholds[task],
                        costs=_costs(rows.costs, way.rows[task]),
                    )
                    for name, way in ways.items()
                ),
            )
            for task, order_M in orders.items()
        ),
        joint=SubsetPlan(
            task="all",
            curve=joint_curve(list(orders.values()), rows.costs, num_points=num_points),
            kept=tuple(
                Kept(
                    name=name, text="", threshold=float("nan"),
                    costs=_costs(rows.costs, way.cut_rows()),
                )
                for name, way in ways.items()
            ),
        ),
        always=_costs(rows.costs, last.always_M),
        num_out=int((~rows.cut_N & ~rows.always_N).sum()),
        asked=asked_table(asked, rows, {name: way.kept_rows() for name, way in ways.items()}),
        asked_of_all=asked.is_whole,
        bought=() if chosen is None else _bought(rows, chosen, last.cut_rows(), rule),
        datasets=last.datasets,
    )  # fmt: skip


def _ways(
    run: RunDirectory,
    rows: PlanRows,
    orders: Mapping[str, NDArray[np.intp]],
    decided: PruneConfig,
    chosen: PruneConfig | None,
    config: PruneConfig,
) -> tuple[dict[str, Way], RowsRule]:
    """Return what is kept now, by the knee and as chosen, and the rows of the datasets."""
    record = run.read_run()
    choices: dict[str, Targets] = {}
    by = DecidedBy.of(config)
    if not by.per_cost and all(by.selector(task) is None for task in orders):  # else a mere order
        choices["knee"] = ({}, ThresholdSpec("knee", 0.0))
    if chosen is not None:
        tasks = {*rows.task_N.tolist(), *Task}
        check_tasks(chosen.threshold_specs(), tasks)
        check_tasks(set(chosen.select) - {"default"}, tasks, where="select")
        choices["chosen"] = (chosen.threshold_specs(), chosen.default_threshold())
    weights = chosen.budget_weights if chosen is not None else {}
    datasets = [dataset_from_facts(facts) for facts in record["datasets"]]
    targets = (config.threshold_specs(), config.default_threshold())
    rule = rows_rule(config.mixture, datasets, targets)
    ways = {"now": _now(rows, orders, decided, decided_from_record(record["decided"]).datasets)}
    for name, choice in choices.items():
        ways[name] = Way.of(rows, orders, choice, weights, rule)
    return ways, rule


def _now(
    rows: PlanRows,
    orders: Mapping[str, NDArray[np.intp]],
    decided: PruneConfig,
    datasets: tuple[DatasetRows, ...],
) -> Way:
    """Return the way in which the run was decided."""
    by, thresholds = DecidedBy.of(decided), {}
    for task, order_M in orders.items():
        # The run's own threshold is on its own scale.
        same = by.scale(task) == rows.scales[task]
        thresholds[task] = only_number(rows.threshold_N[order_M]) if same else float("nan")
    default = decided.thresholds["default"]
    return Way(
        texts={task: decided.thresholds.get(task, default) for task in orders},
        thresholds=thresholds,
        rows={task: order_M[rows.kept_N[order_M]] for task, order_M in orders.items()},
        always_M=np.flatnonzero(rows.kept_N & rows.always_N),
        datasets=datasets,
    )


def _bought(
    rows: PlanRows, chosen: PruneConfig, kept_M: NDArray[np.intp], rule: RowsRule
) -> tuple[Bought, ...]:
    """Return what a budget buys by row and by cost; nothing where neither is asked for."""
    targets = (chosen.threshold_specs(), chosen.default_threshold())
    every = (targets[1], *targets[0].values())
    has_budget = any(isinstance(target, Budget) for target in every)
    is_asked = has_budget or chosen.selection.per == "cost"
    if not is_asked or any(map(is_on_scores, every)):
        return ()
    found = []
    for per in PER:
        row_M = kept_M  # by the chosen order
        if per != chosen.selection.per:
            other = rows.ordered_per(per)
            way = Way.of(other, keep_orders(other), targets, chosen.budget_weights, rule)
            row_M = way.cut_rows()
        costs = _costs(rows.costs, row_M)
        found.append(Bought(per=per, costs=costs, quality=float(rows.quality_N[row_M].sum())))
    return tuple(found)


def _costs(costs: RowCosts, row_M: NDArray[np.intp]) -> dict[str, float]:
    return {unit: costs.total(row_M, unit) for unit in costs.units()}
