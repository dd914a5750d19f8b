"""Engine 'ray': Ray Data, on a cluster or, by choice, on this machine alone."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Self, TypeVar

import pyarrow as pa
import ray

from vxp_data.engines.base import Activity, EmbedStages, MapTable, Shortage, no_word
from vxp_data.engines.local.machine import this_machine
from vxp_data.engines.ray.capacity import (
    alive_nodes,
    all_machines,
    can_get_gpus,
    free_machines,
    limits_of,
)
from vxp_data.engines.ray.embed_job import JobPlan, embed_files
from vxp_data.engines.ray.gauges import Gauges, node_activity
from vxp_data.engines.ray.session import ray_session, refuse_client
from vxp_data.engines.ray.tasks import map_tables, run_tasks
from vxp_data.engines.ray.waiting import wait_for_gpu, wait_for_room
from vxp_data.engines.stage_plan import (
    AskedDevice,
    Device,
    EncoderNeeds,
    Machine,
    StagePlan,
    plan_stages,
)
from vxp_data.errors import UserError
from vxp_data.settings.cluster import ClusterConfig

T = TypeVar("T")
R = TypeVar("R")

_LEAST_STORE_BYTES: Final = 256 << 20
_STORE_ROOM: Final = 1.25
"""Of the object store, over what lies in it at once: Ray lets its stages fill a part of it."""

_TASKS_PER_CPU: Final = 2

_NO_GPUS: Final = Shortage(
    name="encoder device",
    message="the cluster has no GPU, and no autoscaler that would add one: encoders run on its "
    "cores, which take 11 s a frame with SigLIP so400m.",
    remedy="Add machines with GPUs, and have the run wait for them (--set encoder.device=cuda); or "
    "take a small encoder (--encoder efficientnet_lite0).",
)

_ANSWER_S: Final = 600.0
"""How long a machine may take for what `on_every_machine` asks of it."""


class RayEngine:
    """Runs stages as Ray tasks and actors; see `Engine`."""

    def __init__(self, cluster: ClusterConfig) -> None:
        self._cluster = cluster
        self._ray = ExitStack()
        self._is_there = False
        self.spans_machines = cluster.address is not None
        self._gauges = Gauges()
        self.on_shortage: Callable[[Shortage], None] = no_word

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

    def encoder_device(self, asked: AskedDevice) -> Device:
        """Return where encoders run; see `Engine.encoder_device`."""
        if asked == "cpu":
            return "cpu"
        if not self.spans_machines and not ray.is_initialized():  # no cluster to be asked
            num_gpus = this_machine(self._cluster).num_gpus
        else:
            self._start()
            num_gpus = min(sum(m.num_gpus for m in all_machines(self._cluster)), self._most_gpus)
        if num_gpus:
            return "cuda"
        if self._most_gpus and self.spans_machines and (asked == "cuda" or can_get_gpus()):
            wait_for_gpu(self._cluster, self.on_shortage)
            return "cuda"
        if asked == "cuda":
            raise UserError(
                "encoder.device is 'cuda', and Ray sees no GPU. Use --set encoder.device=cpu, or a "
                "machine or cluster with GPUs."
            )
        if self.spans_machines:
            self.on_shortage(_NO_GPUS)
        return "cpu"

    @property
    def _most_gpus(self) -> float:
        return math.inf if self._cluster.num_gpus is None else self._cluster.num_gpus

    def plan(self, needs: EncoderNeeds) -> StagePlan:
        """Share out what is free of the machines that are there; see `Engine.plan`."""
        self._start(needs)
        return self._within_limits(free_machines(self._cluster), needs)

    def _within_limits(self, machines: Sequence[Machine], needs: EncoderNeeds) -> StagePlan:
        limits = limits_of(self._cluster)
        plan = plan_stages(machines, needs)
        decode, embed = plan.decode, plan.embed
        decode = replace(decode, workers=_at_most(decode.workers, limits.num_cpus))
        if embed is not None and embed.num_gpus:
            embed = replace(embed, workers=_at_most(embed.workers, limits.num_gpus))
        return StagePlan(decode=decode, embed=embed)

    def _job(self, needs: EncoderNeeds) -> JobPlan:
        """Plan a job over what is free, once something is."""
        self._start(needs)
        wait_for_room(self._cluster, needs, self.on_shortage)
        stages = self.plan(needs)
        on_cores = stages.embed is not None and not stages.on_gpu
        follows = not on_cores and self._cluster.share == 1
        return JobPlan(
            stages=stages,
            limits=limits_of(self._cluster),
            size=None if follows else partial(_size, self._cluster),
        )

    def activity(self) -> Activity:
        """Name the nodes; Ray's own metrics tell what waits where; see `Engine.activity`."""
        if not ray.is_initialized():
            return Activity(nodes=())
        try:
            return Activity(nodes=tuple(map(node_activity, alive_nodes())))
        except ray.exceptions.RayError:  # its head does not answer: the job will say so
            return Activity(nodes=())

    def publish(self, figures: Mapping[str, float]) -> None:
        """Show figures at the Prometheus endpoint of Ray; see `Engine.publish`."""
        self._gauges.show(figures)

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
            files, stages, partial(self._job, stages.needs), self._cluster.node_wait_s
        )

    def run_tasks(
        self, function: Callable[[T], R], tasks: Sequence[T]
    ) -> Generator[tuple[int, R], None, None]:
        """Run tasks of a core each; see `Engine.run_tasks`."""
        self._start()
        yield from run_tasks(function, tasks, self._tasks_at_once)

    def map_tables(
        self, start: Callable[[], MapTable], tables: Sequence[pa.Table], needs: EncoderNeeds
    ) -> Iterator[pa.Table]:
        """Run actors, one on each GPU or core that encoders get; see `Engine.map_tables`."""
        job = self._job(needs)
        yield from map_tables(start, tables, job.stages, job.limits)

    def on_every_machine(self, function: Callable[[], T]) -> dict[str, T]:
        """Call a function on each node; see `Engine.on_every_machine`."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self._start()
        task: Any = ray.remote(_ask)
        nodes = {node["NodeID"]: node["NodeManagerHostname"] for node in alive_nodes()}
        references = {
            node_id: task.options(
                num_cpus=0,
                scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False),
            ).remote(function)
            for node_id in nodes
        }
        answers: dict[str, T] = {}
        for node_id, reference in references.items():
            name = f"{nodes[node_id]} {node_id[:8]}"
            try:
                answers[name] = ray.get(reference, timeout=_ANSWER_S)
            except (ray.exceptions.RayError, TimeoutError) as error:
                if node_id not in {node["NodeID"] for node in alive_nodes()}:
                    continue  # it has left in the meantime, and is done without
                raise UserError(
                    f"the node {name} of the cluster cannot be checked: {error}. Is this version "
                    "of vxp installed on it, with the same Python?"
                ) from error
        return answers

    def _tasks_at_once(self) -> int:
        """Return how many tasks of a core Ray is given: of all cores, one runs and one waits."""
        limit = limits_of(self._cluster).num_cpus
        num_cpus = sum(machine.num_cpus for machine in all_machines(self._cluster))
        return max(1, int(min(limit, num_cpus * _TASKS_PER_CPU)))

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


def _at_most(workers: int, limit: float) -> int:
    return max(1, int(min(workers, limit)))


def _size(cluster: ClusterConfig) -> float:
    """Return what a plan that does not follow the cluster by itself is made of."""
    return sum(machine.num_cpus + machine.num_gpus for machine in all_machines(cluster))
