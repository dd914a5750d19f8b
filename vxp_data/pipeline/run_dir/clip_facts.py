"""What is known of each sample's clip: score, length, file, and what keeping it costs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vxp_data.core.cost_model import CostModel, RowCosts, expected_frames
from vxp_data.core.sampling_plans import SamplingRule
from vxp_data.errors import UserError
from vxp_data.pipeline.run_dir.directory import RunDirectory, column_names, read_table
from vxp_data.records import Modality
from vxp_data.schemas import CLIP_KEY, SAMPLE_CLIP_KEY

"""Columns of samples.parquet that name a clip."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipFacts:
    """Facts about each sample's clip, in the samples' order; '', NaN and 0 where there is none."""

    media_id: pa.ChunkedArray
    reason: pa.ChunkedArray
    message: pa.ChunkedArray
    score_N: NDArray[np.float64]
    duration_s_N: NDArray[np.float64]
    num_frames_N: NDArray[np.float64]
    """Frames in the clip; a part of a video has its share of the video's frames."""
    num_bytes_N: NDArray[np.int64]
    """Of the whole file."""
    is_inexact_N: NDArray[np.bool_]
    """Some of its planned frames could not be decoded."""
    file_N: NDArray[np.int64]
    """Number of the sample's file, the same for all samples of a file; -1 where there is none."""


def read_clip_facts(run: RunDirectory, samples: pa.Table, measure: str) -> ClipFacts:
    """Find every sample's clip in media.parquet and scores.parquet.

    Args:
        run: with both files.
        samples: with the columns SAMPLE_CLIP_KEY.
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
    index_N = indices(samples.select(SAMPLE_CLIP_KEY), media.select(CLIP_KEY))
    found = media.drop_columns(["uri"]).take(index_N)
    start_s, end_s, duration_s, score, num_frames, num_bytes = (
        pc.fill_null(found[name].cast(pa.float64()), np.nan).to_numpy()
        for name in (*SAMPLE_CLIP_KEY[1:], "duration_s", "score", "num_frames", "num_bytes")
    )
    clip_s_N = np.nan_to_num(np.maximum(np.minimum(duration_s, end_s) - start_s, 0))
    part_N = np.divide(
        clip_s_N, duration_s, out=np.ones_like(clip_s_N), where=np.nan_to_num(duration_s) > 0
    )
    uris = samples["media_uri"].combine_chunks().dictionary_encode()
    file_N = uris.indices.to_numpy().astype(np.int64)
    no_file = uris.dictionary.index("").as_py()
    return ClipFacts(
        media_id=pc.fill_null(found["media_id"], ""),
        reason=pc.fill_null(found["reason"], ""),
        message=pc.fill_null(found["message"], ""),
        score_N=score,
        duration_s_N=clip_s_N,
        num_frames_N=np.ceil(np.nan_to_num(num_frames) * part_N - 1e-6),
        num_bytes_N=np.nan_to_num(num_bytes).astype(np.int64),
        is_inexact_N=pc.fill_null(
            pc.less(found["frames_exact"], found["frames_expected"]), False
        ).to_numpy(),
        file_N=np.where(file_N == no_file, -1, file_N),
    )


def row_costs(
    clips: ClipFacts, modality_N: NDArray[np.object_], rule: SamplingRule, model: CostModel
) -> RowCosts:
    """Return what each sample costs, from its clip's length and the sampling rule."""
    video_N = modality_N == Modality.VIDEO
    image_N = modality_N == Modality.IMAGE
    planned_N = expected_frames(rule, clips.duration_s_N, clips.num_frames_N)
    frames_N = np.where(video_N, planned_N, np.where(image_N, 1.0, 0.0))
    tokens_N = np.where(
        image_N, model.tokens_per_image, np.where(video_N, planned_N, 0.0)
        * model.tokens_per_frame,
    )  # fmt: skip
    return RowCosts(
        frames_N=frames_N,
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
