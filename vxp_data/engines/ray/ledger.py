"""The crash ledger of a Ray job, and where its encoders are."""

from __future__ import annotations

from typing import Any

from vxp_data.engines.crash_ledger import CrashLedger


class _LedgerActor(CrashLedger):
    """A crash ledger that also knows the job's encoder actors."""

    def __init__(self) -> None:
        super().__init__()
        self._encoders: dict[str, tuple[str, Any]] = {}

    def add_encoder(self, actor_id: str, node_id: str, actor: Any) -> None:
        """Record where an encoder actor has started; one that starts again is recorded anew."""
        self._encoders[actor_id] = (node_id, actor)

    def encoders(self) -> list[tuple[str, Any]]:
        """Return the node and the handle of every encoder actor."""
        return list(self._encoders.values())


class RayCrashLedger:
    """A crash ledger in an actor on the driver's node, for the length of a job.

    If that node is lost the actor starts elsewhere and counts anew: a clip then costs a few workers
    more.
    """

    names_first = False  # to name a thing takes a millisecond

    def __init__(self) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = ray.get_runtime_context().get_node_id()
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

    def begin(self, task: str) -> tuple[int, dict[str, int]]:
        """Record that a task begins; see `CrashLedgerLike.begin`."""
        import ray

        result: tuple[int, dict[str, int]] = ray.get(self._actor.begin.remote(task))
        return result

    def name(self, task: str, thing: str | None) -> None:
        """Record what is touched next; see `CrashLedgerLike.name`."""
        import ray

        ray.get(self._actor.name.remote(task, thing))

    def add_this_encoder(self) -> None:
        """Add the actor that calls."""
        import ray

        here = ray.get_runtime_context()
        ray.get(
            self._actor.add_encoder.remote(
                here.get_actor_id(), here.get_node_id(), here.current_actor
            )
        )

    def encoders(self) -> list[tuple[str, Any]]:
        """Return the node and the handle of every encoder actor."""
        import ray

        result: list[tuple[str, Any]] = ray.get(self._actor.encoders.remote())
        return result
