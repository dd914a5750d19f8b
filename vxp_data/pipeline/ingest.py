"""From manifests to samples.parquet, and from samples to the files that must be read."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Final

import pyarrow as pa

from vxp_data.manifests.samples import Dataset, ManifestCounts, TaskRules, read_samples
from vxp_data.pipeline.clips import MediaItem
from vxp_data.pipeline.rundir import RunDirectory, read_batches, read_tables, write_batches
from vxp_data.records import Modality, Sample
from vxp_data.schemas import SAMPLE_SCHEMA
from vxp_data.storage.folder import File, find_file, find_folder
from vxp_data.storage.local import file_stamp

_ROWS_PER_GROUP: Final = 20_000
_BYTES_PER_GROUP: Final = 256 << 20

ClipKey = tuple[str, float, float]
"""(uri, clip_start_s, clip_end_s)."""


def write_samples(
    run: RunDirectory, datasets: Sequence[Dataset], rules: TaskRules
) -> ManifestCounts:
    """Read all manifests and write samples.parquet; give what was counted on the way.

    Raises:
        UserError: a manifest cannot be read as its format.
    """
    counts = ManifestCounts()
    seen_ids: dict[str, int] = {}
    samples = (
        sample for dataset in datasets for sample in read_samples(dataset, rules, counts, seen_ids)
    )
    write_batches(run.samples, SAMPLE_SCHEMA, _tables(samples))
    return counts


def media_items(run: RunDirectory, done: dict[ClipKey, str]) -> list[MediaItem]:
    """List the files that must be read, big ones first, each once, with its clips.

    Args:
        run: with samples.parquet.
        done: clips that have embeddings, with the stamp that their file had; a file that has
            changed since is read again.
    """
    columns = ["media_uri", "clip_start_s", "clip_end_s", "modality", "reason"]
    clips_of: dict[str, set[tuple[float, float]]] = defaultdict(set)
    videos: set[str] = set()
    for batch in read_batches(run.samples, columns=columns):
        for uri, start_s, end_s, modality, reason in zip(
            *(column.to_pylist() for column in batch.columns), strict=True
        ):
            if uri and not reason:
                clips_of[uri].add((start_s, end_s))
                if modality == Modality.VIDEO:
                    videos.add(uri)
    stamps = {uri: file_stamp(uri) for uri in clips_of}
    items = []
    for uri, clips in clips_of.items():
        todo = tuple(c for c in sorted(clips) if done.get((uri, *c)) != stamps[uri])
        if todo:
            items.append(MediaItem(uri=uri, is_image=uri not in videos, clips_s=todo))
    return sorted(items, key=lambda item: (-_num_bytes(stamps[item.uri]), item.uri))


def done_clips(parts: Sequence[File], *, encoder: str, sampler: str) -> dict[ClipKey, str]:
    """Find the clips that have embeddings of these fingerprints, with their files' stamps."""
    done: dict[ClipKey, str] = {}
    columns = ["uri", "clip_start_s", "clip_end_s", "file_stamp", "encoder", "sampler"]
    for part in read_tables(parts, columns=columns):
        for row in part.to_pylist():
            if (row["encoder"], row["sampler"]) == (encoder, sampler):
                key = (row["uri"], row["clip_start_s"], row["clip_end_s"])
                done[key] = row["file_stamp"]
    return done


def _tables(samples: Iterator[Sample]) -> Iterator[pa.Table]:
    while rows := _next_group(samples):
        columns = {name: [getattr(sample, name) for sample in rows] for name in SAMPLE_SCHEMA.names}
        columns["reason"] = [reason or "" for reason in columns["reason"]]
        yield pa.table(columns, schema=SAMPLE_SCHEMA)


def _next_group(samples: Iterator[Sample]) -> list[Sample]:
    """Take rows until there are enough of them, or they are heavy."""
    rows: list[Sample] = []
    num_bytes = 0
    for sample in samples:
        rows.append(sample)
        num_bytes += len(sample.annotation)
        if len(rows) == _ROWS_PER_GROUP or num_bytes >= _BYTES_PER_GROUP:
            break
    return rows


def _num_bytes(stamp: str) -> int:
    return int(stamp.partition("-")[0] or 0)


def dataset_facts(dataset: Dataset) -> dict[str, str]:
    """Give a dataset as run.json keeps it."""
    values = {field.name: getattr(dataset, field.name) for field in dataclasses.fields(dataset)}
    return {name: "" if value is None else str(value) for name, value in values.items()}


def dataset_from_facts(facts: dict[str, str]) -> Dataset:
    """Read a dataset back from run.json."""
    return Dataset(
        name=facts["name"],
        manifest=find_file(facts["manifest"]),
        format=facts["format"],
        media_root=find_folder(facts["media_root"]),
        task=facts["task"] or None,
    )
