"""The column of embeddings in a run's parts: built, read, and the parts named and written.

Shapes: F frames of a clip, D embedding width.

One binary value a clip, all its numbers in one piece, is written and read ten times faster than a
list of lists, which Parquet takes apart number by number.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_FLOAT16: Final = np.dtype("<f2")
_NAMED_BY: Final = ("uri", "clip_start_s", "clip_end_s", "file_version", "encoder", "sampler")


def embedding_column(embeddings: Sequence[NDArray[np.float16] | None]) -> pa.Array:
    """Build the column `embedding` of EMBEDDING_SCHEMA.

    Args:
        embeddings: float16 [F, D] of each clip; None for one that failed.
    """
    there = [emb_FD.reshape(-1) for emb_FD in embeddings if emb_FD is not None]
    numbers = np.concatenate([np.zeros(0, _FLOAT16), *there]).astype(_FLOAT16, copy=False)
    num_bytes = [0 if emb_FD is None else emb_FD.nbytes for emb_FD in embeddings]
    ends = np.concatenate([[0], np.cumsum(num_bytes)]).astype(np.int64)
    is_there = pa.array([emb_FD is not None for emb_FD in embeddings], pa.bool_()).buffers()[1]
    buffers = [is_there, pa.py_buffer(ends), pa.py_buffer(numbers)]
    return pa.Array.from_buffers(pa.large_binary(), len(embeddings), buffers)


def embedding_matrix(value: pa.Scalar, num_frames: int) -> NDArray[np.float16]:
    """Return the embeddings of one clip, float16 [F, D], without a copy and not to be written to.

    Args:
        value: of the column, not null.
        num_frames: F, the length of the clip's `frame_index`; 1 or more.

    Raises:
        ValueError: the value is not of so many frames.
    """
    buffer = value.as_buffer()
    if num_frames < 1 or buffer.size % (num_frames * _FLOAT16.itemsize):
        raise ValueError(f"{buffer.size} bytes of embeddings for {num_frames} frames")
    return np.frombuffer(buffer, dtype=_FLOAT16).reshape(num_frames, -1)


def mean_matrix(column: pa.Array) -> NDArray[np.float16]:
    """Return a column of means, a vector a clip, without those that are null.

    Args:
        column: as `embedding_column` builds it, of G vectors and nulls.

    Returns:
        float16 [G, D], not to be written to; [0, 0] where all are null.
    """
    values = column.drop_null()
    if not len(values):
        return np.zeros((0, 0), dtype=_FLOAT16)
    _, offsets, numbers = values.buffers()
    ends = np.frombuffer(offsets, dtype=np.int64)[values.offset : values.offset + len(values) + 1]
    first, stop = (int(end) // _FLOAT16.itemsize for end in (ends[0], ends[-1]))
    return np.frombuffer(numbers, dtype=_FLOAT16)[first:stop].reshape(len(values), -1)


def part_name(part: pa.Table) -> str:
    """Name a part by the clips in it and how they were made: written again, it is the same file.

    Args:
        part: with the columns of EMBEDDING_SCHEMA.
    """
    digest = hashlib.sha256()
    for row in part.select(_NAMED_BY).to_pylist():
        end_s = "end" if math.isinf(row["clip_end_s"]) else repr(row["clip_end_s"])
        digest.update("\0".join((*map(str, row.values()), end_s)).encode())
    return f"part-{digest.hexdigest()[:24]}.parquet"
