"""The filters of a run: what each rule measures of each row, and who goes. Touches no video."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vxp_data.conversation import conversation_from_json, question_answer_pairs
from vxp_data.core.decisions import check_tasks
from vxp_data.core.filter_rules.media import BLANK_CONTRAST, CUT_CHANGE
from vxp_data.core.filter_rules.texts import IMAGE_TEXT_SIMILARITY, is_pair
from vxp_data.core.filters import Bounds, RowFacts, Turns, filter_rows, load_rule
from vxp_data.core.text_rules import caption
from vxp_data.pipeline.curate.image_text_table import pair_key, read_similarities
from vxp_data.pipeline.curate.placed_rows import PlacedRows
from vxp_data.pipeline.run_dir.clip_facts import few_texts
from vxp_data.pipeline.run_dir.directory import RunDirectory, read_batches, read_table
from vxp_data.pipeline.run_dir.stored_frames import clip_seconds
from vxp_data.records import Modality, Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Filtered:
    """What filters made of N rows."""

    dropped: NDArray[np.object_]
    """Each row's reason, '' for one that stays."""
    values: pa.Table
    """sample_id, and a column a rule, null where it says nothing."""
    num_unmeasured: int
    """Image-text pairs that stay because nobody has compared them."""


def filter_samples(
    run: RunDirectory,
    samples: pa.Table,
    placed: PlacedRows,
    media: pa.Table,
    filters: Mapping[str, Bounds],
    *,
    encoder: str,
) -> Filtered:
    """Measure the rows of a run, and say why which of them go.

    Args:
        run: with media.parquet and samples.parquet.
        samples: sample_id, task, modality and `clips` of N samples; of several media each must
            pass.
        placed: where their clips are in `media`; quarantined ones take no part.
        media: of media.parquet.
        filters: bounds by rule.
        encoder: fingerprint of the run's embeddings.

    Raises:
        UserError: a file of the run cannot be read, or a filter names a task that no row has.
    """
    present = {*pc.unique(samples["task"]).to_pylist(), *Task}
    for name, bounds in filters.items():
        check_tasks(bounds.tasks, present, where=f"filters.{name}.tasks")
    index_N = placed.index_N
    judged = _judged(samples, placed)
    row_M, index_M = judged.row_M, judged.index_M
    needs = {load_rule(name).needs for name in filters}
    measured = "frame_statistics" in needs
    statistics = frame_statistics(run) if measured else FrameStatistics.unknown(len(media))
    columns = (media[name].to_pylist() for name in ("clip_start_s", "clip_end_s", "duration_s"))
    seconds_C = np.array([clip_seconds(*times) for times in zip(*columns, strict=True)])
    chosen = samples.take(pa.array(row_M))
    said: list[Turns] = [()] * len(row_M)
    if needs & {"text", "similarity"}:
        said_N = dict(
            zip(np.flatnonzero(index_N > -2).tolist(), read_turns(run, index_N > -2), strict=True)
        )
        said = [said_N[row] for row in row_M.tolist()]
    facts = RowFacts(
        sample_id=chosen["sample_id"].to_pylist(),
        task=few_texts(chosen["task"]).tolist(),
        modality=judged.modality_M.tolist(),
        index_N=index_M,
        duration_s_N=_of_clips(seconds_C, index_M),
        width_px_N=_of_clips(media["width_px"].to_numpy(), index_M),
        height_px_N=_of_clips(media["height_px"].to_numpy(), index_M),
        audio_streams_N=_of_clips(media["num_audio_streams"].to_numpy(), index_M),
        exact_share_N=_of_clips(_exact_share(media), index_M),
        change_N=_of_clips(statistics.change_C, index_M),
        scene_changes_N=_of_clips(statistics.cuts_C, index_M),
        blank_share_N=_of_clips(statistics.blank_share_C, index_M),
        similarity_N=np.full(len(row_M), np.nan),
        exchanges=said,
    )
    num_unmeasured = 0
    if "similarity" in needs:
        pair_M = is_pair(facts) & judged.is_alone_M
        similarity_M = _similarities(run, facts, pair_M, media, encoder)
        facts = replace(facts, similarity_N=similarity_M)
        num_unmeasured = _num_unmeasured(facts, pair_M, filters[IMAGE_TEXT_SIMILARITY.name])
    reason_M, values = filter_rows(facts, filters)
    decisive_R = judged.decisive(reason_M)
    rows = row_M[decisive_R]
    reason_N = np.full(len(samples), "", dtype=object)
    reason_N[rows] = reason_M[decisive_R]
    table = pa.table({"sample_id": samples["sample_id"]})
    for name, value_M in values.items():
        value_N = np.full(len(samples), np.nan)
        value_N[rows] = value_M[decisive_R]
        table = table.append_column(name, pa.array(value_N, from_pandas=True))
    return Filtered(dropped=reason_N, values=table, num_unmeasured=num_unmeasured)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judged:
    """What the rules look at: M media of rows, a row with several once for each of them."""

    row_M: NDArray[np.int64]
    """Index of each one's row, ascending."""
    index_M: NDArray[np.int64]
    """Index of its clip; -1 without one."""
    modality_M: NDArray[np.object_]
    is_alone_M: NDArray[np.bool_]
    """It is its row's only one."""

    def decisive(self, reason_M: NDArray[np.object_]) -> NDArray[np.int64]:
        """Return the one of each row that decides: the first with a reason, else the first."""
        stays_M = np.array([not reason for reason in reason_M], dtype=np.bool_)
        order_M = np.lexsort((np.arange(len(stays_M)), stays_M, self.row_M))
        return order_M[np.diff(self.row_M[order_M], prepend=-1) > 0]


def _judged(samples: pa.Table, placed: PlacedRows) -> _Judged:
    several, index_N = placed.clips, placed.index_N
    modality_N = few_texts(samples["modality"])
    is_alone_N = np.bincount(several.row_E, minlength=len(samples)) == 0
    alone_A = np.flatnonzero((index_N > -2) & is_alone_N)
    wanted_E = index_N[several.row_E] > -2
    modality_E = np.where(several.is_video_E, Modality.VIDEO.value, Modality.IMAGE.value)
    row_M = np.concatenate([alone_A, several.row_E[wanted_E]])
    index_M = np.concatenate([index_N[alone_A], placed.clip_E[wanted_E]])
    modality_M = np.concatenate([modality_N[alone_A], modality_E[wanted_E].astype(object)])
    order_M = np.argsort(row_M, kind="stable")
    return _Judged(
        row_M=row_M[order_M],
        index_M=index_M[order_M],
        modality_M=modality_M[order_M],
        is_alone_M=(np.arange(len(row_M)) < len(alone_A))[order_M],
    )


def _num_unmeasured(facts: RowFacts, pair_N: NDArray[np.bool_], bounds: Bounds) -> int:
    mine_N = np.isin(np.asarray(facts.task, dtype=object), bounds.tasks or facts.task)
    return int((pair_N & mine_N & np.isnan(facts.similarity_N)).sum())


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameStatistics:
    """What is told of C clips by their frames' pixels; NaN for those without frames."""

    change_C: NDArray[np.float64]
    cuts_C: NDArray[np.float64]
    blank_share_C: NDArray[np.float64]

    @classmethod
    def unknown(cls, num_clips: int) -> Self:
        """Return as many of which nothing is known."""
        nothing_C = np.full(num_clips, np.nan)
        return cls(change_C=nothing_C, cuts_C=nothing_C, blank_share_C=nothing_C)


def frame_statistics(run: RunDirectory) -> FrameStatistics:
    """Read what happens between and in the frames of a run's clips."""
    media = read_table(run.media, columns=["content_change", "contrast"])
    change, contrast = (media[name].combine_chunks() for name in media.column_names)
    change_P = change.flatten().to_numpy().astype(np.float64)
    contrast_F = contrast.flatten().to_numpy()
    of_P, of_F = (pc.list_parent_indices(lists).to_numpy() for lists in (change, contrast))
    num = len(media)
    frames_C = np.bincount(of_F, minlength=num)
    known_C = np.where(frames_C > 0, frames_C, np.nan)  # a lone frame has changed by nothing
    pairs_C = np.where(frames_C > 0, np.maximum(frames_C - 1, 1), np.nan)
    return FrameStatistics(
        change_C=np.bincount(of_P, change_P, minlength=num) / pairs_C,
        cuts_C=np.bincount(of_P, change_P > CUT_CHANGE, minlength=num) + 0 * known_C,
        blank_share_C=np.bincount(of_F, contrast_F <= BLANK_CONTRAST, minlength=num) / known_C,
    )


def _exact_share(media: pa.Table) -> NDArray[np.float64]:
    exact_C, expected_C = (
        pc.cast(media[name], pa.float64()).to_numpy()
        for name in ("frames_exact", "frames_expected")
    )
    share_C: NDArray[np.float64] = exact_C / np.where(expected_C > 0, expected_C, np.nan)
    return share_C


def _of_clips(value_C: NDArray[np.generic], index_M: NDArray[np.int64]) -> NDArray[np.float64]:
    padded = np.append(value_C.astype(np.float64), np.nan)
    of_rows: NDArray[np.float64] = padded[index_M]  # -1, no clip, is the last
    return of_rows


def _similarities(
    run: RunDirectory,
    facts: RowFacts,
    pair_N: NDArray[np.bool_],
    media: pa.Table,
    encoder: str,
) -> NDArray[np.float64]:
    """Return what was measured of those of some rows that are pairs, NaN for the rest."""
    known, media_ids = read_similarities(run), media["media_id"].to_pylist()
    similarity_N = np.full(len(facts.sample_id), np.nan)
    for row in np.flatnonzero(pair_N).tolist():
        media_id = media_ids[facts.index_N[row]]
        key = pair_key(media_id, caption(facts.exchanges[row]), encoder)
        similarity_N[row] = known.get(key, np.nan)
    return similarity_N


def read_turns(run: RunDirectory, wanted_N: NDArray[np.bool_]) -> list[list[tuple[str, str]]]:
    """Read the questions and answers of the wanted rows of a run."""
    said: list[list[tuple[str, str]]] = []
    first = 0
    for batch in read_batches(run.samples, columns=["turns"]):
        wanted = batch.filter(pa.array(wanted_N[first : first + batch.num_rows]))
        first += batch.num_rows
        for text in wanted["turns"].to_pylist():
            said.append(question_answer_pairs(conversation_from_json(text)))
    return said
