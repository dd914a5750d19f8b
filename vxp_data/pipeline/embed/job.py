"""The Ray Data job: files in, embeddings parts out. Thin: no arithmetic here.

CPU decode tasks -> encoder actors -> Parquet parts. Encoders that are cheap run in the decode task
itself. The driver hears a few numbers a clip, no frames, no embeddings.

Every clip has a number, and the driver notes which have come back. Ray runs again what a lost
worker or machine took with it; should a clip not come back for all that, it is handed out again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vxp_data.core.task_packing import pack_files
from vxp_data.errors import UserError
from vxp_data.pipeline.embed.crash_ledger import RemoteCrashLedger
from vxp_data.pipeline.embed.lost_nodes import NodeWatch
from vxp_data.pipeline.embed.ray_session import ray_session
from vxp_data.pipeline.embed.resources import (
    FILES_PER_JOB,
    MAX_BLOCK_BYTES,
    MAX_ENCODER_START_DEATHS,
    MAX_ROUNDS_IN_VAIN,
    NO_PROGRESS_S,
    TASKS_PER_WORKER,
    Machine,
    StagePlan,
    plan_stages,
)
from vxp_data.pipeline.embed.workers import (
    EmbedActor,
    JobSettings,
    decode_and_embed_files,
    decode_files,
    item_table,
)
from vxp_data.pipeline.media.clips import MediaItem
from vxp_data.settings.prune import PruneConfig

_RAYS_ADVICE: Final = "\nFailed to apply UDF transform"
"""What Ray Data appends to the message of any error in a stage: how to set its own retries."""


@dataclass(slots=True)
class EmbedTotals:
    """What the job did, summed over clips; CPU seconds are of the stages' own work."""

    clips: int = 0
    failed: int = 0
    probe_cpu_s: float = 0.0
    decode_cpu_s: float = 0.0
    embed_cpu_s: float = 0.0
    bytes_fetched: int = 0
    """From object stores."""
    decode_workers: int = 0
    """Tasks that decoded at the same time, at most."""
    embed_workers: int = 0
    """Encoders beside them; 0: each decoding task embeds, too."""
    on_gpu: bool = False

    def add(self, report: pa.Table) -> None:
        """Count the clips of one report (REPORT_SCHEMA)."""
        self.clips += report.num_rows
        self.bytes_fetched += sum(report["bytes_fetched"].to_pylist())
        self.failed += sum(1 for reason in report["reason"].to_pylist() if reason)
        for stage in ("probe", "decode", "embed"):
            name = f"{stage}_cpu_s"
            setattr(self, name, getattr(self, name) + sum(report[name].to_pylist()))


def embed_media(
    items: Sequence[MediaItem],
    config: PruneConfig,
    settings: JobSettings,
    on_progress: Callable[[EmbedTotals], None],
) -> EmbedTotals:
    """Decode and embed files, on this machine or on a cluster; parts are written as they come.

    Args:
        items: 1 or more files, dearest first.
        config: for the cluster and the encoder's device.
        settings: what the workers must know.
        on_progress: told the totals so far, on the driver, every few clips.

    Raises:
        UserError: there is no cluster, no GPU that was asked for, or a worker met an error that
            the user can fix.
        RuntimeError: clips have not come back however often they were handed out.
    """
    totals = EmbedTotals()
    with ray_session(config.cluster):
        for first in range(0, len(items), FILES_PER_JOB):
            job = items[first : first + FILES_PER_JOB]
            _embed_all(job, config, settings, totals, on_progress)
    return totals


def _embed_all(
    items: Sequence[MediaItem],
    config: PruneConfig,
    settings: JobSettings,
    totals: EmbedTotals,
    on_progress: Callable[[EmbedTotals], None],
) -> None:
    """Dispatch files until every clip of them has come back."""
    import ray

    ledger = RemoteCrashLedger()
    rounds_in_vain = 0
    while items:
        first_clip = np.cumsum([0, *(len(item.clips_s) for item in items)])
        is_back_C = np.zeros(first_clip[-1], dtype=np.bool_)
        failure: Exception | None = None
        try:
            for report in _reports(items, first_clip[:-1], config, settings, ledger, totals):
                totals.add(report.filter(pa.array(~is_back_C[report["clip"].to_numpy()])))
                is_back_C[report["clip"].to_numpy()] = True
                on_progress(totals)
        except ray.exceptions.RayError as error:
            if user_error := user_error_inside(error):
                raise user_error from None
            if isinstance(error, ray.exceptions.RayTaskError):
                raise  # an error of a stage's own: it would come again
            failure = error  # what ran is gone, with a machine, say: planned anew
        rounds_in_vain = 0 if is_back_C.any() else rounds_in_vain + 1
        if rounds_in_vain == MAX_ROUNDS_IN_VAIN:
            raise failure or RuntimeError(
                f"{len(is_back_C)} clips do not come back however often they are handed out, the "
                f"first of {items[0].uri}; this is a bug in a stage"
            )
        items = _still_out(items, first_clip, is_back_C)


def _still_out(
    items: Sequence[MediaItem], first_clip: NDArray[np.int64], is_back_C: NDArray[np.bool_]
) -> list[MediaItem]:
    still_out = []
    for item, first, stop in zip(items, first_clip[:-1], first_clip[1:], strict=True):
        back = is_back_C[first:stop]
        if not back.all():
            clips_s = tuple(c for c, done in zip(item.clips_s, back, strict=True) if not done)
            still_out.append(replace(item, clips_s=clips_s))
    return still_out


def _reports(
    items: Sequence[MediaItem],
    first_clip: NDArray[np.int64],
    config: PruneConfig,
    settings: JobSettings,
    ledger: RemoteCrashLedger,
    totals: EmbedTotals,
) -> Iterator[pa.Table]:
    import ray

    context = ray.data.DataContext.get_current()
    context.target_max_block_size = MAX_BLOCK_BYTES
    context.raise_original_map_exception = True  # a worker's UserError, not a wrapping of it
    context.max_consecutive_actor_init_deaths = MAX_ENCODER_START_DEATHS
    context.execution_no_progress_timeout_s = NO_PROGRESS_S
    stages = cluster_stages(config, settings)
    with NodeWatch(ledger, config.cluster.node_wait_s):
        totals.decode_workers = stages.decode.workers
        totals.embed_workers = stages.embed.workers if stages.embed else 0
        totals.on_gpu = bool(stages.embed and stages.embed.num_gpus)
        dataset = _dataset(items, first_clip, stages, settings, ledger)
        yield from dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)


def _dataset(
    items: Sequence[MediaItem],
    first_clip: NDArray[np.int64],
    stages: StagePlan,
    settings: JobSettings,
    ledger: RemoteCrashLedger,
) -> Any:
    import ray

    starts = pack_files(
        np.array([item.num_bytes for item in items], dtype=np.int64),
        workers=stages.decode.workers,
        files_per_task=stages.decode.rows,
        tasks_per_worker=TASKS_PER_WORKER,
    )
    blocks = [
        item_table(items[i:j], first_clip[i:j].tolist()) for i, j in pairwise(starts.tolist())
    ]
    dataset: ray.data.Dataset = ray.data.from_arrow(blocks)
    decode: Any = decode_files if stages.embed else decode_and_embed_files
    dataset = dataset.map_batches(
        decode,
        batch_size=None,
        batch_format="pyarrow",
        fn_kwargs={"settings": settings, "ledger": ledger},
        num_cpus=stages.decode.num_cpus,
        memory=stages.decode.memory_bytes,
        compute=ray.data.TaskPoolStrategy(size=min(stages.decode.workers, len(blocks))),
    )
    if stages.embed:
        dataset = dataset.map_batches(
            EmbedActor,
            batch_size=stages.embed.rows,
            batch_format="pyarrow",
            zero_copy_batch=True,
            fn_constructor_args=(settings, ledger),
            num_cpus=stages.embed.num_cpus,
            num_gpus=stages.embed.num_gpus or None,
            memory=stages.embed.memory_bytes,
            compute=ray.data.ActorPoolStrategy(
                size=stages.embed.workers, max_tasks_in_flight_per_actor=2
            ),
        )
    return dataset


def cluster_stages(config: PruneConfig, settings: JobSettings) -> StagePlan:
    """Share out the cluster that is there.

    Raises:
        UserError: a GPU was asked for, and there is none.
    """
    import ray

    machines = [
        Machine(num_cpus=there.get("CPU", 0), num_gpus=there.get("GPU", 0))
        for there in (node["Resources"] for node in ray.nodes() if node["Alive"])  # type: ignore[no-untyped-call]
    ]
    has_gpu = any(machine.num_gpus for machine in machines)
    device = config.encoder.device
    if device == "cuda" and not has_gpu:
        raise UserError(
            "encoder.device is 'cuda', and Ray sees no GPU. Use --set encoder.device=cpu, or a "
            "machine or cluster with GPUs."
        )
    return plan_stages(
        machines,
        in_decode_task=settings.spec.in_decode_task,
        on_gpu=has_gpu and device != "cpu",
    )


def user_error_inside(error: BaseException) -> UserError | None:
    """Find the user's error in what Ray made of it; None: it is ours."""
    inner: BaseException | None = error
    while inner is not None:
        cause = getattr(inner, "cause", None)
        if isinstance(cause, UserError):
            return UserError(str(cause).partition(_RAYS_ADVICE)[0])
        if isinstance(inner, UserError):
            return UserError(str(inner).partition(_RAYS_ADVICE)[0])
        inner = inner.__cause__
    return None
