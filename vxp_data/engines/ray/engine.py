"""Engine 'ray': Ray Data, on a cluster or, by choice, on this machine alone."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, Self, TypeVar

import pyarrow as pa
import ray

from vxp_data.engines.base import EmbedStages, MapTable, Shortage
from vxp_data.engines.local.machine import this_machine
from vxp_data.engines.ray.embed_job import embed_files
from vxp_data.engines.ray.session import ray_session, refuse_client
from vxp_data.engines.ray.tasks import map_tables, run_tasks
from vxp_data.engines.stage_plan import EncoderNeeds, Machine, StagePlan, plan_stages
from vxp_data.errors import UserError
from vxp_data.settings.cluster import ClusterConfig

T = TypeVar("T")
R = TypeVar("R")

_LEAST_STORE_BYTES: Final = 256 << 20
_STORE_ROOM: Final = 1.25
"""Of the object store, over what lies in it at once: Ray lets its stages fill a part of it."""

_ANSWER_S: Final = 600.0
"""How long a machine may take for what `on_every_machine` asks of it."""


class RayEngine:
    """Runs stages as Ray tasks and actors; see `Engine`."""

    def __init__(self, cluster: ClusterConfig) -> None:
        self._cluster = cluster
        self._ray = ExitStack()
        self._is_there = False
        self.spans_machines = cluster.address is not None

    @classmethod
    def check(cls, cluster: ClusterConfig) -> str:
        """Check that Ray is installed; see `Engine.check`."""
        refuse_client(cluster.address)
        return f"Ray {ray.__version__} on {cluster.address or 'this machine'}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._is_there = False
        self._ray.close()

    def plan(self, needs: EncoderNeeds) -> StagePlan:
        """Share out the machines that are there; see `Engine.plan`."""
        self._start(needs)
        machines = [
            Machine(num_cpus=there.get("CPU", 0), num_gpus=there.get("GPU", 0))
            for there in (node["Resources"] for node in _nodes())
        ]
        if needs.device == "cuda" and not any(machine.num_gpus for machine in machines):
            raise UserError(
                "encoder.device is 'cuda', and Ray sees no GPU. Use --set encoder.device=cpu, or a "
                "machine or cluster with GPUs."
            )
        return plan_stages(machines, needs)

    def shortages(self, needs: EncoderNeeds) -> list[Shortage]:
        """Look at the shared memory, which holds frames on their way; see `Engine.shortages`."""
        wanted = self.plan(needs).waiting_bytes(needs)
        given: float = ray.cluster_resources().get("object_store_memory", 0)  # type: ignore[no-untyped-call]
        found = [*_short_of_shm(given)] if not self.spans_machines else []
        if given < wanted:
            found.append(
                Shortage(
                    name="object store",
                    message=f"Ray's object store holds {given / 1e6:.0f} MB, and frames on their "
                    f"way to the encoders take {wanted / 1e6:.0f}: stages would wait for others.",
                    remedy="Start the nodes with more (ray start --object-store-memory=BYTES)."
                    if self.spans_machines
                    else "Leave cluster.object_store_mib out, or raise it.",
                )
            )
        return found

    def embed_files(self, files: pa.Table, stages: EmbedStages) -> Iterator[pa.Table]:
        """Run both stages as one Ray Data job; see `Engine.embed_files`."""
        self._start()
        yield from embed_files(
            files, stages, lambda: self.plan(stages.needs), self._cluster.node_wait_s
        )

    def run_tasks(
        self, function: Callable[[T], R], tasks: Sequence[T]
    ) -> Generator[tuple[int, R], None, None]:
        """Run tasks of a core each; see `Engine.run_tasks`."""
        self._start()
        yield from run_tasks(function, tasks)

    def map_tables(
        self, start: Callable[[], MapTable], tables: Sequence[pa.Table], needs: EncoderNeeds
    ) -> Iterator[pa.Table]:
        """Run actors, one on each GPU or core that encoders get; see `Engine.map_tables`."""
        yield from map_tables(start, tables, self.plan(needs))

    def on_every_machine(self, function: Callable[[], T]) -> dict[str, T]:
        """Call a function on each node; see `Engine.on_every_machine`."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self._start()
        task: Any = ray.remote(_ask)
        references = {
            f"{node['NodeManagerHostname']} {node['NodeID'][:8]}": task.options(
                num_cpus=0,
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
            ).remote(function)
            for node in _nodes()
        }
        try:
            return {name: ray.get(ref, timeout=_ANSWER_S) for name, ref in references.items()}
        except (ray.exceptions.RayError, TimeoutError) as error:
            raise UserError(
                f"the nodes of the cluster cannot be checked: {error}. Is this version of vxp "
                "installed on all of them, with the same Python?"
            ) from error

    def _start(self, needs: EncoderNeeds | None = None) -> None:
        """Join or start Ray, once; a local one with room for what an encoder needs."""
        if not self._is_there:
            self._ray.enter_context(ray_session(self._cluster, self._store_bytes(needs)))
            self._is_there = True

    def _store_bytes(self, needs: EncoderNeeds | None) -> int:
        if self._cluster.object_store_mib is not None:
            return self._cluster.object_store_mib << 20
        here = this_machine(self._cluster)
        wanted = plan_stages([here], needs).waiting_bytes(needs) if needs else 0
        return max(_LEAST_STORE_BYTES, int(wanted * _STORE_ROOM))


def _ask(function: Callable[[], T]) -> T:
    return function()


def _short_of_shm(wanted: float) -> Iterator[Shortage]:
    """Look whether the shared memory of a local Ray fits where the kernel has it."""
    shared = Path("/dev/shm")
    if shared.is_dir() and shutil.disk_usage(shared).total < wanted:
        yield Shortage(
            name="shared memory",
            message=f"{shared} has {shutil.disk_usage(shared).total >> 20} MiB, Ray wants "
            f"{int(wanted) >> 20}, and uses {tempfile.gettempdir()} instead, which is slow.",
            remedy="Give the container more (docker run --shm-size), or take the engine 'local'.",
        )


def _nodes() -> list[dict[str, Any]]:
    known = ray.nodes()  # type: ignore[no-untyped-call]
    return [node for node in known if node["Alive"]]
