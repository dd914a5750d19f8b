"""The kept rows of a finished run, each with its decision and the facts of its media."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from vxp_data.pipeline.curate.exclude import relinked_samples
from vxp_data.pipeline.run_dir.directory import RunDirectory, read_table
from vxp_data.records import Outcome
from vxp_data.schemas import CLIP_KEY, MEDIA_SCHEMA, SAMPLE_CLIP, SAMPLE_CLIP_KEY

_OF_SAMPLE: Final = [
    "task", "modality", "media_uri", "clip_start_s", "clip_end_s", "clips", "turns",
    "annotation",
]  # fmt: skip
_OF_DECISION: Final = [
    "sample_id", "dataset", "row", "decision", "reason", "measure", "score", "threshold",
]  # fmt: skip
_OF_MEDIA: Final = [
    name for name in (*MEDIA_SCHEMA.names, "timeline", "file_version") if name != "uri"
]


def kept_rows(run: RunDirectory, *, without: Collection[str] = ()) -> pa.Table:
    """Read every kept row, in the order of the run's samples.

    Args:
        run: a finished run.
        without: columns of samples.parquet that are not read: annotations are most of its bytes.

    Returns:
        One row a kept sample: what samples.parquet and decisions.parquet say of it (`media_uri` is
        '' for a text-only row; a row that was linked to another video is about that one), and of
        its media the columns of media.parquet, null for text-only rows. Each of a row's `clips`,
        where it has several media, has those columns too.

    Raises:
        UserError: a table is missing or cannot be read.
    """
    decisions = read_table(run.decisions, columns=_OF_DECISION)
    kept_N = pc.equal(decisions["decision"], Outcome.KEEP.value)
    kept = decisions.filter(kept_N)
    wanted = [name for name in _OF_SAMPLE if name not in without]
    samples = read_table(run.samples, columns=wanted).filter(kept_N)
    media = read_table(run.media, columns=[*CLIP_KEY, *_OF_MEDIA])
    samples = relinked_samples(run, samples)
    indices = {key: i for i, key in enumerate(_rows(media, CLIP_KEY))}
    index_N = [indices.get(key) for key in _rows(samples, SAMPLE_CLIP_KEY)]
    taken = media.select(_OF_MEDIA).take(pa.array(index_N, pa.int64()))
    samples = samples.set_column(
        samples.column_names.index("clips"), "clips", _with_facts(samples, media, indices)
    )
    for name in samples.column_names:
        kept = kept.append_column(name, samples[name])
    for name in _OF_MEDIA:
        kept = kept.append_column(name, taken[name])
    return kept


def _with_facts(
    samples: pa.Table, media: pa.Table, indices: dict[tuple[object, ...], int]
) -> pa.Array:
    """Return the rows' clips, each with what media.parquet has of it."""
    lists = samples["clips"].combine_chunks()
    clips = pc.list_flatten(lists)
    own = pa.table({field.name: pc.struct_field(clips, field.name) for field in SAMPLE_CLIP})
    index_E = [indices.get(key) for key in _rows(own, SAMPLE_CLIP_KEY)]
    facts = media.select(_OF_MEDIA).take(pa.array(index_E, pa.int64()))
    for name in _OF_MEDIA:
        own = own.append_column(name, facts[name])
    structs = own.to_struct_array()
    values = pa.concat_arrays(structs.chunks) if structs.num_chunks else pa.array([], structs.type)
    ends = pc.cumulative_sum(pc.list_value_length(lists))
    offsets = pa.concat_arrays([pa.array([0], pa.int32()), ends.cast(pa.int32())])
    return pa.ListArray.from_arrays(offsets, values)


def _rows(table: pa.Table, names: tuple[str, ...]) -> zip[tuple[object, ...]]:
    return zip(*(table[name].to_pylist() for name in names), strict=True)
