"""Rows of samples.parquet that have several media: their clips, one after the other.

Shapes: N rows, E clips of those rows that have several.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vxp_data.records import Modality
from vxp_data.schemas import SAMPLE_CLIP_KEY


@dataclass(frozen=True, slots=True, kw_only=True)
class RowClips:
    """The clips of rows with several media, in the rows' order and in each row's own."""

    row_E: NDArray[np.int64]
    """Index of each clip's row, ascending."""
    is_video_E: NDArray[np.bool_]
    keys: pa.Table
    """SAMPLE_CLIP_KEY."""

    def __len__(self) -> int:
        return len(self.row_E)

    def num_videos(self, num_rows: int) -> NDArray[np.int64]:
        """Return how many videos each of N rows has here, [N]; 0 for rows of one medium."""
        return np.bincount(self.row_E[self.is_video_E], minlength=num_rows)


def row_clips(samples: pa.Table) -> RowClips:
    """Return the clips of the rows that have several.

    Args:
        samples: rows of samples.parquet with the column `clips`.
    """
    lists = samples["clips"].combine_chunks()
    clips = pc.list_flatten(lists)
    modality = pc.struct_field(clips, "modality")
    return RowClips(
        row_E=pc.list_parent_indices(lists).to_numpy().astype(np.int64),
        is_video_E=pc.equal(modality, Modality.VIDEO.value).to_numpy(zero_copy_only=False),
        keys=pa.table({name: pc.struct_field(clips, name) for name in SAMPLE_CLIP_KEY}),
    )


def named_clips(samples: pa.Table) -> pa.Table:
    """List the clips that rows name, of rows with several all of them: modality, reason and key.

    Args:
        samples: rows of samples.parquet with the columns modality, reason, SAMPLE_CLIP_KEY and
            `clips`.
    """
    columns = ("modality", "reason", *SAMPLE_CLIP_KEY)
    of_one = samples.select(columns)
    several = row_clips(samples)
    if not len(several):
        return of_one
    modality = np.where(several.is_video_E, Modality.VIDEO.value, Modality.IMAGE.value)
    of_several = several.keys.add_column(0, "modality", pa.array(modality.tolist(), pa.string()))
    reason = samples["reason"].take(pa.array(several.row_E))
    of_several = of_several.append_column("reason", reason).select(columns)
    return pa.concat_tables([of_one, of_several.cast(of_one.schema)])
