"""The filters of a run: what each rule measures of each row, and who goes. Touches no video."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vxp_data.core.filters import Bounds, RowFacts, count_cuts, filter_rows, load_rule
from vxp_data.core.similarity import cross_cosines
from vxp_data.pipeline.clip_facts import few_texts
from vxp_data.pipeline.rundir import RunDirectory, read_batches
from vxp_data.pipeline.stored_frames import clip_seconds, stored_frames

_CLIP: Final = ("uri", "clip_start_s", "clip_end_s", "file_stamp")


def filter_samples(
    run: RunDirectory,
    samples: pa.Table,
    place_N: NDArray[np.int64],
    media: pa.Table,
    filters: Mapping[str, Bounds],
    *,
    encoder: str,
    sampler: str,
) -> tuple[NDArray[np.object_], pa.Table]:
    """Measure the rows of a run, and say why which of them go.

    Args:
        run: with embeddings, where a rule looks at frames.
        samples: sample_id, task and modality of N samples.
        place_N: each one's clip in `media`; -1 without one; -2 for rows that take no part.
        media: of media.parquet and scores.parquet.
        filters: bounds by rule.
        encoder: fingerprint of the run's embeddings.
        sampler: fingerprint of their frame sampling.

    Returns:
        Each row's reason, '' for one that stays; and a table: sample_id, a column a rule (null
        where it says nothing).

    Raises:
        UserError: embeddings cannot be read.
    """
    row_M = np.flatnonzero(place_N > -2)
    needs = {load_rule(name).needs for name in filters}
    cuts_C = np.full(len(media), np.nan)
    if "frames" in needs:
        wanted_C = np.unique(place_N[place_N >= 0])
        clips = media.select(_CLIP).take(pa.array(wanted_C))
        for clip in stored_frames(run, clips, encoder=encoder, sampler=sampler):
            cosine_FF = cross_cosines(clip.emb_FD, clip.emb_FD)
            cuts_C[wanted_C[clip.place]] = count_cuts(np.diagonal(cosine_FF, offset=1))
    place_M = place_N[row_M]
    adjacent_C = pc.fill_null(media["mean_adjacent"], np.nan).to_numpy()
    columns = (media[name].to_pylist() for name in ("clip_start_s", "clip_end_s", "duration_s"))
    seconds_C = np.array([clip_seconds(*times) for times in zip(*columns, strict=True)])
    chosen = samples.take(pa.array(row_M))
    facts = RowFacts(
        sample_id=chosen["sample_id"].to_pylist(),
        task=few_texts(chosen["task"]).tolist(),
        modality=few_texts(chosen["modality"]).tolist(),
        place_N=place_M,
        duration_s_N=_of_clips(seconds_C, place_M),
        width_px_N=_of_clips(media["width_px"].to_numpy(), place_M),
        height_px_N=_of_clips(media["height_px"].to_numpy(), place_M),
        mean_adjacent_N=_of_clips(adjacent_C, place_M),
        scene_changes_N=_of_clips(cuts_C, place_M),
        exchanges=_exchanges(run, place_N > -2) if "text" in needs else [()] * len(row_M),
    )
    reason_M, values = filter_rows(facts, filters)
    reason_N = np.full(len(samples), "", dtype=object)
    reason_N[row_M] = reason_M
    table = pa.table({"sample_id": samples["sample_id"]})
    for name, value_M in values.items():
        value_N = np.full(len(samples), np.nan)
        value_N[row_M] = value_M
        table = table.append_column(name, pa.array(value_N, from_pandas=True))
    return reason_N, table


def _of_clips(value_C: NDArray[np.generic], place_M: NDArray[np.int64]) -> NDArray[np.float64]:
    padded = np.append(value_C.astype(np.float64), np.nan)
    of_rows: NDArray[np.float64] = padded[place_M]  # -1, no clip, is the last
    return of_rows


def _exchanges(run: RunDirectory, wanted_N: NDArray[np.bool_]) -> list[list[tuple[str, str]]]:
    said: list[list[tuple[str, str]]] = []
    first = 0
    for batch in read_batches(run.samples, columns=["exchanges"]):
        wanted = batch.filter(pa.array(wanted_N[first : first + batch.num_rows]))
        first += batch.num_rows
        for text in wanted["exchanges"].to_pylist():
            said.append([(question, answer) for question, answer in json.loads(text)])
    return said
