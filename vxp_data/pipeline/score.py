"""From embeddings parts to media.parquet and scores.parquet: pure columns, no video, no Ray."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vxp_data.core.similarity import Measure, score_videos
from vxp_data.pipeline.ingest import ClipKey
from vxp_data.pipeline.rundir import RunDirectory, read_table, read_tables, write_table
from vxp_data.records import Reason
from vxp_data.registry import MEASURES
from vxp_data.schemas import EMBEDDING_FACTS

_KEY: Final = ("uri", "clip_start_s", "clip_end_s")


def score_clips(
    run: RunDirectory, wanted: dict[ClipKey, str], *, encoder: str, sampler: str
) -> int:
    """Score every wanted clip with every measure; write media.parquet and scores.parquet.

    Args:
        run: with embeddings parts.
        wanted: the clips that the samples name, with their files' stamps; parts hold others too
            (earlier settings, files since changed). Of several rows of a clip, one that succeeded
            counts, else the first that
            could be fetched.
        encoder: fingerprint of the embeddings to score.
        sampler: fingerprint of their frame sampling.

    Returns:
        How many clips were found.
    """
    measures: list[Measure] = [MEASURES.load(name) for name in MEASURES.names()]
    facts: dict[ClipKey, dict[str, object]] = {}
    scores: dict[ClipKey, dict[str, float]] = {}
    for part in read_tables(run.part_files()):
        rows = part.drop_columns("embedding").to_pylist()
        chosen = [
            i
            for i, row in enumerate(rows)
            if (row["encoder"], row["sampler"]) == (encoder, sampler)
            and wanted.get(_key(row)) == row["file_stamp"]
            and _rank(row) < _rank(facts.get(_key(row)))
        ]
        facts |= {_key(rows[i]): rows[i] for i in chosen}
        good = [i for i in chosen if not rows[i]["reason"]]
        embeddings = [_matrix(part["embedding"][i]) for i in good]
        if good:
            columns = score_videos(embeddings, measures)
            for place, i in enumerate(good):
                scores[_key(rows[i])] = {
                    name: float(column[place]) for name, column in columns.items()
                }
    ordered = sorted(facts)
    write_table(run.media, pa.Table.from_pylist([facts[k] for k in ordered], EMBEDDING_FACTS))
    names = [measure.name for measure in measures]
    rows_of_scores = [
        {"media_id": facts[k]["media_id"], **dict(zip(_KEY, k, strict=True)), **scores.get(k, {})}
        for k in ordered
    ]
    write_table(run.scores, pa.Table.from_pylist(rows_of_scores, _score_schema(names)))
    return len(ordered)


def media_ids(run: RunDirectory) -> pa.Table:
    """Read which content each file had when it was last scored; no rows before the first time."""
    columns = ["uri", "media_id"]
    if not run.media.is_file():
        return pa.table({name: pa.array([], pa.string()) for name in columns})
    known = read_table(run.media, columns=columns)
    return known.filter(pc.not_equal(known["media_id"], "")).group_by(columns).aggregate([])


def changed_files(before: pa.Table, now: pa.Table) -> tuple[str, ...]:
    """Compare two of `media_ids`: the files that are in both with another content, in order."""
    both = before.join(now, "uri", join_type="inner", right_suffix="_now")
    other = both.filter(pc.not_equal(both["media_id"], both["media_id_now"]))
    return tuple(sorted(other["uri"].to_pylist()))


def _rank(row: Mapping[str, object] | None) -> int:
    """Rank what there is of a clip, the best lowest: a retry may have mended an earlier failure."""
    if row is None:
        return 3
    if row["reason"] == Reason.FETCH_FAILED:  # says nothing about the file
        return 2
    return 1 if row["reason"] else 0


def _key(row: dict[str, object]) -> ClipKey:
    uri, start_s, end_s = (row[name] for name in _KEY)
    assert isinstance(uri, str)
    assert isinstance(start_s, float)
    assert isinstance(end_s, float)
    return uri, start_s, end_s


def _matrix(value: pa.Scalar) -> NDArray[np.float16]:
    rows = value.values
    flat: NDArray[np.float16] = rows.flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(len(rows), -1)


def _score_schema(measures: list[str]) -> pa.Schema:
    key = [("uri", pa.string()), ("clip_start_s", pa.float64()), ("clip_end_s", pa.float64())]
    return pa.schema(
        [("media_id", pa.string()), *key, *((name, pa.float64()) for name in measures)]
    )
