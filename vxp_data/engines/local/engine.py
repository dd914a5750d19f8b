"""Engine 'local': processes of this machine, started when needed, ended with the command.

No cluster, no server, nothing that outlives the command: workers end with the process that started
them, however it ends.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from typing import Final, Self, TypeVar

import pyarrow as pa

from vxp_data.cuda import visible_devices
from vxp_data.engines.base import (
    Activity,
    EmbedStages,
    MapTable,
    NodeActivity,
    Shortage,
    no_word,
)
from vxp_data.engines.local.embed_job import EmbedJob
from vxp_data.engines.local.machine import this_machine
from vxp_data.engines.local.shared_table import whole
from vxp_data.engines.local.stages import call_stage, decode_stage, embed_stage, table_stage
from vxp_data.engines.local.tasks import results
from vxp_data.engines.local.workers import Crew, Start, Worker, WorkerPool, WorkerTask
from vxp_data.engines.stage_plan import (
    AskedDevice,
    Device,
    EncoderNeeds,
    StagePlan,
    WorkerStage,
    plan_stages,
)
from vxp_data.errors import UserError
from vxp_data.settings.cluster import ClusterConfig

T = TypeVar("T")
R = TypeVar("R")

_NO_GPU: Final[Mapping[str, str]] = {"CUDA_VISIBLE_DEVICES": ""}
"""Of encoders that are to run on cores."""
_NO_GPU_HERE: Final = (
    "encoder.device is 'cuda', and this machine has no GPU that CUDA can use. Use "
    "--set encoder.device=cpu, or look at nvidia-smi and CUDA_VISIBLE_DEVICES."
)


class LocalEngine:
    """Runs stages in processes of this machine; see `Engine`."""

    spans_machines = False

    def __init__(self, cluster: ClusterConfig) -> None:
        self._cluster = cluster
        self.on_shortage: Callable[[Shortage], None] = no_word
        self._spare: list[Worker] = []
        """Workers of earlier stages, which the next one takes over."""
        self._job: EmbedJob | None = None
        self._pools: tuple[WorkerPool, ...] = ()
        """Of that job: decoders, and encoders if there are any."""

    @classmethod
    def check(cls, cluster: ClusterConfig) -> str:
        """Return how much of this machine is used; see `Engine.check`."""
        if cluster.address is not None:
            raise UserError(
                f"the engine 'local' runs on this machine, and the address {cluster.address!r} is "
                "one of a Ray cluster. Leave --address out, or take --engine ray."
            )
        if cluster.share < 1:
            raise UserError(
                f"cluster.share is {cluster.share:g}, and the engine 'local' runs on this machine "
                "alone. Say what it may take of it: --set cluster.num_cpus=2"
            )
        here = this_machine(cluster)
        return f"processes of this machine: {here.num_cpus:g} cores, {here.num_gpus:g} GPUs"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._spare:
            worker.let_go()
        while self._spare:
            self._spare.pop().wait()

    def encoder_device(self, asked: AskedDevice) -> Device:
        """Return whether there are GPUs here, and they may be used; see `Engine.encoder_device`."""
        if asked != "cpu" and this_machine(self._cluster).num_gpus:
            return "cuda"
        if asked == "cuda":
            raise UserError(_NO_GPU_HERE)
        return "cpu"

    def plan(self, needs: EncoderNeeds) -> StagePlan:
        """Share out this machine; see `Engine.plan`."""
        here = this_machine(self._cluster)
        if needs.device == "cuda" and not here.num_gpus:
            raise UserError(_NO_GPU_HERE)
        return plan_stages([here], needs)

    def activity(self) -> Activity:
        """Count workers and what waits; see `Engine.activity`."""
        here = this_machine(self._cluster)
        num_workers = [len(pool.workers) for pool in self._pools]
        decoders, encoders = [*num_workers, 0, 0][:2]
        waiting, paused = self._job.activity() if self._job else (0, 0)
        node = NodeActivity(
            name=platform.node(),
            num_cpus=here.num_cpus,
            num_gpus=here.num_gpus,
            decoders=decoders,
            encoders=encoders,
        )
        return Activity(nodes=(node,), clips_waiting=waiting, decoders_paused=paused)

    def publish(self, figures: Mapping[str, float]) -> None:
        """Do nothing: nothing watches over processes; see `Engine.publish`."""

    def shortages(self, needs: EncoderNeeds) -> list[Shortage]:
        """Return none: frames on their way take memory as they come; see `Engine.shortages`."""
        del needs
        return []

    def embed_files(self, files: pa.Table, stages: EmbedStages) -> Iterator[pa.Table]:
        """Run decoding and encoder workers beside each other; see `Engine.embed_files`."""
        plan = self.plan(stages.needs)
        decoders = self._pool(
            "decoding worker", partial(decode_stage, stages.decode), _decoding_places(plan.decode)
        )
        encoders = None
        if plan.embed is not None:
            assert stages.start_encoder is not None
            start = partial(embed_stage, stages.start_encoder)
            encoders = self._encoders("encoder", start, plan.embed)
        with self._crew(decoders, *([encoders] if encoders else [])) as crew:
            job = self._job = EmbedJob(files, plan, decoders, encoders, crew)
            self._pools = (decoders, *([encoders] if encoders else []))
            try:
                with closing(job):
                    yield from job.reports()
            finally:
                self._job, self._pools = None, ()

    def run_tasks(
        self, function: Callable[[T], R], tasks: Sequence[T]
    ) -> Generator[tuple[int, R], None, None]:
        """Run a task on each core; see `Engine.run_tasks`."""
        num_cpus = max(1, int(this_machine(self._cluster).num_cpus))
        workers = self._pool("worker", partial(call_stage, function), [{}] * num_cpus)
        todo = [WorkerTask(key=str(index), value=task) for index, task in enumerate(tasks)]
        with self._crew(workers) as crew, closing(results(todo, workers, crew)) as done:
            for index, result in done:
                yield index, result.value

    def map_tables(
        self, start: Callable[[], MapTable], tables: Sequence[pa.Table], needs: EncoderNeeds
    ) -> Iterator[pa.Table]:
        """Run a table on each GPU or core that encoders get; see `Engine.map_tables`."""
        plan = self.plan(needs)
        workers = self._encoders("encoder", partial(table_stage, start), plan.embed or plan.decode)
        todo = [WorkerTask(key=str(index), tables=[table]) for index, table in enumerate(tables)]
        with self._crew(workers) as crew, closing(results(todo, workers, crew)) as done:
            for _, result in done:
                yield whole(result.tables[0])

    def on_every_machine(self, function: Callable[[], T]) -> dict[str, T]:
        """Call the function here; see `Engine.on_every_machine`."""
        return {"this machine": function()}

    def _encoders(self, what: str, start: Start, stage: WorkerStage) -> WorkerPool:
        environments: list[Mapping[str, str]] = [_NO_GPU] * stage.workers
        if stage.num_gpus:
            gpus = visible_devices()[: stage.workers]
            environments = [{"CUDA_VISIBLE_DEVICES": name} for name in gpus]
        return WorkerPool(what, start, environments, spare=None)  # its memory is wanted elsewhere

    def _pool(
        self, what: str, start: Start, environments: Sequence[Mapping[str, str]]
    ) -> WorkerPool:
        return WorkerPool(what, start, environments, self._spare)

    @contextmanager
    def _crew(self, *pools: WorkerPool) -> Iterator[Crew]:
        crew = Crew(pools, self._cluster.memory_threshold)
        try:
            yield crew
        finally:
            crew.release()


def _decoding_places(stage: WorkerStage) -> list[Mapping[str, str]]:
    """Return each decoding worker's environment: the GPUs go round, where they decode."""
    gpus = visible_devices() if stage.num_gpus else []
    if not gpus:
        return [{}] * stage.workers
    return [{"CUDA_VISIBLE_DEVICES": gpus[i % len(gpus)]} for i in range(stage.workers)]
