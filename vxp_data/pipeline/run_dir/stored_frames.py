"""The stored frame embeddings of a run's clips, streamed from the parts; no video.

Shapes: C clips, F frames of a clip, D embedding width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vxp_data.core.duplicates import ClipTimes
from vxp_data.encoders.beside import beside_fingerprint, unpacked
from vxp_data.pipeline.run_dir.directory import RunDirectory
from vxp_data.pipeline.run_dir.embedding_column import embedding_matrix
from vxp_data.pipeline.run_dir.part_table import read_groups
from vxp_data.schemas import BESIDE_COLUMNS

_FACTS: Final = (
    "uri", "clip_start_s", "clip_end_s", "file_version", "encoder", "sampler", "reason", "time_s",
    "duration_s",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFrames:
    """The frames of one clip."""

    index: int
    """Of the clip in the table that was asked for."""
    emb_FD: NDArray[np.float16]
    times: ClipTimes


def clip_seconds(start_s: float, end_s: float, duration_s: float) -> float:
    """Return how long a clip of a file of so many seconds is."""
    return max(0.0, min(end_s, duration_s) - start_s)


def stored_frames(
    run: RunDirectory, clips: pa.Table, *, encoder: str, sampler: str, beside: bool = False
) -> Iterator[StoredFrames]:
    """Return the frames of clips, each once, in the order of the parts.

    Args:
        run: with embeddings parts.
        clips: of media.parquet, without those that failed: uri, clip_start_s, clip_end_s and
            file_version; indices count in it.
        encoder: fingerprint of the embeddings.
        sampler: fingerprint of their frame sampling.
        beside: of those clips that have them, `thumbnail`'s vectors of these frames instead.
    """
    names = ("uri", "clip_start_s", "clip_end_s", "file_version")
    open_indices = {
        key: index
        for index, key in enumerate(zip(*(clips[n].to_pylist() for n in names), strict=True))
    }
    column = "beside" if beside else "embedding"
    for part in _read(run, BESIDE_COLUMNS if beside else ("embedding",)):
        ours = _made_by(part, encoder, sampler, beside=beside)
        embeddings = ours[column]
        for row, fact in enumerate(ours.drop_columns(column).to_pylist()):
            index = open_indices.pop(tuple(fact[name] for name in names), None)
            if index is None:
                continue
            start_s, num_frames = fact["clip_start_s"], len(fact["time_s"])
            value = embeddings[row]
            yield StoredFrames(
                index=index,
                emb_FD=unpacked(value.as_buffer(), num_frames)
                if beside
                else embedding_matrix(value, num_frames),
                times=ClipTimes(
                    # The first frame may be on screen since before the clip.
                    time_s_F=np.maximum(np.array(fact["time_s"], dtype=np.float64) - start_s, 0.0),
                    duration_s=clip_seconds(start_s, fact["clip_end_s"], fact["duration_s"]),
                ),
            )


def _read(run: RunDirectory, vectors: Sequence[str]) -> Iterator[pa.Table]:
    """Read the parts, piece by piece, those that have such vectors."""
    for _, part in read_groups(run.part_files(), _FACTS, optional=vectors):
        if vectors[0] in part.column_names:
            yield part


def _made_by(part: pa.Table, encoder: str, sampler: str, *, beside: bool) -> pa.Table:
    """Choose the clips that did not fail and were made so."""
    wanted = {"reason": "", "encoder": encoder, "sampler": sampler}
    wanted |= {"beside_encoder": beside_fingerprint()} if beside else {}
    for name, value in wanted.items():
        is_so = pc.equal(part[name], value)
        if not pc.all(is_so, min_count=0).as_py():
            part = part.filter(is_so)
    return part
