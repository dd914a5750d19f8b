"""Rows that go, or are about another video, before a threshold: filters, then duplicates."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vxp_data.core.decisions import Decisions
from vxp_data.core.filters import Bounds
from vxp_data.pipeline.curate.clip_views import views_of
from vxp_data.pipeline.curate.compared_clips import CLIP_COLUMNS, RunClips, SampleClips
from vxp_data.pipeline.curate.decontaminate import read_decontamination
from vxp_data.pipeline.curate.filter_rows import Filtered, filter_samples
from vxp_data.pipeline.curate.find_duplicates import find_duplicates
from vxp_data.pipeline.curate.placed_rows import PlacedRows, place_rows
from vxp_data.pipeline.run_dir.clip_facts import few_texts
from vxp_data.pipeline.run_dir.directory import RunDirectory, read_table
from vxp_data.records import ClipKey, Modality, Outcome
from vxp_data.schemas import CLIP_KEY, SAMPLE_CLIP_KEY
from vxp_data.settings.cluster import ClusterConfig
from vxp_data.settings.curation import DuplicatesConfig
from vxp_data.settings.prune import PruneConfig

_OF_REPRESENTATIVE: Final = (
    "representative_uri",
    "representative_clip_start_s",
    "representative_clip_end_s",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Excluded:
    """What becomes of N samples by filters and duplicates, in their order."""

    samples: pa.Table
    """As they were; a row that was linked to another clip has that clip's SAMPLE_CLIP_KEY."""
    dropped: NDArray[np.object_]
    """Reason of those that go; '' for the others."""
    duplicate_of: NDArray[np.object_]
    """What a sample's clip is a duplicate of, '' for none; see `clip_name`."""
    relinked_N: NDArray[np.bool_]
    duplicates: pa.Table | None
    """DUPLICATE_SCHEMA; None where none are to be looked for."""
    filtered: Filtered | None
    """What filters made of them; None where there are none."""
    num_unseen: int = 0
    """Clips without vectors of `thumbnail`, though duplicates were looked for by these, too."""

    def num_listed(self, mode: str) -> int | None:
        """Count the rows about duplicates that a mode lists only; None where it lists none only.

        Args:
            mode: what becomes of duplicates; see `DuplicatesConfig`.
        """
        if mode not in ("report", "relink"):
            return None
        listed_N = (self.duplicate_of != "") & (self.dropped == "") & ~self.relinked_N
        return int(listed_N.sum())


@dataclass(frozen=True, slots=True, kw_only=True)
class ExclusionRule:
    """What rows are excluded by."""

    duplicates: DuplicatesConfig
    filters: Mapping[str, Bounds]
    encoder: str
    """Fingerprint of the run's embeddings."""
    encoder_name: str
    """Name of what made them."""
    sampler: str
    """Fingerprint of their frame sampling."""
    cluster: ClusterConfig
    """Where many clips are compared with one another."""


def exclusion_rule(config: PruneConfig, *, encoder: str, sampler: str) -> ExclusionRule:
    """Read the rule from a run's settings, and the fingerprints of its embeddings."""
    return ExclusionRule(
        duplicates=config.duplicates,
        filters={name: given.bounds() for name, given in config.filters.items()},
        encoder=encoder,
        encoder_name=config.encoder.name,
        sampler=sampler,
        cluster=config.cluster,
    )


def clip_name(uri: str, start_s: float, end_s: float) -> str:
    """Name a clip: its file, and the part of it as W3C media fragments have it."""
    if (start_s, end_s) == (0.0, math.inf):
        return uri
    return f"{uri}#t={start_s:g}" + ("" if math.isinf(end_s) else f",{end_s:g}")


def exclude(run: RunDirectory, samples: pa.Table, rule: ExclusionRule) -> Excluded:
    """Measure the rows of a run by its filters, find the duplicates among those that stay.

    Args:
        run: with embeddings and scores.
        samples: sample_id, dataset, row, task, modality, reason, SAMPLE_CLIP_KEY and `clips` of N
            samples.
        rule: what they are excluded by.

    Raises:
        UserError: see `find_duplicates` and `read_decontamination`.
    """
    dropped = np.full(len(samples), "", dtype=object)
    duplicates = filtered = None
    num_unseen = 0
    wants_duplicates = rule.duplicates.mode != "off" or bool(rule.duplicates.exclude)
    if rule.filters or wants_duplicates:
        facts = ["num_audio_streams", "frames_exact", "frames_expected", "reason"]
        media = read_table(run.media, columns=[*CLIP_COLUMNS, *facts])
        placed = place_rows(samples, media)
        if rule.filters:
            filtered = filter_samples(
                run, samples, placed, media, rule.filters, encoder=rule.encoder
            )
            dropped = filtered.dropped
        if wants_duplicates:
            duplicates, num_unseen = _look(run, samples, media, placed, dropped == "", rule)
    applied = _apply(duplicates, samples, dropped, filtered)
    return replace(applied, num_unseen=num_unseen)


def _look(
    run: RunDirectory,
    samples: pa.Table,
    media: pa.Table,
    placed: PlacedRows,
    stays_N: NDArray[np.bool_],
    rule: ExclusionRule,
) -> tuple[pa.Table, int]:
    decontamination = read_decontamination(rule.duplicates.exclude, CLIP_COLUMNS, rule.encoder)
    index_N = np.maximum(np.where(stays_N, placed.index_N, -1), -1)
    of_several = placed.several()
    several = {row: own for row, own in of_several.items() if index_N[row] >= 0}
    is_video_N = few_texts(samples["modality"]) == Modality.VIDEO
    is_video_C = np.zeros(len(media), dtype=np.bool_)
    is_video_C[index_N[is_video_N & (index_N >= 0)]] = True
    shown_E = placed.clips.is_video_E & np.isin(placed.clips.row_E, list(several))
    is_video_C[placed.clip_E[shown_E]] = True
    index_N[list(of_several)] = -1
    run_clips = RunClips(
        run=run,
        media=media.select(CLIP_COLUMNS),
        is_video_C=is_video_C,
        encoder=rule.encoder,
        sampler=rule.sampler,
        views=views_of(rule.duplicates, rule.encoder_name),
        cluster=rule.cluster,
    )
    names = SampleClips(
        sample_id=samples["sample_id"].to_numpy(),
        task=few_texts(samples["task"]),
        index_N=index_N,
        several=several,
    )
    return find_duplicates(run_clips, names, rule.duplicates, decontamination)


def _apply(
    duplicates: pa.Table | None,
    samples: pa.Table,
    dropped: NDArray[np.object_],
    filtered: Filtered | None,
) -> Excluded:
    num_samples = len(samples)
    dropped, duplicate_of = dropped.copy(), np.full(num_samples, "", dtype=object)
    relinked_N = np.zeros(num_samples, dtype=np.bool_)
    if duplicates is not None and len(duplicates):
        keys = list(zip(*(samples[name].to_pylist() for name in SAMPLE_CLIP_KEY), strict=True))
        by_sample, by_clip = _lookups(duplicates)
        has_several_N = pc.greater(pc.list_value_length(samples["clips"]), 0).to_pylist()
        about = zip(
            samples["sample_id"].to_pylist(), samples["task"].to_pylist(), keys, strict=True
        )
        for sample, (sample_id, task, key) in enumerate(about):
            row = by_sample.get(sample_id)
            if not has_several_N[sample]:  # what is about one clip says nothing of several
                row = row or by_clip.get(("", key)) or by_clip.get((task, key))
            if row is None or dropped[sample] or samples["reason"][sample].as_py():
                continue
            representative: ClipKey = tuple(row[name] for name in _OF_REPRESENTATIVE)
            name = clip_name(*representative)
            duplicate_of[sample] = f"{row['source']}: {name}" if row["source"] else name
            if row["action"] == "drop":
                dropped[sample] = row["reason"]
            elif row["action"] == "relink":
                relinked_N[sample] = True
                keys[sample] = representative
        samples = with_keys(samples, keys) if relinked_N.any() else samples
    return Excluded(
        samples=samples,
        dropped=dropped,
        duplicate_of=duplicate_of,
        relinked_N=relinked_N,
        duplicates=duplicates,
        filtered=filtered,
    )


def with_keys(samples: pa.Table, keys: list[ClipKey]) -> pa.Table:
    """Relink samples to other clips."""
    for name, values in zip(
        SAMPLE_CLIP_KEY, zip(*keys, strict=True) if keys else ((), (), ()), strict=True
    ):
        index, field = samples.schema.get_field_index(name), samples.schema.field(name)
        samples = samples.set_column(index, field, pa.array(values, field.type))
    return samples


def relinked_rows(excluded: Excluded, decisions: Decisions) -> dict[str, dict[int, str]]:
    """Return the kept rows that name another file than their own: dataset -> row -> file's URI."""
    rows: dict[str, dict[int, str]] = {}
    kept_N = decisions.decision == Outcome.KEEP.value
    columns = [excluded.samples[name] for name in ("dataset", "row", "media_uri")]
    for sample in np.flatnonzero(excluded.relinked_N & kept_N).tolist():
        dataset, row, uri = (column[sample].as_py() for column in columns)
        rows.setdefault(dataset, {})[row] = uri
    return rows


def relinked_samples(run: RunDirectory, samples: pa.Table) -> pa.Table:
    """Relink rows of a finished run to the clips that stand for theirs, where there are any.

    Args:
        run: with duplicates.parquet, where duplicates were looked for.
        samples: task, SAMPLE_CLIP_KEY and `clips` of some samples; one with several media stays.
    """
    if not run.duplicates.is_file():
        return samples
    columns = ["task", *CLIP_KEY, *_OF_REPRESENTATIVE]
    rows = read_table(run.duplicates, columns=columns, filters=pc.field("action") == "relink")
    values = zip(*(rows[name].to_pylist() for name in columns), strict=True)
    representative_of: dict[tuple[object, ...], ClipKey] = {row[:4]: row[4:] for row in values}
    if not representative_of:
        return samples
    keys = zip(*(samples[name].to_pylist() for name in SAMPLE_CLIP_KEY), strict=True)
    has_several = pc.greater(pc.list_value_length(samples["clips"]), 0).to_pylist()
    about = zip(samples["task"].to_pylist(), keys, has_several, strict=True)
    return with_keys(
        samples,
        [
            key
            if several
            else representative_of.get(("", *key)) or representative_of.get((task, *key)) or key
            for task, key, several in about
        ],
    )


def _lookups(
    duplicates: pa.Table,
) -> tuple[dict[str, Mapping[str, Any]], dict[tuple[str, ClipKey], Mapping[str, Any]]]:
    """Return the duplicates by sample, and the others by task and clip."""
    rows = duplicates.to_pylist()
    by_sample = {row["sample_id"]: row for row in rows if row["sample_id"]}
    by_clip = {
        (row["task"], (row["uri"], row["clip_start_s"], row["clip_end_s"])): row
        for row in rows
        if not row["sample_id"]
    }
    return by_sample, by_clip
