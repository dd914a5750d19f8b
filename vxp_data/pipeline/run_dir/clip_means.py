"""The mean embedding of each clip, in means.parquet: what clips are compared with each other by.

Shapes: C clips of media.parquet, M of them asked for, B of a batch, D embedding width.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vxp_data.core.duplicates import clip_mean
from vxp_data.pipeline.run_dir.directory import (
    RunDirectory,
    read_row_groups,
    read_schema,
    write_batches,
)
from vxp_data.pipeline.run_dir.embedding_column import embedding_column, mean_matrix
from vxp_data.pipeline.run_dir.stored_frames import stored_frames
from vxp_data.schemas import CLIP_KEY, MEAN_SCHEMA

_BATCH_CLIPS: Final = 1 << 13


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanBatch:
    """Means of some clips, as they are stored."""

    index_B: NDArray[np.int64]
    """Of each in the table that was asked for."""
    mean_BD: NDArray[np.float16]
    """Unit rows, 0 where a clip's frames cancel out."""
    num_frames_B: NDArray[np.int32]


def write_means(
    run: RunDirectory,
    keys: Iterator[pa.Table],
    mean_CD: NDArray[np.float16],
    num_frames_C: NDArray[np.int32],
    *,
    encoder: str,
    sampler: str,
) -> None:
    """Write means.parquet.

    Args:
        run: its directory.
        keys: CLIP_KEY of all clips, in the order of media.parquet, in tables.
        mean_CD: their means; any where a clip failed.
        num_frames_C: of each, 0 where it failed.
        encoder: fingerprint of the embeddings.
        sampler: fingerprint of their frame sampling.
    """

    def tables() -> Iterator[pa.Table]:
        first = 0
        for table in keys:
            for start in range(0, len(table), _BATCH_CLIPS):
                batch = table.slice(start, _BATCH_CLIPS).select(CLIP_KEY)
                block = slice(first, first + len(batch))
                frames_B = num_frames_C[block]
                means = zip(mean_CD[block], frames_B.tolist(), strict=True)
                column = embedding_column([mean_D if num else None for mean_D, num in means])
                batch = batch.append_column("num_frames", pa.array(frames_B))
                yield batch.append_column("mean", column).cast(schema)
                first += len(batch)

    schema = MEAN_SCHEMA.with_metadata({"encoder": encoder, "sampler": sampler})
    write_batches(run.means, schema, tables())


def clip_means(
    run: RunDirectory, clips: pa.Table, *, encoder: str, sampler: str
) -> Iterator[MeanBatch]:
    """Return the means of clips, in the order in which they are stored, in batches.

    A run that was scored by an older version has no means.parquet of these embeddings: they are
    worked out from the frames then.

    Args:
        run: its directory.
        clips: CLIP_KEY and file_version of M of its clips, none of which failed.
        encoder: fingerprint of the embeddings.
        sampler: fingerprint of their frame sampling.

    Raises:
        UserError: they cannot be read.
    """
    told = (read_schema(run.means).metadata or {}) if run.means.is_file() else {}
    if (told.get(b"encoder"), told.get(b"sampler")) == (encoder.encode(), sampler.encode()):
        yield from _read(run, clips)
        return
    for clip in stored_frames(run, clips, encoder=encoder, sampler=sampler):
        yield MeanBatch(
            index_B=np.array([clip.index]),
            mean_BD=clip_mean(clip.emb_FD).astype(np.float16)[None],
            num_frames_B=np.array([len(clip.emb_FD)], dtype=np.int32),
        )


def _read(run: RunDirectory, clips: pa.Table) -> Iterator[MeanBatch]:
    columns = (clips[name].to_pylist() for name in CLIP_KEY)
    index_of = {key: index for index, key in enumerate(zip(*columns, strict=True))}
    for table in read_row_groups(run.means):
        batch = table.combine_chunks()
        keys = zip(*(batch[name].to_pylist() for name in CLIP_KEY), strict=True)
        index_B = np.array([index_of.get(key, -1) for key in keys], dtype=np.int64)
        frames_B = batch["num_frames"].to_numpy()
        there_B = frames_B > 0
        mean_BD = mean_matrix(batch["mean"].combine_chunks())
        wanted_B = (index_B >= 0) & there_B
        if wanted_B.any():
            yield MeanBatch(
                index_B=index_B[wanted_B],
                mean_BD=mean_BD[wanted_B[there_B]],
                num_frames_B=frames_B[wanted_B],
            )
