"""The crash ledger of a Ray job, where its encoders are, and whether it is to be planned anew."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, Final

from vxp_data.engines.crash_ledger import CrashLedger
from vxp_data.engines.ray.capacity import alive_nodes

_MAX_FORGIVEN: Final = 10
"""Attempts at a task that may end with their machine before it is suspected of having ended it."""


class PlannedAnewError(Exception):
    """Ends a Ray Data job of which the plan no longer fits the cluster; another one goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderPlace:
    """Where an encoder actor has started."""

    actor_id: str
    node_id: str
    actor: Any
    """Its handle of itself, which does not keep it alive when Ray Data lets go of it."""


class _LedgerActor(CrashLedger):
    """A crash ledger that also knows the job's encoder actors, and blames nobody for machines."""

    def __init__(self) -> None:
        super().__init__()
        self._encoders: dict[str, EncoderPlace] = {}
        self._job = 0
        self._begun_at: dict[str, tuple[int, str]] = {}
        """By task: the job and the machine of its last attempt."""
        self._forgiven: Counter[str] = Counter()

    def begin_in(self, job: int, task: str, node_id: str) -> tuple[int, dict[str, int]] | None:
        """Record that a task of a job begins on a machine; None: the job is to end."""
        if job < self._job:
            return None
        self._job = job  # another number where this actor has started anew
        before = self._begun_at.get(task)
        if before is not None and self._is_no_fault(task, *before):
            self._forgiven[task] += 1
            self.forgive(task)
        self._begun_at[task] = (job, node_id)
        return self.begin(task)

    def _is_no_fault(self, task: str, job: int, node_id: str) -> bool:
        """Whether an attempt ended with its job or its machine; not too often: a task may kill."""
        if self._forgiven[task] >= _MAX_FORGIVEN:
            return False
        return job < self._job or node_id not in {node["NodeID"] for node in alive_nodes()}

    def next_job(self, job: int) -> None:
        """Have the tasks of earlier jobs end."""
        self._job = job

    def add_encoder(self, place: EncoderPlace) -> None:
        """Record where an encoder actor has started; one that starts again is recorded anew."""
        self._encoders[place.actor_id] = place

    def encoders(self) -> list[EncoderPlace]:
        """Return where every encoder actor of the job is, or was."""
        return list(self._encoders.values())

    def forget_encoders(self) -> None:
        """Forget them: the job has ended."""
        self._encoders.clear()


class RayCrashLedger:
    """A crash ledger in an actor on the driver's node, for all Ray Data jobs over some files.

    If that node is lost the actor starts elsewhere and counts anew: a clip then costs a few workers
    more.
    """

    names_first = False  # to name a thing takes a millisecond

    def __init__(self) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = ray.get_runtime_context().get_node_id()
        self._job = 0
        self._actor: Any = (
            ray.remote(_LedgerActor)
            .options(
                num_cpus=0,
                max_restarts=-1,
                max_task_retries=-1,
                scheduling_strategy=NodeAffinitySchedulingStrategy(here, soft=True),
            )
            .remote()
        )

    def next_job(self) -> None:
        """Have every task of the job before end when it begins; called between jobs, too."""
        import ray

        self._job += 1
        ray.get(self._actor.next_job.remote(self._job))

    def begin(self, task: str) -> tuple[int, dict[str, int]]:
        """Record that a task begins; see `CrashLedgerLike.begin`.

        Raises:
            PlannedAnewError: its job is to end.
        """
        import ray

        result: tuple[int, dict[str, int]] | None
        here = ray.get_runtime_context().get_node_id()
        result = ray.get(self._actor.begin_in.remote(self._job, task, here))
        if result is None:
            raise PlannedAnewError
        return result

    def name(self, task: str, thing: str | None) -> None:
        """Record what is touched next; see `CrashLedgerLike.name`."""
        import ray

        ray.get(self._actor.name.remote(task, thing))

    def add_this_encoder(self) -> None:
        """Add the actor that calls."""
        import ray

        here = ray.get_runtime_context()
        actor_id, node_id = str(here.get_actor_id()), here.get_node_id()
        place = EncoderPlace(actor_id=actor_id, node_id=node_id, actor=here.current_actor)
        ray.get(self._actor.add_encoder.remote(place))

    def encoders(self) -> list[EncoderPlace]:
        """Return where every encoder actor of the job is, or was."""
        import ray

        result: list[EncoderPlace] = ray.get(self._actor.encoders.remote())
        return result

    def end_encoders(self) -> None:
        """End the encoders of a job that has failed: they would keep their GPUs for a while."""
        import ray

        for place in self.encoders():
            ray.kill(place.actor)
        ray.get(self._actor.forget_encoders.remote())
