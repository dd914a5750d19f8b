"""Child processes, seen from outside: which one a call starts, what it has read and holds open."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from multiprocessing import active_children
from pathlib import Path


def started_by(call: Callable[[], object]) -> int:
    """Return the one process that a call starts."""
    before = {process.pid for process in active_children()}
    call()
    (pid,) = {process.pid for process in active_children()} - before
    assert pid is not None
    return pid


def bytes_read(pid: int | str) -> int:
    """Return how many bytes a process has read since it started, from wherever they came."""
    return int(Path(f"/proc/{pid}/io").read_text().split()[1])


def open_files(pid: int | str = "self") -> list[Path]:
    """Return the files that a process holds open, once for each descriptor."""
    found = []
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):  # the folder's own descriptor is gone by now
            found.append(fd.readlink())
    return found
