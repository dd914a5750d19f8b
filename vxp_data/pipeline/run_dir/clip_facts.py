"""What is known of each sample's media: score, length, file, and what keeping it costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vxp_data.core.cost_model import CostModel, RowCosts, expected_frames
from vxp_data.core.sampling_plans import SamplingRule
from vxp_data.errors import UserError
from vxp_data.pipeline.run_dir.directory import RunDirectory, column_names, read_table
from vxp_data.pipeline.run_dir.row_clips import RowClips, row_clips
from vxp_data.records import Modality
from vxp_data.schemas import CLIP_KEY, SAMPLE_CLIP_KEY


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipFacts:
    """Facts about each sample's clip, in the samples' order; '', NaN and 0 where there is none.

    Of a row with several media: the reason of the first that failed, the score of its videos'
    frames together, and sums.
    """

    media_id: pa.ChunkedArray
    reason: pa.ChunkedArray
    message: pa.ChunkedArray
    score_N: NDArray[np.float64]
    duration_s_N: NDArray[np.float64]
    num_frames_N: NDArray[np.float64]
    """Frames in the clip; a part of a video has its share of the video's frames."""
    num_images_N: NDArray[np.int64]
    """Images that a row has, beside its videos or alone."""
    num_bytes_N: NDArray[np.int64]
    """Of the whole file."""
    is_inexact_N: NDArray[np.bool_]
    """Some of its planned frames could not be decoded."""
    file_N: NDArray[np.int64]
    """Number of the sample's file, the same for all samples of a file; -1 where there is none. Of
    several, the one that `media_uri` names."""


def read_clip_facts(run: RunDirectory, samples: pa.Table, measure: str) -> ClipFacts:
    """Find every sample's media in media.parquet, scores.parquet and row_scores.parquet.

    Args:
        run: with these files.
        samples: with the columns sample_id, modality, SAMPLE_CLIP_KEY and `clips`.
        measure: whose scores are wanted.

    Raises:
        UserError: a file cannot be read, or nothing was scored by the measure.
    """
    facts = ["duration_s", "num_frames", "num_bytes", "frames_exact", "frames_expected"]
    media = read_table(run.media, columns=[*CLIP_KEY, "media_id", "reason", "message", *facts])
    if measure not in column_names(run.scores):  # a package has brought it since
        raise UserError(
            f"{run.scores}: has no scores by {measure!r}, which was not there when the run was "
            "pruned. Run the same prune again: what is embedded is kept, and scored by it too."
        )
    media = media.append_column("score", read_table(run.scores, columns=[measure])[measure])
    is_image_N = few_texts(samples["modality"]) == Modality.IMAGE
    of_one = _facts(media, samples.select(SAMPLE_CLIP_KEY), is_image_N)
    several = row_clips(samples)
    if not len(several):
        return of_one
    return _with_several(run, of_one, samples, several, media, measure)


def _facts(media: pa.Table, keys: pa.Table, is_image: NDArray[np.bool_]) -> ClipFacts:
    """Look clips up, each by itself."""
    found = media.drop_columns(["uri"]).take(indices(keys, media.select(CLIP_KEY)))
    start_s, end_s, duration_s, score, num_frames, num_bytes = (
        pc.fill_null(found[name].cast(pa.float64()), np.nan).to_numpy()
        for name in (*SAMPLE_CLIP_KEY[1:], "duration_s", "score", "num_frames", "num_bytes")
    )
    clip_s = np.nan_to_num(np.maximum(np.minimum(duration_s, end_s) - start_s, 0))
    part = np.divide(
        clip_s, duration_s, out=np.ones_like(clip_s), where=np.nan_to_num(duration_s) > 0
    )
    uris = keys["media_uri"].combine_chunks().dictionary_encode()
    file = uris.indices.to_numpy().astype(np.int64)
    return ClipFacts(
        media_id=pc.fill_null(found["media_id"], ""),
        reason=pc.fill_null(found["reason"], ""),
        message=pc.fill_null(found["message"], ""),
        score_N=score,
        duration_s_N=clip_s,
        num_frames_N=np.ceil(np.nan_to_num(num_frames) * part - 1e-6),
        num_images_N=is_image.astype(np.int64),
        num_bytes_N=np.nan_to_num(num_bytes).astype(np.int64),
        is_inexact_N=pc.fill_null(
            pc.less(found["frames_exact"], found["frames_expected"]), False
        ).to_numpy(),
        file_N=np.where(file == uris.dictionary.index("").as_py(), -1, file),
    )


def _with_several(
    run: RunDirectory,
    of_one: ClipFacts,
    samples: pa.Table,
    several: RowClips,
    media: pa.Table,
    measure: str,
) -> ClipFacts:
    """Put what is known of all media of a row in the place of what is known of one."""
    each, num_rows = _facts(media, several.keys, ~several.is_video_E), len(samples)
    has_N = np.bincount(several.row_E, minlength=num_rows) > 0

    def summed(value_E: NDArray[Any], other_N: NDArray[Any]) -> NDArray[Any]:
        sum_N = np.bincount(several.row_E, value_E, minlength=num_rows)
        return np.where(has_N, sum_N, other_N).astype(other_N.dtype)

    is_video_E = several.is_video_E
    reason_N, message_N = of_one.reason.to_pylist(), of_one.message.to_pylist()
    uris, failures = several.keys["media_uri"].to_pylist(), each.reason.to_pylist()
    messages = each.message.to_pylist()
    for row in np.flatnonzero(has_N).tolist():
        reason_N[row] = message_N[row] = ""
    for i in reversed(np.flatnonzero(np.array(failures, dtype=object) != "").tolist()):
        row = int(several.row_E[i])  # of several failures, the first is written last
        reason_N[row], message_N[row] = failures[i], f"{uris[i]}: {messages[i]}"
    score_N = of_one.score_N.copy()
    if len(scored_N := np.flatnonzero(several.num_videos(num_rows) > 1)):
        scores = read_table(run.row_scores, columns=["sample_id", measure])
        by_id = dict(zip(*(scores[name].to_pylist() for name in scores.column_names), strict=True))
        ids = samples["sample_id"].take(pa.array(scored_N)).to_pylist()
        score_N[scored_N] = [by_id.get(sample_id, np.nan) for sample_id in ids]
    return ClipFacts(
        media_id=of_one.media_id,
        reason=pa.chunked_array([reason_N], pa.string()),
        message=pa.chunked_array([message_N], pa.string()),
        score_N=score_N,
        duration_s_N=summed(each.duration_s_N * is_video_E, of_one.duration_s_N),
        num_frames_N=summed(each.num_frames_N * is_video_E, of_one.num_frames_N),
        num_images_N=summed(each.num_images_N, of_one.num_images_N),
        num_bytes_N=summed(each.num_bytes_N, of_one.num_bytes_N),
        is_inexact_N=summed(each.is_inexact_N, of_one.is_inexact_N),
        file_N=of_one.file_N,
    )


def row_costs(
    clips: ClipFacts, modality_N: NDArray[np.object_], rule: SamplingRule, model: CostModel
) -> RowCosts:
    """Return what each sample costs, from its clip's length and the sampling rule."""
    video_N = modality_N == Modality.VIDEO
    planned_N = expected_frames(rule, clips.duration_s_N, clips.num_frames_N)
    planned_N = np.where(video_N, planned_N, 0.0)
    tokens_N = planned_N * model.tokens_per_frame + clips.num_images_N * model.tokens_per_image
    return RowCosts(
        frames_N=planned_N + clips.num_images_N,
        tokens_N=tokens_N,
        file_N=clips.file_N,
        is_video_N=video_N,
        duration_s_N=clips.duration_s_N,
        num_bytes_N=clips.num_bytes_N,
        tokens_per_gpu_hour=model.tokens_per_gpu_hour,
    )


def few_texts(column: pa.ChunkedArray) -> NDArray[np.object_]:
    """Return a column of few different texts as objects, one object a text."""
    encoded = column.combine_chunks().dictionary_encode()
    texts = np.array(encoded.dictionary.to_pylist(), dtype=np.object_)
    return texts[encoded.indices.to_numpy()] if len(texts) else np.zeros(0, dtype=np.object_)


def indices(samples: pa.Table, media: pa.Table) -> pa.Array:
    """Return, for every sample, the row of its clip in `media`; null where there is none."""
    samples = samples.append_column("sample", pa.array(np.arange(len(samples))))
    media = media.append_column("index", pa.array(np.arange(len(media))))
    joined = samples.join(media, list(SAMPLE_CLIP_KEY), list(CLIP_KEY), join_type="left outer")
    return joined.sort_by("sample")["index"].combine_chunks()
