"""Many files of a run, one after the other, those of a store some ahead."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Final, TypeVar

from vxp_data.storage.folder import File

T = TypeVar("T")

_READS_AT_ONCE: Final = 16
"""Parts of a remote run that are read at the same time: a store answers late, but to many."""


def each_file(
    call: Callable[[File], T], files: Sequence[File], at_once: int = _READS_AT_ONCE
) -> Iterator[T]:
    """Call for each of many files of one folder, in order; for remote ones several at a time."""
    if not files or not files[0].folder.is_remote:
        return map(call, files)
    return _ahead(call, files, at_once)


def _ahead(call: Callable[[File], T], files: Sequence[File], at_once: int) -> Iterator[T]:
    """Call for each file in a pool, at most so many ahead of what was taken."""
    with ThreadPoolExecutor(at_once) as pool:
        rest = iter(files)
        waiting: list[Future[T]] = [pool.submit(call, f) for f in islice(rest, at_once)]
        while waiting:
            result = waiting.pop(0).result()
            waiting += [pool.submit(call, f) for f in islice(rest, 1)]
            yield result
