"""From embeddings parts to media, scores and means, a row a clip: pure columns, no video."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vxp_data.core.duplicates import clip_mean
from vxp_data.core.similarity import Measure, score_videos
from vxp_data.pipeline.embed.wanted_media import WantedMedia
from vxp_data.pipeline.embed.work_items import gathered
from vxp_data.pipeline.run_dir.clip_means import write_means
from vxp_data.pipeline.run_dir.directory import RunDirectory, read_table, read_tables, write_batches
from vxp_data.pipeline.run_dir.embedding_column import embedding_matrix
from vxp_data.pipeline.run_dir.ordered_rows import PlacedRows
from vxp_data.pipeline.run_dir.stored_frames import MemmapBuffer
from vxp_data.records import Reason
from vxp_data.registry import MEASURES
from vxp_data.schemas import CURRENT_COLUMNS, EMBEDDING_FACTS, EMBEDDING_SCHEMA
from vxp_data.storage.folder import File

_ABSENT: Final = 3
"""Worse than any rank."""


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
    measures: list[Measure] = [MEASURES.load(name) for name in MEASURES.names()]
    score_schema = _score_schema([measure.name for measure in measures])
    scores_only = [field for field in score_schema if field.name not in EMBEDDING_FACTS.names]
    files = run.part_files()
    part_C, row_C = _chosen_rows(files, wanted, encoder=encoder, sampler=sampler)
    by_part = np.lexsort((row_C, part_C))
    numbers, firsts = np.unique(part_C[by_part], return_index=True)
    indices = np.split(by_part, firsts[1:])
    parts = read_tables(
        [files[number] for number in numbers.tolist()], columns=EMBEDDING_SCHEMA.names
    )
    with (
        PlacedRows(pa.schema([*EMBEDDING_FACTS, *scores_only])) as rows,
        _Means(len(part_C)) as means,
    ):
        for part, index_R in zip(parts, indices, strict=False):  # no parts: one empty split
            chosen = part.take(pa.array(row_C[index_R]))
            facts = chosen.select(EMBEDDING_FACTS.names)
            for field, column in zip(scores_only, _scores(chosen, measures), strict=True):
                facts = facts.append_column(field, pa.array(column, from_pandas=True))
            means.add(chosen, index_R)
            rows.add(facts, index_R)
        media = (table.select(EMBEDDING_FACTS.names) for table in rows.ordered())
        write_batches(run.media, EMBEDDING_FACTS, (t.cast(EMBEDDING_FACTS) for t in media))
        scores = (table.select(score_schema.names) for table in rows.ordered())
        write_batches(run.scores, score_schema, (t.cast(score_schema) for t in scores))
        fingerprints = {"encoder": encoder, "sampler": sampler}
        write_means(run, rows.ordered(), means.mean_CD, means.num_frames_C, **fingerprints)
    return len(part_C)


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
        good_G = np.flatnonzero(pc.equal(clips["reason"], "").to_numpy())
        num_frames_R = pc.list_value_length(clips["frame_index"]).to_numpy()
        for row in good_G.tolist():
            emb_FD = embedding_matrix(clips["embedding"][row], int(num_frames_R[row]))
            if not self.mean_CD.shape[1]:
                buffer = MemmapBuffer(len(self.mean_CD), emb_FD.shape[1])
                self.mean_CD = self.enter_context(buffer).rows
            self.mean_CD[index_R[row]] = clip_mean(emb_FD)
            self.num_frames_C[index_R[row]] = len(emb_FD)


def _chosen_rows(
    files: Sequence[File], wanted: WantedMedia, *, encoder: str, sampler: str
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Find the part and the row of every clip, by URI and then by start and end."""
    rank_C = np.full(wanted.num_clips, _ABSENT, dtype=np.int8)
    part_C, row_C = (np.zeros(wanted.num_clips, dtype=np.int32) for _ in range(2))
    for rows in gathered(map(_numbered, enumerate(read_tables(files, columns=CURRENT_COLUMNS)))):
        clip_R = wanted.current_clips(rows, encoder=encoder, sampler=sampler)
        rank_R = _ranks(rows["reason"])
        is_better_R = (clip_R >= 0) & (rank_R < rank_C[clip_R])
        better_B = np.flatnonzero(is_better_R)
        better_B = better_B[np.lexsort((better_B, rank_R[better_B], clip_R[better_B]))]
        clip_B = clip_R[better_B]
        best_B = better_B[np.append(True, clip_B[1:] != clip_B[:-1])[: len(clip_B)]]
        clip_B = clip_R[best_B]
        rank_C[clip_B] = rank_R[best_B]
        part_C[clip_B] = rows["part"].to_numpy()[best_B]
        row_C[clip_B] = rows["row"].to_numpy()[best_B]
    found_C = rank_C < _ABSENT
    return part_C[found_C], row_C[found_C]


def _numbered(part: tuple[int, pa.Table]) -> pa.Table:
    """Add the part's number to its rows, and their own."""
    number, rows = part
    rows = rows.append_column("part", pa.array(np.full(len(rows), number, dtype=np.int32)))
    return rows.append_column("row", pa.array(np.arange(len(rows), dtype=np.int32)))


def _scores(clips: pa.Table, measures: Sequence[Measure]) -> list[NDArray[np.float64]]:
    """Score the clips of a part by each measure; NaN for those that failed."""
    good_G = np.flatnonzero(pc.equal(clips["reason"], "").to_numpy())
    column, num_frames = clips["embedding"], pc.list_value_length(clips["frame_index"]).to_pylist()
    matrices = [embedding_matrix(column[i], num_frames[i]) for i in good_G.tolist()]
    by_measure = score_videos(matrices, measures)
    scores = []
    for measure in measures:
        score_R = np.full(len(clips), np.nan)
        score_R[good_G] = by_measure[measure.name]
        scores.append(score_R)
    return scores


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


def _ranks(reason: pa.ChunkedArray) -> NDArray[np.int8]:
    """Rank what there is of clips, the best lowest: a retry may have mended an earlier failure."""
    failed_R = pc.not_equal(reason, "").to_numpy().astype(np.int8)
    not_fetched = pc.equal(reason, Reason.FETCH_FAILED.value)  # says nothing about the file
    ranks: NDArray[np.int8] = failed_R + not_fetched.to_numpy().astype(np.int8)
    return ranks


def _score_schema(measures: list[str]) -> pa.Schema:
    key = [("uri", pa.string()), ("clip_start_s", pa.float64()), ("clip_end_s", pa.float64())]
    return pa.schema(
        [("media_id", pa.string()), *key, *((name, pa.float64()) for name in measures)]
    )
