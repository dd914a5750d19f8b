"""What was being worked on when a worker died: how a clip that kills its workers is excluded.

A worker may die of a clip (a native crash outside the sandbox, memory) or by no fault of it (its
machine is gone). The task is run again either way. So every task tells a crash ledger that it
begins; one that begins again names each thing before it touches it, and what was named when
workers died again and again is refused.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Protocol

from vxp_data.engines.stage_plan import MAX_WORKER_DEATHS
from vxp_data.errors import MediaError
from vxp_data.records import Reason


class CrashLedgerLike(Protocol):
    """What an attempt needs of a crash ledger, here or elsewhere."""

    names_first: bool
    """Whether naming costs next to nothing, so that a task's first attempt does it, too."""

    def begin(self, task: str) -> tuple[int, dict[str, int]]:
        """Record that a task begins.

        Returns:
            How often it has begun before, and how many of those attempts died at what.
        """

    def name(self, task: str, thing: str | None) -> None:
        """Record what a task works on from now; None: on nothing that could be to blame."""


class CrashLedger:
    """Counts beginnings of tasks, and deaths by what was named at the time."""

    names_first = False

    def __init__(self) -> None:
        self._begun: Counter[str] = Counter()
        self._named: dict[str, str] = {}
        self._deaths: dict[str, Counter[str]] = defaultdict(Counter)

    def begin(self, task: str) -> tuple[int, dict[str, int]]:
        """Record that a task begins; see `CrashLedgerLike.begin`."""
        died_at = self._named.pop(task, None)
        if died_at is not None:
            self._deaths[task][died_at] += 1
        self._begun[task] += 1
        return self._begun[task] - 1, dict(self._deaths[task]) if task in self._deaths else {}

    def name(self, task: str, thing: str | None) -> None:
        """Record what is touched next; see `CrashLedgerLike.name`."""
        if thing is None:
            self._named.pop(task, None)
        else:
            self._named[task] = thing

    def forgive(self, task: str) -> None:
        """Undo a task's last beginning: it ended by no fault of what it worked on."""
        self._named.pop(task, None)
        self._begun[task] -= 1

    def forget(self, task: str) -> None:
        """Drop a task that is done: a job may have millions."""
        self._begun.pop(task, None)
        self._named.pop(task, None)
        self._deaths.pop(task, None)


class Attempt:
    """One attempt at a task, as a stage sees it.

    Args:
        ledger: where attempts are counted.
        task: what tells the task from all others of the job, the same at every attempt.
    """

    def __init__(self, ledger: CrashLedgerLike, task: str) -> None:
        self._ledger, self._task = ledger, task
        earlier, self._deaths = ledger.begin(task)
        self.again = earlier > 0
        """Whether an earlier attempt died, or its result was lost."""
        self._is_named = self.again or ledger.names_first
        self._unnamed = 0 if ledger.names_first else 1
        """Deaths before anything was named."""

    def enter(self, thing: str) -> None:
        """Report what is worked on from now, if that may matter.

        Raises:
            MediaError: `crashed`: too many workers have died of it; it is not entered.
        """
        if not self._is_named:
            return
        deaths = self._deaths.get(thing, 0) + self._unnamed
        if deaths >= MAX_WORKER_DEATHS:
            raise MediaError(
                Reason.CRASHED,
                f"{deaths} worker processes died while working on it (killed by a signal, for lack "
                "of memory, or with their machine)",
            )
        self._ledger.name(self._task, thing)

    def leave(self) -> None:
        """Report that nothing is worked on any more."""
        if self._is_named:
            self._ledger.name(self._task, None)
