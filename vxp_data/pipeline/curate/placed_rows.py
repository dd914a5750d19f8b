"""Where the clips of a run's rows are in media.parquet: looked up once, for filters and duplicates.

Shapes: N rows, E clips of those with several media.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vxp_data.pipeline.run_dir.clip_facts import few_texts, indices
from vxp_data.pipeline.run_dir.row_clips import RowClips, row_clips
from vxp_data.schemas import CLIP_KEY, SAMPLE_CLIP_KEY


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedRows:
    """Indices in media.parquet; -1 for none."""

    index_N: NDArray[np.int64]
    """-1 for a row without media, -2 for a quarantined one; of several media, the first video's or
    image's."""
    clips: RowClips
    clip_E: NDArray[np.int64]

    def several(self) -> Mapping[int, tuple[int, ...]]:
        """Return, by row, all clips of each row that has several media."""
        several: dict[int, tuple[int, ...]] = {}
        for row, clip in zip(self.clips.row_E.tolist(), self.clip_E.tolist(), strict=True):
            several[row] = (*several.get(row, ()), clip)
        return several


def place_rows(samples: pa.Table, media: pa.Table) -> PlacedRows:
    """Find the clips of rows.

    Args:
        samples: reason, SAMPLE_CLIP_KEY and `clips` of N rows.
        media: reason and CLIP_KEY of media.parquet.
    """
    found_N = indices(samples.select(SAMPLE_CLIP_KEY), media.select(CLIP_KEY))
    index_N = pc.fill_null(found_N, -1).to_numpy()
    failed_C = np.append(pc.not_equal(media["reason"], "").to_numpy(), False)
    failed_N = few_texts(samples["reason"]).astype(np.bool_) | failed_C[index_N]
    clips = row_clips(samples)
    clip_E = pc.fill_null(indices(clips.keys, media.select(CLIP_KEY)), -1).to_numpy()
    failed_N[clips.row_E[failed_C[clip_E]]] = True
    return PlacedRows(index_N=np.where(failed_N, -2, index_N), clips=clips, clip_E=clip_E)
