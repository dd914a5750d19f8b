"""Run a decode in a child process that may hang, crash or eat memory without harm.

The child is persistent: a decode costs no process start. It is disposable: at the wall-clock limit
it gets SIGKILL (a Python timeout would not fire: decord holds the GIL when it hangs), and the next
call gets a fresh one. Frames come back through anonymous shared memory, so nothing is left behind
when either side dies. What else a child may not do stands in `isolation`.
"""

from __future__ import annotations

import mmap
import os
import resource
import signal
import time
from collections.abc import Callable
from concurrent.futures import TimeoutError as FutureTimeoutError
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from pebble import ProcessExpired, ProcessPool

from vxp_data.decoders.child_process import (
    ChildContext,
    begin_call,
    child_arena_fd,
    child_buffer_fd,
    child_memory_bytes,
    enter_child,
)
from vxp_data.errors import MediaError
from vxp_data.records import Reason

T = TypeVar("T")

_TASKS_PER_CHILD: Final = 2000
"""A child is replaced after so many calls: decoders leak."""


NO_LIMIT: Final = 0
"""As a child's memory: it is not limited from inside."""

_MOST_BROKEN: Final = 3
"""Children that may die before they take up a call."""


@dataclass(frozen=True, slots=True)
class Timed(Generic[T]):
    """What a call gave, and the CPU seconds that the child spent on it."""

    value: T
    cpu_s: float


class FrameArena:
    """Anonymous shared memory of one owner; its sandbox's child opens it by its `path`."""

    def __init__(self) -> None:
        self._fd = os.memfd_create("vxp-frames")
        self._num_bytes = 0
        self.path = f"/proc/{os.getpid()}/fd/{self._fd}"

    def reserve(self, num_bytes: int) -> None:
        """Grow to at least so many bytes."""
        if num_bytes > self._num_bytes:
            os.ftruncate(self._fd, num_bytes)
            self._num_bytes = num_bytes

    def take(self, shape: tuple[int, ...], offset: int = 0) -> NDArray[np.uint8]:
        """Copy an array of that shape out, so that the arena can be used again."""
        num_bytes = int(np.prod(shape))
        with mmap.mmap(self._fd, num_bytes, prot=mmap.PROT_READ, offset=offset) as view:
            return np.frombuffer(view, dtype=np.uint8).reshape(shape).copy()

    def close(self) -> None:
        """Free the memory."""
        os.close(self._fd)


class SharedBuffer:
    """Anonymous shared memory for a file that has no path: the child reads it at `child_path()`."""

    def __init__(self) -> None:
        self._fd = os.memfd_create("vxp-shared-buffer")
        self.path = f"/proc/{os.getpid()}/fd/{self._fd}"

    def put(self, data: bytes) -> None:
        """Write these bytes as the whole file."""
        os.ftruncate(self._fd, 0)
        with memoryview(data) as view:
            done = 0
            while done < len(data):
                done += os.pwrite(self._fd, view[done:], done)

    def close(self) -> None:
        """Free the memory."""
        os.close(self._fd)

    @staticmethod
    def child_path() -> str:
        """Return, in the child, the path at which it can be opened, as often as wanted."""
        return f"/proc/self/fd/{child_buffer_fd()}"


class Sandbox:
    """One child process, started when first needed.

    Args:
        memory_bytes: what a call may allocate beyond what its libraries take at import; NO_LIMIT
            where its owner watches it instead.
        arena: where the child's `put_frames` puts frames; None where it has none to put.
        buffer: where the child finds a file; None where it opens files by their paths.
        mechanisms: what isolates the child, by names in `isolation.MECHANISMS`; () for all.
    """

    def __init__(
        self,
        memory_bytes: int,
        arena: FrameArena | None = None,
        buffer: SharedBuffer | None = None,
        *,
        mechanisms: tuple[str, ...] = (),
    ) -> None:
        self._initargs = [
            os.getpid(),
            memory_bytes,
            arena and arena.path,
            buffer and buffer.path,
            mechanisms,
        ]
        self._pool = self._new_pool()

    def call(self, function: Callable[..., T], *args: Any, timeout_s: float) -> Timed[T]:
        """Call a module-level function in the child.

        Raises:
            MediaError: what the function raised, or `timeout`, `crashed`, `out_of_memory`.
        """
        for _ in range(_MOST_BROKEN):
            try:
                return self._call(function, args, timeout_s)
            except _BrokenError:
                self.close()
                self._pool = self._new_pool()
        raise MediaError(Reason.CRASHED, f"{_MOST_BROKEN} decoding processes died as they started")

    def close(self) -> None:
        """Stop the child."""
        self._pool.stop()  # type: ignore[no-untyped-call]
        self._pool.join()

    def _new_pool(self) -> ProcessPool:
        return ProcessPool(
            max_workers=1,
            max_tasks=_TASKS_PER_CHILD,
            initializer=enter_child,
            initargs=self._initargs,
            context=ChildContext(),
        )

    def _call(self, function: Callable[..., T], args: Any, timeout_s: float) -> Timed[T]:
        try:
            future = self._pool.schedule(
                _timed, args=[timeout_s, function, *args], timeout=timeout_s
            )
        except RuntimeError as error:
            raise _BrokenError from error
        try:
            result: Timed[T] = future.result()
        except BrokenProcessPool as error:
            raise _BrokenError from error
        except FutureTimeoutError as error:
            raise MediaError(Reason.TIMEOUT, f"killed after {timeout_s:.0f} s") from error
        except ProcessExpired as error:
            raise MediaError(*_why_died(error.exitcode)) from error
        except MemoryError as error:
            raise MediaError(Reason.OUT_OF_MEMORY, str(error) or "allocation refused") from error
        return result


class _BrokenError(Exception):
    """The child died while it had nothing to do: pebble takes its pool for lost then."""


def put_frames(frames: NDArray[np.uint8], offset: int = 0) -> None:
    """Write, in the child, an array to the sandbox's arena, to its start if nowhere else.

    Args:
        frames: of any shape.
        offset: bytes, a multiple of mmap.ALLOCATIONGRANULARITY.
    """
    with mmap.mmap(child_arena_fd(), frames.nbytes, offset=offset) as view:
        np.frombuffer(view, dtype=np.uint8)[:] = frames.reshape(-1)


def cap_memory() -> None:
    """Limit, in the child, further allocation to the sandbox's cap, counted from what is held now.

    Called after a decoder's library is loaded; the limit is on writable private memory
    (RLIMIT_DATA), because torchcodec maps gigabytes of address space that it never uses.
    """
    if child_memory_bytes() == NO_LIMIT:
        return
    limit = _held_bytes() + child_memory_bytes()
    resource.setrlimit(resource.RLIMIT_DATA, (limit, resource.RLIM_INFINITY))


def _held_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmData:"))
    return int(line.split()[1]) << 10


def _timed(limit_s: float, function: Callable[..., T], *args: Any) -> Timed[T]:
    begin_call(limit_s)
    started_s = time.process_time()
    value = function(*args)
    return Timed(value, time.process_time() - started_s)


def _why_died(exitcode: int | None) -> tuple[Reason, str]:
    if exitcode == -signal.SIGKILL:  # not by us: that is a timeout
        return Reason.OUT_OF_MEMORY, "the decoding process was killed, as by a memory limit"
    if exitcode is not None and exitcode < 0:
        return Reason.CRASHED, f"the decoding process died of {signal.Signals(-exitcode).name}"
    return Reason.CRASHED, f"the decoding process ended with exit code {exitcode}"
