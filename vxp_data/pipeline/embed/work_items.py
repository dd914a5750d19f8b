"""Which of the wanted clips must be embedded, and the work that this is: files, dearest first.

Shapes: N files, C clips of all files, T files that must be read.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vxp_data.engines.files import FILE_SCHEMA
from vxp_data.pipeline.embed.wanted_media import WantedMedia
from vxp_data.schemas import CURRENT_COLUMNS

FILES_PER_JOB: Final = 500_000
"""Files that an engine is given at a time: what it keeps of each on the driver is bounded so."""

_ROWS_AT_ONCE: Final = 4_000_000
"""Rows of parts that are looked up at a time, 0.5 GB with long names: each look-up begins with all
wanted files, which takes 3 seconds for ten million."""


def done_clips(
    rows: Iterable[pa.Table],
    wanted: WantedMedia,
    *,
    encoder: str,
    sampler: str,
    but: Collection[str] = (),
) -> NDArray[np.bool_]:
    """Find the clips that have embeddings, or a reason why not, of files as they are now.

    Args:
        rows: of embeddings parts, with CURRENT_COLUMNS.
        wanted: what samples name; a file that has changed since is not done.
        encoder: fingerprint of the embeddings.
        sampler: fingerprint of their frame sampling.
        but: reasons; a clip that failed for one of these is not done.

    Returns:
        is_done_C: by the clip's number.
    """
    is_done_C = np.zeros(wanted.num_clips, dtype=np.bool_)
    for many in gathered(table.select(CURRENT_COLUMNS) for table in rows):
        clip_R = wanted.current_clips(many, encoder=encoder, sampler=sampler)
        tried_again = pc.is_in(many["reason"], value_set=pa.array([*but], pa.string()))
        is_done_C[clip_R[(clip_R >= 0) & ~tried_again.to_numpy()]] = True
    return is_done_C


def gathered(tables: Iterable[pa.Table], rows_at_once: int = _ROWS_AT_ONCE) -> Iterator[pa.Table]:
    """Put tables together, in order, until they have so many rows."""
    waiting: list[pa.Table] = []
    num_rows = 0
    for table in tables:
        waiting.append(table)
        num_rows += len(table)
        if num_rows >= rows_at_once:
            yield pa.concat_tables(waiting)
            waiting, num_rows = [], 0
    if num_rows:
        yield pa.concat_tables(waiting)


class WorkList:
    """The files that must be read, each once, with the clips that are to be made of it.

    Args:
        wanted: all files.
        is_done_C: by the clip's number; files with no other clips need not be read.
    """

    def __init__(self, wanted: WantedMedia, is_done_C: NDArray[np.bool_]) -> None:
        self._wanted, self._is_done_C = wanted, is_done_C
        self._file_T = _dearest_first(wanted, is_done_C)

    def __len__(self) -> int:
        return len(self._file_T)

    @property
    def num_clips(self) -> int:
        """Count the clips to be made."""
        return len(self._is_done_C) - int(self._is_done_C.sum())

    def uris(self) -> pa.LargeStringArray:
        """Return the URIs of the files, ascending."""
        return self._wanted.uri.take(pa.array(np.sort(self._file_T)))

    def jobs(self, files_per_job: int = FILES_PER_JOB) -> Iterator[pa.Table]:
        """Return the files (FILE_SCHEMA), dearest first; of each table the clips count from 0."""
        for first in range(0, len(self), files_per_job):
            yield self._table(self._file_T[first : first + files_per_job])

    def _table(self, file_T: NDArray[np.int64]) -> pa.Table:
        wanted = self._wanted
        num_T = np.diff(wanted.first_clip)[file_T]
        before_T = np.cumsum(num_T) - num_T
        clip_K = np.repeat(wanted.first_clip[file_T] - before_T, num_T) + np.arange(num_T.sum())
        is_todo_K = ~self._is_done_C[clip_K]
        num_todo_T = np.add.reduceat(is_todo_K, before_T, dtype=np.int64)
        clip_K = clip_K[is_todo_K]
        offsets = pa.array(np.concatenate([[0], np.cumsum(num_todo_T)]), pa.int32())
        lists = {
            "clip": np.arange(len(clip_K)),
            "clip_start_s": wanted.start_s_C[clip_K],
            "clip_end_s": wanted.end_s_C[clip_K],
        }
        number = pa.array(file_T)
        columns = {
            "uri": wanted.uri.take(number).cast(pa.string()),
            "is_image": wanted.is_image_N[file_T],
            "file_version": wanted.file_version.take(number).cast(pa.string()),
            "num_bytes": wanted.num_bytes_N[file_T],
        }
        columns |= {
            name: pa.ListArray.from_arrays(offsets, pa.array(values))
            for name, values in lists.items()
        }
        return pa.table(columns, schema=FILE_SCHEMA)


def _dearest_first(wanted: WantedMedia, is_done_C: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the numbers of the files that must be read: those with most bytes first, then by URI.

    Returns:
        file_T: int64.
    """
    if not len(wanted):
        return np.zeros(0, dtype=np.int64)
    is_done_N = np.logical_and.reduceat(is_done_C, wanted.first_clip[:-1])
    file_T = np.flatnonzero(~is_done_N)
    return file_T[np.argsort(-wanted.num_bytes_N[file_T], kind="stable")]
