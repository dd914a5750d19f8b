"""From samples and scores to decisions and the kept rows. Touches no video.

Starts workers only where duplicates are looked for among many clips.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vxp_data.core.budgets import Budget, Target
from vxp_data.core.cost_model import CostModel
from vxp_data.core.dataset_rows import DatasetRows, require_rows
from vxp_data.core.decisions import Accounting, Decisions, account, check_tasks, decide
from vxp_data.core.sampling_plans import SamplingRule
from vxp_data.manifests.base import ManifestFormat
from vxp_data.manifests.renamed_media import Renaming, media_name
from vxp_data.manifests.samples import Dataset
from vxp_data.pipeline.curate.exclude import (
    Excluded,
    ExclusionRule,
    exclude,
    exclusion_rule,
    relinked_rows,
)
from vxp_data.pipeline.curate.mixture_rows import cut_datasets, rows_rule, usable_rows
from vxp_data.pipeline.curate.selection import DecidedBy, put_in_order
from vxp_data.pipeline.run_dir.clip_facts import few_texts, read_clip_facts, row_costs
from vxp_data.pipeline.run_dir.directory import RunDirectory, read_batches, read_table, write_table
from vxp_data.pipeline.run_dir.summary import SubsetSummary, summarise
from vxp_data.records import Outcome, Task
from vxp_data.registry import MANIFEST_FORMATS
from vxp_data.schemas import DECISION_SCHEMA, SAMPLE_CLIP_KEY
from vxp_data.settings.curation import MixtureConfig
from vxp_data.settings.prune import PruneConfig

_COLUMNS: Final = [
    "sample_id",
    "dataset",
    "row",
    "task",
    "modality",
    "reason",
    "message",
    *SAMPLE_CLIP_KEY,
    "clips",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionSettings:
    """What a decision is made by."""

    decided_by: DecidedBy
    thresholds: Mapping[str, Target]
    default: Target
    weights: Mapping[str, float]
    """By task, for a default that is a budget."""
    sampling: SamplingRule
    """How many frames training sees: what budgets count."""
    costs: CostModel
    excluded: ExclusionRule
    mixture: MixtureConfig

    def counts_costs(self) -> bool:
        """Whether the decision depends on what rows cost."""
        targets = (self.default, *self.thresholds.values())
        return self.decided_by.per_cost or any(isinstance(t, Budget) for t in targets)

    @classmethod
    def of(cls, config: PruneConfig, *, encoder: str, sampler: str) -> Self:
        """Read them from a run's settings, and the fingerprints of its embeddings."""
        return cls(
            decided_by=DecidedBy.of(config),
            thresholds=config.threshold_specs(),
            default=config.default_threshold(),
            weights=config.budget_weights,
            sampling=config.sampling,
            costs=config.costs,
            excluded=exclusion_rule(config, encoder=encoder, sampler=sampler),
            mixture=config.mixture,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """What was decided, counted."""

    subsets: tuple[SubsetSummary, ...]
    num_in: int
    num_kept: int
    num_pruned: int
    num_duplicates: int
    num_quarantined: int
    quarantined_by_reason: dict[str, int]
    reasons: dict[str, int]
    """Rows by reason, all outcomes."""
    num_relinked: int
    """Kept rows that name another video than their own."""
    num_unmeasured: int
    """Image-text pairs that no filter could judge, since nobody has compared them: they stay."""
    outputs: tuple[str, ...]
    """Names of the files of kept rows, one a dataset."""
    counted_by: dict[str, Any] | None
    """The sampling rule by which a budget, or an order per cost, was counted; None: there was
    neither."""
    decided_by: str = ""
    """What thresholds are on: the measure, or `select:NAME@VERSION`, or `scores:...`."""
    num_unknown_scores: int = 0
    """Rows of the user's scores that are none of the run's."""
    num_listed: int | None = None
    """Rows about duplicates that are listed, nothing else; None where duplicates are dropped, or
    none were looked for."""
    datasets: tuple[DatasetRows, ...] = ()
    """Rows of each dataset, wanted, found and kept."""
    num_unseen: int = 0
    """Videos that duplicates were looked for among by the encoder's vectors alone: `thumbnail`'s
    were not made beside these."""


def decide_run(
    run: RunDirectory,
    datasets: Sequence[Dataset],
    settings: DecisionSettings,
    begin: Callable[[], None] = lambda: None,
) -> Decided:
    """Decide every sample; write decisions, kept, dropped and quarantined rows.

    Args:
        run: with samples, scores and, for duplicates, embeddings.
        datasets: that its samples come from.
        settings: what is decided by.
        begin: called when all is decided, before the first file of the run is changed.

    Raises:
        UserError: a threshold names a task that no row has, or lies outside the measure's range; a
            budget cannot be met, or rows are wanted that are not stated or not there.
    """
    decided_by = settings.decided_by
    samples = read_table(run.samples, columns=_COLUMNS)
    require_tasks(settings, samples)
    targets = (settings.thresholds, settings.default)
    rule = rows_rule(settings.mixture, datasets, targets)
    excluded = exclude(run, samples, settings.excluded)
    media = read_clip_facts(run, excluded.samples, decided_by.measure.name)
    modality_N = few_texts(samples["modality"])
    costs = row_costs(media, modality_N, settings.sampling, settings.costs)
    ordered = put_in_order(
        run,
        excluded.samples,
        media,
        excluded.dropped,
        decided_by,
        encoder=settings.excluded.encoder,
        sampler=settings.excluded.sampler,
        tokens_N=costs.tokens_N,
    )
    columns = ordered.columns
    scales = decided_by.scales(few_texts(samples["task"]))
    decisions = decide(
        columns,
        thresholds=settings.thresholds,
        default=settings.default,
        measure=decided_by.measure,
        weights=settings.weights,
        costs=costs,
        measures=scales,
    )
    decisions, of_datasets = cut_datasets(columns, decisions, rule, scales, targets)
    if settings.mixture.too_few == "refuse":
        require_rows(of_datasets)
    accounting = account(decisions, columns)
    accounting.check()
    begin()
    _write_found(run, excluded, ordered.selection)
    of_media = (media.media_id, excluded.duplicate_of)
    names = {task: scale.name for task, scale in scales.items()}
    _write_decisions(run, samples, of_media, decisions, names)
    _write_quarantine(run, samples, media.message, decisions)
    relinked = relinked_rows(excluded, decisions)
    kept = _write_rows(run, datasets, decisions, samples, relinked)
    return Decided(
        subsets=summarise(columns, decisions, media.file_N, media.duration_s_N, media.is_inexact_N),
        **_totals(accounting, decisions),
        num_relinked=sum(map(len, relinked.values())),
        num_unmeasured=0 if excluded.filtered is None else excluded.filtered.num_unmeasured,
        outputs=kept,
        counted_by=settings.sampling.to_dict() if settings.counts_costs() else None,
        decided_by=decided_by.text(few_texts(samples["task"])),
        num_unknown_scores=decided_by.scores.num_unknown,
        num_listed=excluded.num_listed(settings.excluded.duplicates.mode),
        datasets=of_datasets,
        num_unseen=excluded.num_unseen,
    )


def _totals(accounting: Accounting, decisions: Decisions) -> dict[str, Any]:
    """Return those fields of `Decided` that count rows by where they ended."""
    per_task = accounting.per_task()
    totals = {o: sum(counts[o] for counts in per_task.values()) for o in map(str, Outcome)}
    quarantined = decisions.decision == Outcome.QUARANTINE.value
    reasons, numbers = np.unique(decisions.reason[quarantined].astype(str), return_counts=True)
    return {
        "num_in": accounting.num_samples,
        "num_kept": totals[Outcome.KEEP],
        "num_pruned": totals[Outcome.PRUNE],
        "num_duplicates": totals[Outcome.DUPLICATE],
        "num_quarantined": totals[Outcome.QUARANTINE],
        "quarantined_by_reason": dict(zip(reasons.tolist(), numbers.tolist(), strict=True)),
        "reasons": accounting.per_reason(),
    }


def require_tasks(settings: DecisionSettings, samples: pa.Table) -> None:
    """Check that rows have, or may have, every task that is named; see `check_tasks`.

    Args:
        settings: what is to be decided by.
        samples: with a column `task`.

    Raises:
        UserError: a task is not known.
    """
    tasks = {*pc.unique(samples["task"]).to_pylist(), *Task}
    check_tasks(settings.thresholds, tasks)
    check_tasks(set(settings.decided_by.select) - {"default"}, tasks, where="select")
    for name, bounds in settings.excluded.filters.items():
        check_tasks(bounds.tasks, tasks, where=f"filters.{name}.tasks")


def require_rows_to_decide(
    run: RunDirectory, datasets: Sequence[Dataset], settings: DecisionSettings
) -> None:
    """Check that rows which are wanted are stated and, where they must be, there.

    Args:
        run: with samples; nothing of it has to be decoded yet.
        datasets: that they come from.
        settings: what is to be decided by.

    Raises:
        UserError: none are stated, or a manifest has too few that can be used.
    """
    rule = rows_rule(settings.mixture, datasets, (settings.thresholds, settings.default))
    if settings.mixture.too_few == "refuse":
        table = read_table(run.samples, columns=["dataset", "reason"])
        require_rows(usable_rows(rule, table))


def _write_found(run: RunDirectory, excluded: Excluded, selection: pa.Table | None) -> None:
    """Remove what follows from the decisions before; write what these were made by."""
    figures = (run.plans, run.sampling_figure, run.report)
    for stale in (*figures, run.duplicates, run.filter_values, run.selection):
        run.root.remove(stale.name)
    if selection is not None:
        write_table(run.selection, selection)
    if excluded.duplicates is not None:
        write_table(run.duplicates, excluded.duplicates)
    if excluded.filtered is not None:
        write_table(run.filter_values, excluded.filtered.values)


def _write_decisions(
    run: RunDirectory,
    samples: pa.Table,
    of_media: tuple[pa.ChunkedArray, NDArray[np.object_]],
    decisions: Decisions,
    measures: Mapping[str, str],
) -> None:
    measure_N = [measures[task] for task in samples["task"].to_pylist()]
    columns: dict[str, Any] = {
        "sample_id": samples["sample_id"],
        "dataset": samples["dataset"],
        "row": samples["row"],
        "task": samples["task"],
        "media_id": of_media[0],
        "decision": decisions.decision,
        "reason": decisions.reason,
        "measure": pa.array(measure_N, pa.string()),
        "score": decisions.score,
        "threshold": decisions.threshold,
        "duplicate_of": of_media[1],
    }
    write_table(run.decisions, pa.table(columns, schema=DECISION_SCHEMA))


def _write_quarantine(
    run: RunDirectory, samples: pa.Table, media_message: pa.ChunkedArray, decisions: Decisions
) -> None:
    row_Q = np.flatnonzero(decisions.decision == Outcome.QUARANTINE.value)
    table = samples.select(["sample_id", "dataset", "row", "task", *SAMPLE_CLIP_KEY]).take(row_Q)
    own, of_media = samples["message"].take(row_Q), media_message.take(row_Q)
    message = pc.if_else(pc.equal(own, ""), of_media, own)
    table = table.append_column("reason", pa.array(decisions.reason[row_Q], pa.string()))
    write_table(run.quarantine, table.append_column("message", message))


def _write_rows(
    run: RunDirectory,
    datasets: Sequence[Dataset],
    decisions: Decisions,
    samples: pa.Table,
    relinked: Mapping[str, Mapping[int, str]],
) -> tuple[str, ...]:
    """Write each dataset's kept and dropped (pruned or duplicate) rows in its own format."""
    dataset_N = few_texts(samples["dataset"])
    kept_files = []
    for dataset in datasets:
        manifest: ManifestFormat = MANIFEST_FORMATS.load(dataset.format)()
        for stem, outcomes in (
            ("kept", {Outcome.KEEP.value}),
            ("dropped", {Outcome.PRUNE.value, Outcome.DUPLICATE.value}),
        ):
            name = stem if len(datasets) == 1 else f"{stem}.{dataset.name}"
            out = f"{name}{manifest.output_suffix}"
            wanted_N = np.isin(decisions.decision, sorted(outcomes)) & (dataset_N == dataset.name)
            with run.root.write_path(out) as path:
                names = {
                    row: Renaming(name=media_name(dataset.media_root, uri), columns=dataset.columns)
                    for row, uri in relinked.get(dataset.name, {}).items()
                }
                rows = _annotations(run, wanted_N)
                manifest.write(path, dataset.manifest, rows, names if stem == "kept" else {})
            if stem == "kept":
                kept_files.append(out)
    return tuple(kept_files)


def _annotations(run: RunDirectory, wanted_N: NDArray[np.bool_]) -> Iterator[tuple[int, bytes]]:
    """Stream (row, annotation) of the wanted samples from samples.parquet."""
    first = 0
    for batch in read_batches(run.samples, columns=["row", "annotation"]):
        wanted = batch.filter(pa.array(wanted_N[first : first + batch.num_rows]))
        first += batch.num_rows
        yield from zip(wanted["row"].to_pylist(), wanted["annotation"].to_pylist(), strict=True)
