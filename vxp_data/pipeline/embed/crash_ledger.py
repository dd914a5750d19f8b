"""What was being worked on when a worker died: how a clip that kills its workers is excluded.

A worker may die of a clip (a native crash outside the sandbox, memory) or by no fault of it (its
node is gone). Ray runs the task again either way, without end. So every task tells a crash ledger
that it begins; one that begins again names each thing before it touches it, and what was named when
workers died again and again is refused.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any, Protocol

from vxp_data.errors import MediaError
from vxp_data.pipeline.embed.resources import MAX_WORKER_DEATHS
from vxp_data.records import Reason


class CrashLedger:
    """Counts beginnings of tasks, and deaths by what was named at the time."""

    def __init__(self) -> None:
        self._begun: Counter[str] = Counter()
        self._named: dict[str, str] = {}
        self._deaths: dict[str, Counter[str]] = defaultdict(Counter)
        self._encoders: dict[str, tuple[str, Any]] = {}

    def begin(self, task: str) -> tuple[int, dict[str, int]]:
        """Record that a task begins.

        Returns:
            How often it has begun before, and how many of those attempts died at what.
        """
        died_at = self._named.pop(task, None)
        if died_at is not None:
            self._deaths[task][died_at] += 1
        self._begun[task] += 1
        return self._begun[task] - 1, dict(self._deaths[task]) if task in self._deaths else {}

    def name(self, task: str, thing: str | None) -> None:
        """Record what a task works on from now; None: on nothing that could be to blame."""
        if thing is None:
            self._named.pop(task, None)
        else:
            self._named[task] = thing

    def add_encoder(self, actor_id: str, node_id: str, actor: Any) -> None:
        """Record where an encoder actor has started; one that starts again is recorded anew."""
        self._encoders[actor_id] = (node_id, actor)

    def encoders(self) -> list[tuple[str, Any]]:
        """Return the node and the handle of every encoder actor."""
        return list(self._encoders.values())


class CrashLedgerLike(Protocol):
    """What a stage needs of a crash ledger, here or elsewhere."""

    def begin(self, task: str) -> tuple[int, dict[str, int]]:
        """Record that a task begins; see `CrashLedger.begin`."""

    def name(self, task: str, thing: str | None) -> None:
        """Record what is touched next; see `CrashLedger.name`."""


class RemoteCrashLedger:
    """A crash ledger in an actor on the driver's node, for the length of a job.

    If that node is lost the actor starts elsewhere and counts anew: a clip then costs a few workers
    more.
    """

    def __init__(self) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = ray.get_runtime_context().get_node_id()
        self._actor: Any = (
            ray.remote(CrashLedger)
            .options(
                num_cpus=0,
                max_restarts=-1,
                max_task_retries=-1,
                scheduling_strategy=NodeAffinitySchedulingStrategy(here, soft=True),
            )
            .remote()
        )

    def begin(self, task: str) -> tuple[int, dict[str, int]]:
        """Record that a task begins, in about a millisecond; see `CrashLedger.begin`."""
        import ray

        result: tuple[int, dict[str, int]] = ray.get(self._actor.begin.remote(task))
        return result

    def name(self, task: str, thing: str | None) -> None:
        """Record what is touched next; see `CrashLedger.name`."""
        import ray

        ray.get(self._actor.name.remote(task, thing))

    def add_this_encoder(self) -> None:
        """Add the actor that calls; see `CrashLedger.add_encoder`."""
        import ray

        here = ray.get_runtime_context()
        ray.get(
            self._actor.add_encoder.remote(
                here.get_actor_id(), here.get_node_id(), here.current_actor
            )
        )

    def encoders(self) -> list[tuple[str, Any]]:
        """Return the encoder actors; see `CrashLedger.encoders`."""
        import ray

        result: list[tuple[str, Any]] = ray.get(self._actor.encoders.remote())
        return result


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

    def enter(self, thing: str) -> None:
        """Report what is worked on from now, if that may matter.

        Raises:
            MediaError: `crashed`: too many workers have died of it; it is not entered.
        """
        if not self.again:
            return
        deaths = self._deaths.get(thing, 0) + 1  # the first death was before anything was named
        if deaths >= MAX_WORKER_DEATHS:
            raise MediaError(
                Reason.CRASHED,
                f"{deaths} worker processes died while working on it (killed by a signal, for lack "
                "of memory, or with their machine)",
            )
        self._ledger.name(self._task, thing)

    def leave(self) -> None:
        """Report that nothing is worked on any more."""
        if self.again:
            self._ledger.name(self._task, None)
