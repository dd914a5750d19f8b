"""From embeddings parts to media, scores and means, a row a clip: pure columns, no video.

What parts hold is taken from them. A measure that is new since they were written is worked out from
the vectors, which are read for that alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vxp_data.core.similarity import Measure
from vxp_data.neighbours.row_file import RowFile
from vxp_data.pipeline.embed.wanted_media import WantedMedia
from vxp_data.pipeline.embed.work_items import gathered
from vxp_data.pipeline.run_dir.clip_means import write_means
from vxp_data.pipeline.run_dir.directory import RunDirectory, read_table, write_batches
from vxp_data.pipeline.run_dir.embedding_column import embedding_matrix, mean_matrix
from vxp_data.pipeline.run_dir.ordered_rows import PlacedRows
from vxp_data.pipeline.run_dir.part_columns import (
    MEAN,
    all_measures,
    means_of,
    score_column,
    scores_of,
)
from vxp_data.pipeline.run_dir.part_index import read_part_index
from vxp_data.pipeline.run_dir.part_table import read_groups, read_rows
from vxp_data.pipeline.run_dir.read_ahead import each_file
from vxp_data.records import Reason
from vxp_data.schemas import CURRENT_COLUMNS, EMBEDDING_FACTS
from vxp_data.storage.folder import File

_ROW_BITS: Final = 31
_RANK_BITS: Final = 56
"""Rows of a clip are put in order by one number: its rank, its part's number, its row in it."""
_ABSENT: Final = 3 << _RANK_BITS
"""Behind all of them."""


def score_clips(run: RunDirectory, wanted: WantedMedia, *, encoder: str, sampler: str) -> int:
    """Score every wanted clip with every measure; write media, scores and means.

    Args:
        run: with embeddings parts.
        wanted: what samples name; parts hold other clips too (earlier settings, files since
            changed). Of several rows of a clip, one that succeeded counts, else the first of a file
            that could be fetched.
        encoder: fingerprint of the embeddings to score.
        sampler: fingerprint of their frame sampling.

    Returns:
        How many clips were found.
    """
    measures = all_measures()
    score_schema = _score_schema([measure.name for measure in measures])
    scores_only = [field for field in score_schema if field.name not in EMBEDDING_FACTS.names]
    files = run.part_files()
    part_C, row_C = _chosen_rows(run, files, wanted, encoder=encoder, sampler=sampler)
    by_part = np.lexsort((row_C, part_C))
    numbers, firsts = np.unique(part_C[by_part], return_index=True)
    indices = np.split(by_part, firsts[1:])
    parts = each_file(partial(_read_part, measures), [files[number] for number in numbers.tolist()])
    with (
        PlacedRows(pa.schema([*EMBEDDING_FACTS, *scores_only])) as rows,
        _Means(len(part_C)) as means,
    ):
        for (file, part), index_R in zip(parts, indices, strict=False):  # no parts: an empty split
            chosen = _complete(file, part, row_C[index_R], measures)
            means.add(chosen, index_R)
            rows.add(chosen.drop_columns(MEAN), index_R)
        media = (table.select(EMBEDDING_FACTS.names) for table in rows.ordered())
        write_batches(run.media, EMBEDDING_FACTS, (t.cast(EMBEDDING_FACTS) for t in media))
        scores = (table.select(score_schema.names) for table in rows.ordered())
        write_batches(run.scores, score_schema, (t.cast(score_schema) for t in scores))
        fingerprints = {"encoder": encoder, "sampler": sampler}
        write_means(run, rows.ordered(), means.mean_CD, means.num_frames_C, **fingerprints)
    return len(part_C)


def _read_part(measures: Sequence[Measure], file: File) -> tuple[File, pa.Table]:
    """Read all of a part but its vectors, with the scores and means that it has."""
    stored = [*map(score_column, measures), MEAN]
    return file, read_rows(file, EMBEDDING_FACTS.names, optional=stored)


def _complete(
    file: File, part: pa.Table, row_R: NDArray[np.int32], measures: Sequence[Measure]
) -> pa.Table:
    """Choose rows of a part; work out what it has not of them.

    Returns:
        EMBEDDING_FACTS, the scores by the measures' names, and the means.
    """
    wanted = [*map(score_column, measures), MEAN]
    names = [*(measure.name for measure in measures), MEAN]
    chosen = part.take(pa.array(row_R))
    good_R = pc.equal(chosen["reason"], "").to_numpy()
    known = [name for name in wanted if name in chosen.column_names]
    lacks = len(known) < len(wanted) or any(
        (good_R & chosen[name].is_null().to_numpy()).any() for name in known
    )
    complete = chosen.select(EMBEDDING_FACTS.names)
    if lacks:
        embeddings = _embeddings(file, chosen, np.where(good_R, row_R, -1))
        columns = [*scores_of(embeddings, measures), means_of(embeddings)]
    else:
        columns = [chosen[name] for name in wanted]
    for name, column in zip(names, columns, strict=True):
        value = column if name == MEAN else _without_nan(column)
        complete = complete.append_column(name, value)
    return complete


def _without_nan(scores: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    return pc.if_else(pc.is_nan(scores), pa.scalar(None, pa.float64()), scores)


def _embeddings(
    file: File, chosen: pa.Table, row_R: NDArray[np.int32]
) -> list[NDArray[np.float16] | None]:
    """Read the vectors of chosen rows of a part, whose numbers ascend; None for -1."""
    found: list[NDArray[np.float16] | None] = [None] * len(chosen)
    num_frames = pc.list_value_length(chosen["frame_index"]).to_pylist()
    first = 0
    for _, group in read_groups([file], ["embedding"]):
        column = group["embedding"]
        for index in np.flatnonzero((row_R >= first) & (row_R < first + len(group))).tolist():
            found[index] = embedding_matrix(column[int(row_R[index]) - first], num_frames[index])
        first += len(group)
    return found


class _Means(ExitStack):
    """Takes the means of clips, in any order, into a file for temporary files.

    Args:
        num_clips: of all parts.
    """

    def __init__(self, num_clips: int) -> None:
        super().__init__()
        self.num_frames_C = np.zeros(num_clips, dtype=np.int32)
        self.mean_CD = np.zeros((num_clips, 0), dtype=np.float16)

    def add(self, clips: pa.Table, index_R: NDArray[np.intp]) -> None:
        """Add the means of a part's clips, of those that did not fail."""
        good_G = np.flatnonzero(clips[MEAN].is_valid().to_numpy())
        if not len(good_G):
            return
        mean_GD = mean_matrix(clips[MEAN].combine_chunks())
        if not self.mean_CD.shape[1]:
            buffer = RowFile(len(self.mean_CD), mean_GD.shape[1], np.float16)
            self.mean_CD = self.enter_context(buffer).rows
        self.mean_CD[index_R[good_G]] = mean_GD
        num_frames = pc.list_value_length(clips["frame_index"]).to_numpy()
        self.num_frames_C[index_R[good_G]] = num_frames[good_G]


def _chosen_rows(
    run: RunDirectory, files: Sequence[File], wanted: WantedMedia, *, encoder: str, sampler: str
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Find the part and the row of every clip, by URI and then by start and end."""
    names = pa.array([file.name for file in files], pa.string())
    best_C = np.full(wanted.num_clips, _ABSENT, dtype=np.int64)
    for rows in gathered(_numbered(table, names) for table in read_part_index(run)):
        clip_R = wanted.current_clips(rows, encoder=encoder, sampler=sampler)
        is_wanted_R = clip_R >= 0
        order_R = _ranks(rows["reason"]) << _RANK_BITS
        order_R |= rows["part"].to_numpy() << _ROW_BITS | rows["row"].to_numpy()
        np.minimum.at(best_C, clip_R[is_wanted_R], order_R[is_wanted_R])
    best_C = best_C[best_C < _ABSENT]
    part_C = best_C >> _ROW_BITS & (1 << _RANK_BITS - _ROW_BITS) - 1
    return part_C.astype(np.int32), (best_C & (1 << _ROW_BITS) - 1).astype(np.int32)


def _numbered(rows: pa.Table, names: pa.Array) -> pa.Table:
    """Keep of rows of the index what is looked at, with the number of their part, by its name."""
    part = pc.index_in(rows["part"].cast(pa.string()), value_set=names).cast(pa.int64())
    kept = rows.select([*CURRENT_COLUMNS, "row"])
    return kept.append_column("part", part)


def media_ids(run: RunDirectory) -> pa.Table:
    """Read which content each file had when it was last scored; no rows before the first time."""
    columns = ["uri", "media_id"]
    if not run.media.is_file():
        return pa.table({name: pa.array([], pa.string()) for name in columns})
    known = read_table(run.media, columns=columns)
    return known.filter(pc.not_equal(known["media_id"], "")).group_by(columns).aggregate([])


def changed_files(before: pa.Table, now: pa.Table) -> tuple[str, ...]:
    """Compare two of `media_ids`: the files of both whose content changed, in order."""
    both = before.join(now, "uri", join_type="inner", right_suffix="_now")
    other = both.filter(pc.not_equal(both["media_id"], both["media_id_now"]))
    return tuple(sorted(other["uri"].to_pylist()))


def _ranks(reason: pa.ChunkedArray) -> NDArray[np.int64]:
    """Rank what there is of clips, the best lowest: a retry may have mended an earlier failure."""
    failed_R = pc.not_equal(reason, "").to_numpy().astype(np.int64)
    not_fetched = pc.equal(reason, Reason.FETCH_FAILED.value)  # says nothing about the file
    ranks: NDArray[np.int64] = failed_R + not_fetched.to_numpy()
    return ranks


def _score_schema(measures: list[str]) -> pa.Schema:
    key = [("uri", pa.string()), ("clip_start_s", pa.float64()), ("clip_end_s", pa.float64())]
    return pa.schema(
        [("media_id", pa.string()), *key, *((name, pa.float64()) for name in measures)]
    )
