"""How a sandbox's child starts: its parent's main module stays away, its rights go first.

Only the standard library is imported here: see `isolation`.
"""

from __future__ import annotations

import ctypes
import math
import multiprocessing.process
import multiprocessing.resource_tracker
import os
import signal
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.context import SpawnContext, SpawnProcess
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from vxp_data.decoders.isolation import Isolation, isolate

_PR_SET_PDEATHSIG: Final = 1
_hiding: Final = threading.Lock()
"""Processes may be started by several threads."""


@dataclass(slots=True)
class _ThisChild:
    """What a child knows of itself."""

    memory_bytes: int = 0
    arena_fd: int = -1
    buffer_fd: int = -1
    isolation: Isolation | None = None
    call_began_s: float = 0.0
    call_limit_s: float = math.inf


_this_child = _ThisChild()


def enter_child(
    parent_pid: int,
    memory_bytes: int,
    arena_path: str | None,
    buffer_path: str | None,
    mechanisms: tuple[str, ...],
) -> None:
    """Prepare a child before it does anything else.

    Args:
        parent_pid: the child ends when this process does.
        memory_bytes: what a call may allocate; see `sandbox.cap_memory`.
        arena_path: shared memory for frames; opened here, as it cannot be from inside.
        buffer_path: shared memory with a file to read; the same.
        mechanisms: see `isolation.isolate`.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    # numpy, loaded later, would start a thread for each core, and none has work: a child decodes
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    _this_child.memory_bytes = memory_bytes
    try:
        if arena_path is not None:
            _this_child.arena_fd = os.open(arena_path, os.O_RDWR | os.O_CLOEXEC)
        if buffer_path is not None:
            _this_child.buffer_fd = os.open(buffer_path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        if os.getppid() != parent_pid:  # both were the parent's, which has died
            os._exit(1)
        raise
    scratch = _scratch_folder()
    tempfile.tempdir = os.environ["TMPDIR"] = str(scratch) if scratch else os.devnull
    _this_child.isolation = isolate(mechanisms, scratch=scratch)
    if sys.platform == "linux":  # after it: a change of rights clears this
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent_pid:  # it died before the line above
            os._exit(1)


def _scratch_folder() -> Path | None:
    """Return the one folder where children may write: importing torch makes a temporary folder.

    All children of a user share it, and nobody else trusts what is in it. None where somebody else
    made it.
    """
    folder = Path(tempfile.gettempdir()) / f"vxp-children-{os.geteuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
    except OSError:
        return None
    is_ours = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()
    return folder if is_ours else None


def child_memory_bytes() -> int:
    """Return what a call in this child may allocate."""
    return _this_child.memory_bytes


def child_arena_fd() -> int:
    """Return this child's descriptor of its parent's arena; -1 where it has none."""
    return _this_child.arena_fd


def child_buffer_fd() -> int:
    """Return this child's descriptor of its parent's shared buffer; -1 where it has none."""
    return _this_child.buffer_fd


def begin_call(limit_s: float) -> None:
    """Note, in a child, that it may take so many seconds from now."""
    _this_child.call_began_s, _this_child.call_limit_s = time.monotonic(), limit_s


def call_reaches(share: float) -> float:
    """Return when (time.monotonic) so much of this call's limit is over; infinity: it has none."""
    return _this_child.call_began_s + share * _this_child.call_limit_s


def child_isolation() -> Isolation:
    """Return what this child has given up."""
    assert _this_child.isolation is not None, "called outside a sandbox's child"
    return _this_child.isolation


class ChildProcess(SpawnProcess):
    """A spawned process that does not import its parent's `__main__` again (Ray's worker, say).

    Its parent may be a daemon, as torch's DataLoader workers are. Python gives daemons no children,
    because these would outlive them; ours die with their parent (`enter_child`).
    """

    def start(self) -> None:
        """Start it, from a daemon too."""
        config = multiprocessing.process.current_process()._config  # type: ignore[attr-defined]
        is_daemon = config.pop("daemon", None)
        try:
            super().start()
        finally:
            if is_daemon is not None:
                config["daemon"] = is_daemon

    @staticmethod
    def _Popen(process_obj: Any) -> Any:  # noqa: N802 - multiprocessing's name
        with _main_module_hidden():
            return SpawnProcess._Popen(process_obj)


class ChildContext(SpawnContext):
    """Starts such processes."""

    Process = ChildProcess

    def __init__(self) -> None:
        super().__init__()
        start_tracker()


def start_tracker() -> None:
    """Start Python's resource tracker so that it frees what a killed worker held without a word."""
    name, ignored = "PYTHONWARNINGS", "ignore::UserWarning:multiprocessing.resource_tracker"
    before = os.environ.get(name)
    os.environ[name] = f"{before},{ignored}" if before else ignored
    try:
        multiprocessing.resource_tracker.ensure_running()
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


@contextmanager
def _main_module_hidden() -> Iterator[None]:
    with _hiding:
        yield from _hidden(sys.modules["__main__"])


def _hidden(main: ModuleType) -> Iterator[None]:
    hidden = {name: getattr(main, name) for name in ("__file__", "__spec__") if hasattr(main, name)}
    main.__dict__.update(__spec__=None)
    main.__dict__.pop("__file__", None)
    try:
        yield
    finally:
        main.__dict__.update(hidden)
