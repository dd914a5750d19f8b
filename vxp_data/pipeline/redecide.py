"""`vxp-data decide`: other thresholds for a finished run."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from vxp_data.core.budgets import Budget, Target
from vxp_data.core.per_cost import Per
from vxp_data.core.selectors.base import load_selector
from vxp_data.errors import UserError
from vxp_data.pipeline.curate.decide import Decided, DecisionSettings, decide_run
from vxp_data.pipeline.curate.outside_scores import ScoreFile, read_score_file, store_scores
from vxp_data.pipeline.run_dir.directory import RunDirectory, open_run
from vxp_data.pipeline.run_dir.lock import run_lock
from vxp_data.pipeline.run_dir.samples import dataset_from_facts
from vxp_data.pipeline.run_record import decided_record, threshold_text
from vxp_data.registry import MEASURES
from vxp_data.settings.curation import NO_SELECTOR, ScoresConfig, check_selectors
from vxp_data.settings.prune import PruneConfig, load_config

SETTABLE: Final = ("duplicates", "filters", "mixture", "selection")
"""Sections of the settings that decide, and need no video."""


def redecide(
    out: str | Path,
    *,
    measure: str | None,
    thresholds: Mapping[str, Target],
    default: Target | None,
    weights: Mapping[str, float] | None = None,
    tokens_per_gpu_hour: float | None = None,
    overrides: Sequence[tuple[str, Any, str]] = (),
    select: Mapping[str, str] | None = None,
    scores: ScoreFile | None = None,
    per: Per | None = None,
) -> tuple[Decided, str]:
    """Decide a finished run anew from its kept scores; touches no video.

    Args:
        out: the run directory; its decisions, kept and dropped rows are replaced.
        measure: another measure, or None for the run's; it decides, unless `select` is given too.
        thresholds: by task, over the run's; they replace all of them where `default` is given.
        default: for the other tasks, or None for the run's.
        weights: of a default that is a budget, by task; None: the run's, unless `default` is given.
        tokens_per_gpu_hour: for budgets in GPU hours; None: the run's.
        overrides: (dotted key, value, origin) over the run's own settings, of the sections in
            `SETTABLE`.
        select: selectors by task, and 'default', which replaces all; None: the run's.
        scores: a file of scores, which decide unless `select` is given too; None: the run's.
        per: what the order is by; None: the run's.

    Returns:
        What was decided, and what decided it.

    Raises:
        UserError: there is no finished run, or a threshold does not fit.
    """
    for key, _, origin in overrides:
        if key.partition(".")[0] not in SETTABLE:
            raise UserError(
                f"{origin}: `decide` takes settings of the sections {', '.join(SETTABLE)}; another "
                "setting is another run: `vxp-data prune`."
            )
    run = open_run(out)
    run.read_run(stopped=True)  # before a lock is put where no run is
    with run_lock(run.root, "vxp-data decide"):
        record = run.read_run(stopped=True)
        found, table = (None, None) if scores is None else read_score_file(run, scores)
        config = changed_config(
            load_config(None, overrides, run_settings=record["config"]).config,
            measure=measure,
            thresholds=thresholds,
            default=default,
            weights=weights,
            tokens_per_gpu_hour=tokens_per_gpu_hour,
            select=select,
            scores=found,
            per=per,
        )
        if found is not None and table is not None:
            store_scores(run, found, table)
        datasets = [dataset_from_facts(facts) for facts in record["datasets"]]
        settings = DecisionSettings.of(
            config, encoder=record["encoder"]["fingerprint"], sampler=record["sampler"]
        )
        begin = functools.partial(run.begin_change, record, "vxp-data decide")
        try:
            decided = decide_run(run, datasets, settings, begin)
        except UserError:
            before = PruneConfig.model_validate(record["config"])
            _remove_other_scores(run, before)
            raise
        _remove_other_scores(run, config)
        after = config.model_dump(mode="json")
        record["config_origin"] = _origins(record, after)
        record["config"] = after
        record["decided"] = decided_record(decided)
        run.write_run({k: v for k, v in record.items() if k != "sampled"})
    return decided, decided.decided_by


def _origins(record: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, str]:
    """Return where the settings of a run come from, now that some were changed."""
    before = {o.key: o.value for o in load_config(None, run_settings=record["config"]).origins}
    origins = record.get("config_origin", {})
    found = {}
    for setting in load_config(None, run_settings=after).origins:
        key = setting.key
        if key not in before or before[key] != setting.value:
            found[key] = "vxp-data decide"
        elif key in origins:
            found[key] = origins[key]
    return found


def _remove_other_scores(run: RunDirectory, config: PruneConfig) -> None:
    """Remove the scores of files that decide nothing any more."""
    kept = run.outside_scores(config.scores.sha256).name
    for name in run.root.names():
        if name.startswith("outside_scores-") and name != kept:
            run.root.remove(name)


def _check_scores_decide(select: Mapping[str, str]) -> None:
    """Refuse scores that are given together with selectors which read none.

    Raises:
        UserError: no subset goes by them.
    """
    names = {select.get("default", NO_SELECTOR), *select.values()}
    named = sorted(names - {NO_SELECTOR})
    if len(named) == len(names) and not _reads_scores(select):
        raise UserError(
            f"--scores: all subsets go by a selector that reads no scores ({', '.join(named)}). "
            "Leave --select out; or name the subset that a selector is for (--select "
            "caption=coverage), with --select none for all others; or --select text_blind, which "
            "reads them."
        )


def _reads_scores(select: Mapping[str, str]) -> bool:
    names = set(select.values()) - {NO_SELECTOR}
    return any("scores" in load_selector(name).needs for name in names)


def changed_config(
    config: PruneConfig,
    *,
    measure: str | None,
    thresholds: Mapping[str, Target],
    default: Target | None,
    weights: Mapping[str, float] | None,
    tokens_per_gpu_hour: float | None,
    select: Mapping[str, str] | None = None,
    scores: ScoresConfig | None = None,
    per: Per | None = None,
) -> PruneConfig:
    """Overlay what decides on a run's settings; see `redecide` for the arguments.

    Raises:
        UserError: an unknown measure, weights without a budget, or a number out of its range.
    """
    if measure is not None:
        MEASURES.require(measure)
        if select is None:  # what was said last decides
            config = config.model_copy(update={"select": {}, "scores": ScoresConfig()})
        elif not _reads_scores(select):
            config = config.model_copy(update={"scores": ScoresConfig()})
    if scores is not None:
        own_select = config.select if select else {}
        config = config.model_copy(update={"scores": scores, "select": own_select})
    own = {} if select and "default" in select else config.select
    texts = {task: threshold_text(target) for task, target in thresholds.items()}
    if default is not None:
        texts["default"] = threshold_text(default)
        weights = weights or {}
    changes: dict[str, Any] = {
        "measure": measure or config.measure,
        "thresholds": texts if default is not None else config.thresholds | texts,
        "budget_weights": config.budget_weights if weights is None else dict(weights),
        "select": {**own, **(select or {})},
        "selection": config.selection.model_copy(update={"per": per or config.selection.per}),
    }
    if tokens_per_gpu_hour is not None:
        try:
            costs = dataclasses.replace(config.costs, tokens_per_gpu_hour=tokens_per_gpu_hour)
        except ValueError as error:
            raise UserError(str(error)) from error
        changes["costs"] = costs
    changed = config.model_copy(update=changes)
    if scores is not None:
        _check_scores_decide(changed.select)
    targets = (changed.threshold_specs(), changed.default_threshold())
    check_selectors(changed.select, *targets, changed.selection.per)
    if weights and not isinstance(changed.default_threshold(), Budget):
        raise UserError(
            f"weights are of a budget for all subsets, and the default threshold is "
            f"{changed.thresholds['default']!r}. Give --budget, e.g. --budget frames=2M."
        )
    return changed
