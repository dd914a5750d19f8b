"""The files of a job as columns, and which clips of them have not come back."""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

_CLIPS: Final = ("clip", "clip_start_s", "clip_end_s")
FILE_SCHEMA: Final = pa.schema(
    [
        ("uri", pa.string()),
        ("is_image", pa.bool_()),
        ("file_version", pa.string()),
        ("num_bytes", pa.int64()),  # 0 where unknown: what is known of its cost before it is opened
        ("clip", pa.list_(pa.int64())),  # numbers of its clips in the job, from 0
        ("clip_start_s", pa.list_(pa.float64())),
        ("clip_end_s", pa.list_(pa.float64())),
    ]
)
"""One row a file; the lists are as long as there are clips of it."""


def num_clips(files: pa.Table) -> int:
    """Count the clips of files (FILE_SCHEMA)."""
    return int(pc.sum(pc.list_value_length(files["clip"])).as_py() or 0)


def without_clips(files: pa.Table, is_back_C: NDArray[np.bool_]) -> pa.Table:
    """Return files without the clips that have come back, and without files that have no others.

    Args:
        files: FILE_SCHEMA.
        is_back_C: by the clip's number in the job.
    """
    clips = files["clip"].combine_chunks()
    is_out_K = ~is_back_C[clips.flatten().to_numpy()]
    file_K = np.repeat(np.arange(len(files)), pc.list_value_length(clips).to_numpy())
    num_out_N = np.bincount(file_K, weights=is_out_K, minlength=len(files)).astype(np.int64)
    is_left_N = num_out_N > 0
    offsets = pa.array(np.concatenate([[0], np.cumsum(num_out_N[is_left_N])]), pa.int32())
    left = files.filter(pa.array(is_left_N))
    for name in _CLIPS:
        values = files[name].combine_chunks().flatten().filter(pa.array(is_out_K))
        index = left.schema.get_field_index(name)
        left = left.set_column(
            index, left.schema.field(index), pa.ListArray.from_arrays(offsets, values)
        )
    return left
