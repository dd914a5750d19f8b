"""Rows that arrive in any order and leave in theirs, with little memory however many they are."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vxp_data.storage.local import cannot_write

GROUP_ROWS: Final = 1 << 17
"""Rows held at a time, and rows of a table given."""
_INDEX: Final = "index"


class PlacedRows:
    """Takes tables with each row's index, returns them as tables of consecutive indices.

    Up to `group_rows` rows stay in memory. More go to one file for each group of indices, in the
    system's folder for temporary files ($TMPDIR), and are read back group by group.

    Args:
        schema: of the rows.
        group_rows: rows in a group.
    """

    def __init__(self, schema: pa.Schema, group_rows: int = GROUP_ROWS) -> None:
        self._schema = schema.append(pa.field(_INDEX, pa.int64()))
        self._group_rows = group_rows
        self._held: list[pa.Table] = []
        self._num_held = 0
        self._folder: Path | None = None
        self._writers: dict[int, pa.ipc.RecordBatchStreamWriter] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._close_writers()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def add(self, rows: pa.Table, index_R: NDArray[np.int64]) -> None:
        """Add rows; `index_R` are their indices, 0 or more, each used once in all.

        Raises:
            UserError: the folder for temporary files is full or cannot be written.
        """
        self._held.append(rows.append_column(_INDEX, pa.array(index_R)).cast(self._schema))
        self._num_held += len(rows)
        if self._num_held > self._group_rows:
            self._put_down()

    def ordered(self) -> Iterator[pa.Table]:
        """Return all rows by ascending index; may be asked for again, not added to any more.

        Raises:
            UserError: the folder for temporary files is full or cannot be written.
        """
        if self._folder is None:
            yield self._in_order(self._held)
            return
        self._put_down()
        self._close_writers()
        for path in sorted(self._folder.iterdir(), key=lambda path: int(path.name)):
            with pa.OSFile(str(path)) as source:
                yield self._in_order([pa.ipc.open_stream(source).read_all()])

    def _in_order(self, tables: list[pa.Table]) -> pa.Table:
        together = pa.concat_tables([self._schema.empty_table(), *tables]).combine_chunks()
        order = pc.sort_indices(together[_INDEX])
        return together.take(order).drop_columns([_INDEX])

    def _put_down(self) -> None:
        try:
            if self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix="vxp-rows-"))
            if self._held:
                together = pa.concat_tables(self._held).combine_chunks()
                group_R = together[_INDEX].to_numpy() // self._group_rows
                for group in np.unique(group_R).tolist():
                    self._writer(group).write_table(together.filter(pa.array(group_R == group)))
        except OSError as error:
            raise cannot_write(f"temporary rows to {tempfile.gettempdir()}", error) from error
        self._held, self._num_held = [], 0

    def _writer(self, group: int) -> pa.ipc.RecordBatchStreamWriter:
        if group not in self._writers:
            assert self._folder is not None
            path = str(self._folder / str(group))
            self._writers[group] = pa.ipc.new_stream(path, self._schema)
        return self._writers[group]

    def _close_writers(self) -> None:
        for writer in self._writers.values():
            writer.close()
        self._writers = {}
