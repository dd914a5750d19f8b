"""Scores of the rows that have several videos: each measure over the frames of all of them.

Shapes: N samples, E clips of those with several, W clips wanted, F frames of a clip, D embedding
width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vxp_data.core.similarity import Measure, score_videos
from vxp_data.neighbours.row_file import RowFile
from vxp_data.pipeline.run_dir.clip_facts import indices
from vxp_data.pipeline.run_dir.directory import RunDirectory, read_table, write_batches
from vxp_data.pipeline.run_dir.row_clips import row_clips
from vxp_data.pipeline.run_dir.stored_frames import stored_frames
from vxp_data.registry import MEASURES
from vxp_data.schemas import CLIP_KEY

FramesOf = Callable[[int], NDArray[np.float16]]
"""Index of a clip in media.parquet -> its frames, [F, D]."""

_ROWS_AT_ONCE: Final = 2000
_MEDIA: Final = [*CLIP_KEY, "file_version", "reason", "frame_index"]


def write_row_scores(run: RunDirectory, *, encoder: str, sampler: str) -> None:
    """Score every row of several videos whose videos have embeddings; write row_scores.parquet.

    Where no row has several videos there is no such file. Arguments as `row_scores`.
    """
    columns = [(name, pa.float64()) for name in MEASURES.names()]
    with row_scores(run, encoder=encoder, sampler=sampler) as tables:
        if tables is None:
            run.root.remove(run.row_scores.name)
        else:
            write_batches(run.row_scores, pa.schema([("sample_id", pa.string()), *columns]), tables)


@contextmanager
def row_scores(
    run: RunDirectory, *, encoder: str, sampler: str
) -> Iterator[Iterator[pa.Table] | None]:
    """Score every row of several videos whose videos have embeddings: sample_id and all measures.

    Args:
        run: with samples.parquet, media.parquet and embeddings parts.
        encoder: fingerprint of the embeddings.
        sampler: fingerprint of their frame sampling.

    Yields:
        Tables of rows in the samples' order; None where no row has several videos.
    """
    samples = read_table(run.samples, columns=["sample_id", "reason", "clips"])
    several = row_clips(samples)
    many_N = several.num_videos(len(samples)) > 1
    if not many_N.any():
        yield None
        return
    media = read_table(run.media, columns=_MEDIA)
    clip_E = pc.fill_null(indices(several.keys, media.select(CLIP_KEY)), -1).to_numpy()
    failed_C = np.append(pc.not_equal(media["reason"], "").to_numpy(), True)
    many_N &= pc.equal(samples["reason"], "").to_numpy()
    many_N[several.row_E[several.is_video_E & failed_C[clip_E]]] = False
    wanted_E = several.is_video_E & many_N[several.row_E]
    clip_E, row_E = clip_E[wanted_E], several.row_E[wanted_E]
    with _frames(run, media, np.unique(clip_E), (encoder, sampler)) as frames_of:
        yield _tables(samples["sample_id"], frames_of, clip_E, row_E)


def _tables(
    ids: pa.ChunkedArray, frames_of: FramesOf, clip_E: NDArray[np.int64], row_E: NDArray[np.int64]
) -> Iterator[pa.Table]:
    """Score the rows in pieces: a row may have a megabyte of frames."""
    measures: list[Measure] = [MEASURES.load(name) for name in MEASURES.names()]
    starts = np.flatnonzero(np.diff(row_E, prepend=-1))
    clips_of_row = np.split(clip_E, starts[1:]) if len(starts) else []
    for first in range(0, len(starts), _ROWS_AT_ONCE):
        clips = clips_of_row[first : first + _ROWS_AT_ONCE]
        rows = row_E[starts[first : first + _ROWS_AT_ONCE]]
        together = [np.concatenate([frames_of(clip) for clip in own.tolist()]) for own in clips]
        columns = {"sample_id": ids.take(pa.array(rows))}
        columns |= {
            name: pa.array(score_R, pa.float64())
            for name, score_R in score_videos(together, measures).items()
        }
        yield pa.table(columns)


@contextmanager
def _frames(
    run: RunDirectory,
    media: pa.Table,
    clip_W: NDArray[np.int64],
    fingerprints: tuple[str, str],
) -> Iterator[FramesOf]:
    """Hold the frames of some clips in a file for temporary files.

    Args:
        run: with embeddings parts.
        media: _MEDIA of all clips.
        clip_W: indices in it of the clips that are wanted, ascending; none failed.
        fingerprints: of the embeddings, and of their frame sampling.

    Yields:
        What gives a clip's frames by its index in `media`.
    """
    clips = media.take(pa.array(clip_W))
    num_frames_W = pc.list_value_length(clips["frame_index"]).to_numpy().astype(np.int64)
    end_W = np.cumsum(num_frames_W)
    at = zip((end_W - num_frames_W).tolist(), end_W.tolist(), strict=True)
    at_clip = {int(clip): slice(*both) for clip, both in zip(clip_W, at, strict=True)}
    rows = np.zeros((0, 0), dtype=np.float16)
    encoder, sampler = fingerprints
    with ExitStack() as stack:
        for clip in stored_frames(run, clips, encoder=encoder, sampler=sampler):
            if not len(rows):
                num_rows, dim = int(num_frames_W.sum()), clip.emb_FD.shape[1]
                rows = stack.enter_context(RowFile(num_rows, dim, np.float16)).rows
            rows[at_clip[int(clip_W[clip.index])]] = clip.emb_FD
        yield lambda index: rows[at_clip[index]]
