"""From samples and scores to decisions and the kept rows. Touches no video, starts no Ray."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vxp_data.core.decisions import Decisions, SampleColumns, account, check_tasks, decide
from vxp_data.core.similarity import Measure
from vxp_data.core.thresholds import ThresholdSpec
from vxp_data.manifests.base import ManifestFormat
from vxp_data.manifests.samples import Dataset
from vxp_data.pipeline.rundir import RunDirectory, read_batches, read_table, write_table
from vxp_data.pipeline.summary import SubsetSummary, summarise
from vxp_data.records import Outcome, Task
from vxp_data.registry import MANIFEST_FORMATS, MEASURES
from vxp_data.schemas import DECISION_SCHEMA

_KEY: Final = ("media_uri", "clip_start_s", "clip_end_s")
_COLUMNS: Final = ["sample_id", "dataset", "row", "task", "modality", "reason", "message", *_KEY]


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionSettings:
    """What a decision is made by."""

    measure: str
    thresholds: Mapping[str, ThresholdSpec]
    default: ThresholdSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """What was decided, counted."""

    subsets: tuple[SubsetSummary, ...]
    num_in: int
    num_kept: int
    num_pruned: int
    num_quarantined: int
    quarantined_by_reason: dict[str, int]
    outputs: tuple[str, ...]
    """Names of the files of kept rows, one a dataset."""


def decide_run(
    run: RunDirectory, datasets: Sequence[Dataset], settings: DecisionSettings
) -> Decided:
    """Decide every sample; write decisions, kept, dropped and quarantined rows.

    Raises:
        UserError: a threshold names a task that no row has, or lies outside the measure's range.
    """
    measure: Measure = MEASURES.load(settings.measure)
    samples = read_table(run.samples, columns=_COLUMNS)
    media = _media_of_samples(run, samples, settings.measure)
    columns = SampleColumns(
        sample_id=samples["sample_id"].to_pylist(),
        task=samples["task"].to_pylist(),
        modality=samples["modality"].to_pylist(),
        reason=samples["reason"].to_pylist(),
        media_reason=media.reason,
        score=media.score_N,
    )
    check_tasks(settings.thresholds, {*columns.task, *Task})
    decisions = decide(
        columns, thresholds=settings.thresholds, default=settings.default, measure=measure
    )
    accounting = account(decisions, columns)
    accounting.check()
    for stale in (run.plans, run.sampling_figure):  # of the rows that were kept before
        run.root.remove(stale.name)
    _write_decisions(run, samples, media.media_id, decisions, settings.measure)
    _write_quarantine(run, samples, media.message, decisions)
    kept = _write_rows(run, datasets, decisions, samples)
    per_task = accounting.per_task()
    totals = {o: sum(counts[o] for counts in per_task.values()) for o in map(str, Outcome)}
    quarantined = decisions.decision == Outcome.QUARANTINE.value
    reasons, numbers = np.unique(decisions.reason[quarantined].astype(str), return_counts=True)
    return Decided(
        subsets=summarise(columns, decisions, list(samples["media_uri"]), media.duration_s_N),
        num_in=len(columns),
        num_kept=totals[Outcome.KEEP],
        num_pruned=totals[Outcome.PRUNE],
        num_quarantined=totals[Outcome.QUARANTINE],
        quarantined_by_reason=dict(zip(reasons.tolist(), numbers.tolist(), strict=True)),
        outputs=kept,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _MediaOfSamples:
    """Facts about each sample's clip, in the samples' order."""

    media_id: list[str]
    reason: list[str]
    message: list[str]
    score_N: NDArray[np.float64]
    duration_s_N: NDArray[np.float64]


def _media_of_samples(run: RunDirectory, samples: pa.Table, measure: str) -> _MediaOfSamples:
    """Look every sample's clip up in media.parquet and scores.parquet."""
    media = read_table(
        run.media,
        columns=[
            "uri",
            "clip_start_s",
            "clip_end_s",
            "media_id",
            "reason",
            "message",
            "duration_s",
        ],
    )
    score_M = read_table(run.scores, columns=[measure])[measure].to_numpy()
    keys = zip(*(media[name].to_pylist() for name in media.column_names[:3]), strict=True)
    place_of = {key: place for place, key in enumerate(keys)}
    keys = zip(*(samples[name].to_pylist() for name in _KEY), strict=True)
    place_N = np.array([place_of.get(key, -1) for key in keys], dtype=np.int64)
    known_N = place_N >= 0
    start_s, end_s = (np.array(media[name]) for name in ("clip_start_s", "clip_end_s"))
    duration_s_M = np.minimum(np.array(media["duration_s"]), end_s) - start_s
    take = np.where(known_N, place_N, 0)

    def column(name: str) -> list[str]:
        values = media[name].to_pylist()
        return [values[p] if p >= 0 else "" for p in place_N.tolist()]

    nothing = np.full(len(place_N), np.nan)
    return _MediaOfSamples(
        media_id=column("media_id"),
        reason=column("reason"),
        message=column("message"),
        score_N=np.where(known_N, score_M[take], np.nan) if len(score_M) else nothing,
        duration_s_N=np.where(known_N, np.maximum(duration_s_M[take], 0), 0)
        if len(score_M)
        else np.zeros(len(place_N)),
    )


def _write_decisions(
    run: RunDirectory, samples: pa.Table, media_id: list[str], decisions: Decisions, measure: str
) -> None:
    columns: dict[str, Any] = {
        "sample_id": samples["sample_id"],
        "dataset": samples["dataset"],
        "row": samples["row"],
        "task": samples["task"],
        "media_id": media_id,
        "decision": decisions.decision.tolist(),
        "reason": decisions.reason.tolist(),
        "measure": [measure] * len(decisions),
        "score": decisions.score,
        "threshold": decisions.threshold,
        "duplicate_of": [""] * len(decisions),
    }
    write_table(run.decisions, pa.table(columns, schema=DECISION_SCHEMA))


def _write_quarantine(
    run: RunDirectory, samples: pa.Table, media_message: list[str], decisions: Decisions
) -> None:
    row_Q = np.flatnonzero(decisions.decision == Outcome.QUARANTINE.value)
    table = samples.select(["sample_id", "dataset", "row", "task", *_KEY]).take(row_Q)
    own = samples["message"].to_pylist()
    table = table.append_column("reason", pa.array(decisions.reason[row_Q].tolist(), pa.string()))
    messages = [own[i] or media_message[i] for i in row_Q.tolist()]
    write_table(run.quarantine, table.append_column("message", pa.array(messages, pa.string())))


def _write_rows(
    run: RunDirectory, datasets: Sequence[Dataset], decisions: Decisions, samples: pa.Table
) -> tuple[str, ...]:
    """Write each dataset's kept and dropped (pruned or duplicate) rows in its own format."""
    dataset_N = np.array(samples["dataset"].to_pylist(), dtype=object)
    kept_files = []
    for dataset in datasets:
        manifest: ManifestFormat = MANIFEST_FORMATS.load(dataset.format)()
        for stem, outcomes in (
            ("kept", {Outcome.KEEP.value}),
            ("dropped", {Outcome.PRUNE.value, Outcome.DUPLICATE.value}),
        ):
            name = stem if len(datasets) == 1 else f"{stem}.{dataset.name}"
            out = f"{name}{manifest.output_suffix}"
            wanted_N = np.isin(decisions.decision.astype(str), sorted(outcomes))
            wanted_N &= dataset_N == dataset.name
            with run.root.write_path(out) as path:
                manifest.write(path, dataset.manifest, _annotations(run, wanted_N))
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
