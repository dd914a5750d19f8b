"""From manifests to samples.parquet, and a dataset as run.json keeps it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import pyarrow as pa

from vxp_data.manifests.samples import (
    Dataset,
    ManifestCounts,
    TaskRules,
    read_samples,
    total_counts,
)
from vxp_data.manifests.seen_ids import SeenIds
from vxp_data.pipeline.run_dir.directory import RunDirectory, write_batches
from vxp_data.pipeline.run_dir.samples_read import (
    forget_counts,
    keep_counts,
    kept_counts,
    made_of,
)
from vxp_data.records import Sample
from vxp_data.schemas import SAMPLE_SCHEMA
from vxp_data.settings.columns import columns_text, parse_columns
from vxp_data.storage.folder import find_file, find_folder

_ROWS_PER_GROUP: Final = 20_000
_BYTES_PER_GROUP: Final = 256 << 20


def write_samples(
    run: RunDirectory,
    datasets: Sequence[Dataset],
    rules: TaskRules,
    accept: Callable[[Sequence[ManifestCounts]], None] = lambda _: None,
) -> ManifestCounts:
    """Read all manifests and write samples.parquet; return what was counted on the way.

    What a stopped prune has read of the same manifests is kept.

    Args:
        run: where to.
        datasets: what to read.
        rules: how rows name their task.
        accept: called with what was counted in each dataset when all is read, and before anything
            takes the place of what is there; what it raises ends the writing.

    Raises:
        UserError: a manifest cannot be read as its format.
    """
    made = made_of([dataset_facts(dataset) for dataset in datasets], rules)
    kept = kept_counts(run, made)
    if kept is not None:
        accept(kept)
        return total_counts(kept)
    forget_counts(run)
    counts = [ManifestCounts() for _ in datasets]
    seen_ids = SeenIds()

    def samples() -> Iterator[Sample]:
        for dataset, own in zip(datasets, counts, strict=True):
            yield from read_samples(dataset, rules, own, seen_ids)
        accept(counts)

    write_batches(run.samples, SAMPLE_SCHEMA, _tables(samples()))
    keep_counts(run, made, counts)
    return total_counts(counts)


def _tables(samples: Iterator[Sample]) -> Iterator[pa.Table]:
    while rows := _next_group(samples):
        yield sample_table(rows)


def sample_table(samples: Sequence[Sample]) -> pa.Table:
    """Convert samples to columns (SAMPLE_SCHEMA)."""
    columns = {name: [getattr(sample, name) for sample in samples] for name in SAMPLE_SCHEMA.names}
    columns["reason"] = [reason or "" for reason in columns["reason"]]
    columns["clips"] = [list(map(dataclasses.asdict, clips)) for clips in columns["clips"]]
    return pa.table(columns, schema=SAMPLE_SCHEMA)


def _next_group(samples: Iterator[Sample]) -> list[Sample]:
    """Buffer rows until there are enough of them, or they are heavy."""
    rows: list[Sample] = []
    num_bytes = 0
    for sample in samples:
        rows.append(sample)
        num_bytes += len(sample.annotation)
        if len(rows) == _ROWS_PER_GROUP or num_bytes >= _BYTES_PER_GROUP:
            break
    return rows


def dataset_facts(dataset: Dataset) -> dict[str, str]:
    """Return a dataset as run.json keeps it."""
    values = {field.name: getattr(dataset, field.name) for field in dataclasses.fields(dataset)}
    values["columns"] = columns_text(dataset.columns)
    return {name: "" if value is None else str(value) for name, value in values.items()}


def dataset_from_facts(facts: dict[str, str]) -> Dataset:
    """Read a dataset back from run.json."""
    return Dataset(
        name=facts["name"],
        manifest=find_file(facts["manifest"]),
        format=facts["format"],
        media_root=find_folder(facts["media_root"]),
        task=facts["task"] or None,
        columns=parse_columns(facts.get("columns", "")),
        rows=int(facts["rows"]) if facts.get("rows") else None,
    )
