"""Rows in a file for temporary files, and some of them as a task reads them where it runs."""

from __future__ import annotations

import mmap
import os
import tempfile
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from vxp_data.storage.local import cannot_write

Taken = slice | NDArray[np.integer[Any]]
_ALL: Final = slice(None)


class RowFile:
    """Rows in a file for temporary files ($TMPDIR): more of them than memory holds.

    Args:
        num_rows: how many.
        dim: their width.
        dtype: of a number.
    """

    def __init__(self, num_rows: int, dim: int, dtype: type[np.generic]) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="vxp-rows-")
        self._path = path = Path(self._folder.name) / "rows"
        self.rows: NDArray[Any] = np.zeros((0, dim), dtype=dtype)
        self.num_bytes = num_rows * dim * self.rows.itemsize
        if not self.num_bytes:
            return  # an empty file cannot be mapped
        try:
            with path.open("wb") as file:  # taken now: writing to a map has no error for it
                os.posix_fallocate(file.fileno(), 0, self.num_bytes)
            self.rows = np.memmap(path, dtype=dtype, mode="r+", shape=(num_rows, dim))
        except OSError as error:
            self._folder.cleanup()
            raise cannot_write(str(path), error) from error

    def head(self, num_rows: int) -> NDArray[Any]:
        """Return the first rows as a map of their own, which travels by name; see `Rows`."""
        shape = (num_rows, self.rows.shape[1])
        if not self.num_bytes or not num_rows:
            return np.zeros(shape, dtype=self.rows.dtype)
        return np.memmap(self._path, dtype=self.rows.dtype, mode="r", shape=shape)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        del self.rows
        self._folder.cleanup()


class Rows:
    """Some rows of an array, for a task: a process of this machine maps the file they lie in.

    Args:
        array: where they are; a whole map of a file, or numbers in memory.
        taken: which of them, in which order.
        share_files: the task runs on this machine; else its rows travel with it, copied when it
            is sent and no sooner.
    """

    def __init__(self, array: NDArray[Any], taken: Taken, *, share_files: bool) -> None:
        self._array, self._taken, self._share_files = array, taken, share_files

    def __len__(self) -> int:
        if isinstance(self._taken, slice):
            return len(range(*self._taken.indices(len(self._array))))
        return len(self._taken)

    def read(self, wanted: Taken = _ALL) -> NDArray[Any]:
        """Return those of the rows that are wanted, by their positions."""
        if isinstance(self._taken, slice):
            return np.asarray(self._array[self._taken][wanted])
        return np.asarray(self._array[self._taken[wanted]])

    def __reduce__(self) -> tuple[Any, ...]:
        """Return how to make it again elsewhere."""
        array: Any = self._array
        is_map = isinstance(array, np.memmap) and _is_whole_map(array.base)
        if self._share_files and is_map:
            return _mapped, (
                str(array.filename),
                array.dtype,
                array.offset,
                array.shape,
                self._taken,
            )
        return _held, (np.array(self.read()),)


def _is_whole_map(base: Any) -> bool:
    """Whether that is what a map lies upon: of a piece of one, it is the whole."""
    return isinstance(base, mmap.mmap)


def _mapped(
    path: str, dtype: np.dtype[Any], offset: int, shape: tuple[int, ...], taken: Taken
) -> Rows:
    array = np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=shape)
    return Rows(array, taken, share_files=True)


def _held(array: NDArray[Any]) -> Rows:
    return Rows(array, _ALL, share_files=False)
