"""Run a command, and count the CPU time of every process that comes of it.

Each inherits a mark in its environment, by which it is found, whoever its parent is by then: Ray's
daemons leave the command that starts them, and stay for a while after it. Linux only.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

_POLL_S: Final = 0.1
_LEFT_S: Final = 20.0
"""How long processes may stay when the command has ended; then they are killed."""
_MARK: Final = "VXP_BENCH_MARK"
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


class FailedError(Exception):
    """A command has not come to its end; what it wrote last."""


@dataclass(frozen=True, slots=True)
class Seconds:
    """What a command took."""

    wall_s: float
    """Until the command itself ended."""
    cpu_s: float
    """Of all its processes, until the last of them ended."""


@dataclass(slots=True)
class _MarkedTree:
    """CPU seconds of every process that bears a mark; one that has ended counts as last read."""

    mark: bytes
    cpu_s_of: dict[tuple[int, int], float] = field(default_factory=dict)
    """By process id and start time."""
    _is_marked: dict[int, bool] = field(default_factory=dict)
    """Asked once of a process: there may be hundreds, ten times a second."""

    def poll(self) -> list[int]:
        """Read all of them; return the ids of those that are alive."""
        ids = [int(name) for name in os.listdir("/proc") if name.isdecimal()]  # noqa: PTH208 - quick
        known = {pid: self._is_marked[pid] for pid in ids if pid in self._is_marked}
        for pid in set(ids) - known.keys():
            with suppress(OSError):  # it has ended, or is another user's
                environment = Path(f"/proc/{pid}/environ").read_bytes()
                if environment:  # while a program begins there is none
                    known[pid] = self.mark in environment
        self._is_marked = known
        return [pid for pid, marked in known.items() if marked and self._read(pid)]

    def _read(self, pid: int) -> bool:
        try:
            stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return False
        fields = stat.rpartition(")")[2].split()  # a program's name may hold anything
        user, system, started = (int(fields[index]) for index in (11, 12, 19))
        self.cpu_s_of[pid, started] = (user + system) / _TICKS_PER_S
        return fields[0] != "Z"


def run_marked(command: Sequence[str], log: Path, *, limit_s: float, cwd: Path) -> Seconds:
    """Run a command to the end of all its processes.

    What a process uses after its last reading is seen only where its parent waited for it.

    Args:
        command: the program first.
        log: where its output goes.
        limit_s: it is killed then.
        cwd: where it runs.

    Raises:
        FailedError: it failed, or ran past the limit.
    """
    mark = f"{_MARK}={uuid.uuid4()}"
    environment = os.environ | dict([mark.split("=")])
    tree = _MarkedTree(mark.encode())
    waited_s = _waited_s()
    started_s = time.monotonic()
    with log.open("w+", encoding="utf-8") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream, cwd=cwd, env=environment)
        while process.poll() is None:
            tree.poll()
            time.sleep(_POLL_S)
            if time.monotonic() - started_s > limit_s:
                process.kill()
        wall_s = time.monotonic() - started_s
        _outlast(tree)
        stream.seek(0)
        if process.returncode:
            last = stream.read().strip().splitlines()[-1:] or ["nothing"]
            raise FailedError(f"status {process.returncode} after {wall_s:.0f} s: {last[0]}")
    # Both are too low, if at all: by what ended unseen, and by whom nobody waited for.
    return Seconds(wall_s, max(sum(tree.cpu_s_of.values()), _waited_s() - waited_s))


def _outlast(tree: _MarkedTree) -> None:
    """Read what goes on after the command, until it ends by itself or is made to."""
    until_s = time.monotonic() + _LEFT_S
    num_idle = 0
    while num_idle < 2:  # one may just begin
        alive = tree.poll()
        num_idle = 0 if alive else num_idle + 1
        if alive and time.monotonic() > until_s:
            print(f"killed: {len(alive)} processes that stayed", file=sys.stderr)
            for pid in alive:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            until_s = time.monotonic() + _LEFT_S
        time.sleep(_POLL_S)


def _waited_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
