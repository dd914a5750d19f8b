"""Files to reports as a Ray Data job. Thin: no arithmetic here.

CPU decode tasks -> encoder actors -> reports. Encoders that are cheap run in the decode task
itself. Every clip has a number, and the driver notes which have come back. Ray runs again what a
lost worker or machine took with it; should a clip not come back for all that, it is handed out
again.
"""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
import pyarrow as pa
import ray

from vxp_data.core.task_packing import pack_files
from vxp_data.engines.base import Decode, Embed, EmbedStages
from vxp_data.engines.crash_ledger import Attempt
from vxp_data.engines.files import num_clips, without_clips
from vxp_data.engines.ray.capacity import Limits, alive_nodes
from vxp_data.engines.ray.cluster_watch import ClusterWatch
from vxp_data.engines.ray.ledger import PlannedAnewError, RayCrashLedger
from vxp_data.engines.stage_plan import (
    CALLS_PER_ENCODER,
    MAX_START_DEATHS,
    TASKS_PER_WORKER,
    StagePlan,
    WorkerStage,
)
from vxp_data.errors import UserError

_MAX_BLOCK_BYTES: Final = 128 << 20
"""Frames that travel together from decoding to embedding: about 14 videos at 384 px."""

_BLOCKS_IN_STORE: Final = 4
"""Blocks that the smallest object store has room for at least: with fewer, stages would wait for
each other for ever."""

_MAX_ROUNDS_IN_VAIN: Final = 3
"""How often in a row files are handed out and not one result comes back before the run ends."""

_NO_PROGRESS_S: Final = 24 * 3600
"""How long a job may go without a single result. Ray Data's own half hour would end a run whose
last video takes longer; what one decode may take is limited by `decode.timeout_s`."""

_MANY_ENCODERS: Final = 10_000
"""More than any cluster has GPUs."""

_BUSY_ENCODERS: Final = 1.15
"""From how many calls, for each that they have in work, encoders are busy, so that more are started
where there is a GPU; they have CALLS_PER_ENCODER / (CALLS_PER_ENCODER - 1) at most."""

_KEEP_ENCODERS: Final = -1.0
"""How idle encoders must be to be ended: never, the next one would have to load the weights."""

_LEAST_PRIORITY: Final = 19
"""Of Linux, for decoding: a GPU should not wait for its encoder's turn on a core."""

_RAYS_ADVICE: Final = "\nFailed to apply UDF transform"
"""What Ray Data appends to the message of any error in a stage: how to set its own retries."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPlan:
    """What a Ray Data job begins with."""

    stages: StagePlan
    limits: Limits
    size: Callable[[], float] | None
    """What it would be planned with later; None: Ray Data follows the cluster by itself."""


def embed_files(
    files: pa.Table,
    stages: EmbedStages,
    plan: Callable[[], JobPlan],
    node_wait_s: float,
) -> Iterator[pa.Table]:
    """Dispatch files until every clip of them has come back; see `Engine.embed_files`.

    Args:
        files: FILE_SCHEMA.
        stages: what is run over them.
        plan: shares out what is there, or waits for it; asked anew when that has changed.
        node_wait_s: how long a machine may take to be replaced.
    """
    ledger = RayCrashLedger()
    rounds_in_vain = 0
    is_back_C = np.zeros(num_clips(files), dtype=np.bool_)
    while len(files):
        num_back = is_back_C.sum()
        failure: Exception | None = None
        job = plan()
        with ClusterWatch(ledger, node_wait_s, job.size) as watch:
            try:
                for report in _reports(files, stages, job, ledger, watch):
                    clip_R = report["clip"].to_numpy()
                    new = report.filter(pa.array(~is_back_C[clip_R]))
                    is_back_C[clip_R] = True
                    yield new
            except ray.exceptions.RayError as error:
                failure = _planned_for(error)
        if failure is not None:
            ledger.end_encoders()
            gc.collect()  # what Ray Data has left of the job: actors that have not started yet
        in_vain = is_back_C.sum() == num_back and not watch.has_ended_job
        rounds_in_vain = rounds_in_vain + 1 if in_vain else 0
        if rounds_in_vain == _MAX_ROUNDS_IN_VAIN:
            raise failure or RuntimeError(
                f"{len(is_back_C)} clips do not come back however often they are handed out, the "
                f"first of {files['uri'][0]}; this is a bug in a stage"
            )
        files = without_clips(files, is_back_C)
        ledger.next_job()


def _planned_for(error: ray.exceptions.RayError) -> Exception:
    """Return an error that another job may do without: what ran is gone, with a machine, say.

    Raises:
        UserError: it is the user's.
        RayTaskError: it is of a stage's own: it would come again.
    """
    if user_error := user_error_inside(error):
        raise user_error from None
    if isinstance(error, ray.exceptions.RayTaskError) and not _inside(error, PlannedAnewError):
        raise error
    error.__context__ = error.__cause__ = None
    return error.with_traceback(None)  # whose frames hold the job, and so its actors


def _reports(
    files: pa.Table,
    stages: EmbedStages,
    plan: JobPlan,
    ledger: RayCrashLedger,
    watch: ClusterWatch,
) -> Iterator[pa.Table]:
    context = ray.data.DataContext.get_current()
    context.target_max_block_size = _block_bytes()
    context.raise_original_map_exception = True  # a worker's UserError, not a wrapping of it
    context.max_consecutive_actor_init_deaths = MAX_START_DEATHS
    context.execution_no_progress_timeout_s = _NO_PROGRESS_S
    context.autoscaling_config.actor_pool_util_upscaling_threshold = _BUSY_ENCODERS
    context.autoscaling_config.actor_pool_util_downscaling_threshold = _KEEP_ENCODERS
    set_limits(plan.limits)
    dataset = _dataset(files, stages, plan.stages, ledger)
    for report in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        watch.heard()
        yield report


def _block_bytes() -> int:
    stores = (node["Resources"].get("object_store_memory", 0) for node in alive_nodes())
    smallest = min(filter(None, stores), default=_BLOCKS_IN_STORE * _MAX_BLOCK_BYTES)
    return min(_MAX_BLOCK_BYTES, int(smallest) // _BLOCKS_IN_STORE)


def set_limits(limits: Limits) -> None:
    """Have the Ray Data jobs that begin now take no more than that."""
    context = ray.data.DataContext.get_current()
    context.execution_options.resource_limits = ray.data.ExecutionResources.for_limits(
        cpu=limits.num_cpus, gpu=limits.num_gpus
    )


def _dataset(files: pa.Table, stages: EmbedStages, plan: StagePlan, ledger: RayCrashLedger) -> Any:
    starts = pack_files(
        files["num_bytes"].to_numpy(),
        workers=plan.decode.workers,
        files_per_task=plan.decode.rows,
        tasks_per_worker=TASKS_PER_WORKER,
        cheap_files_per_task=plan.decode.cheap_rows,
    )
    blocks = [files.slice(i, j - i) for i, j in pairwise(starts.tolist())]
    dataset: Any = ray.data.from_arrow(blocks)
    # `map_batches` wants a batch size where there are GPUs, and would put blocks together for it.
    dataset = dataset.map_batches_internal(
        _decode,
        batch_size=None,
        batch_format="pyarrow",
        fn_kwargs={"decode": stages.decode, "ledger": ledger},
        num_cpus=plan.decode.num_cpus,
        num_gpus=plan.decode.num_gpus or None,
        memory=plan.decode.memory_bytes,
        compute=ray.data.TaskPoolStrategy(size=_num_decoders(plan, len(blocks))),
    )
    if plan.embed:
        dataset = dataset.map_batches(
            _EncoderActor,
            batch_size=plan.embed.rows,
            batch_format="pyarrow",
            zero_copy_batch=True,
            fn_constructor_args=(stages.start_encoder, ledger),
            num_cpus=plan.embed.num_cpus,
            num_gpus=plan.embed.num_gpus or None,
            memory=plan.embed.memory_bytes,
            compute=encoder_pool(plan.embed, in_halves=True),
        )
    return dataset


def _num_decoders(plan: StagePlan, num_tasks: int) -> int | None:
    """Return how many tasks decode at a time; None: as many as there are cores at any time.

    Beside encoders on cores, of which Ray is told nothing, decoding takes what they leave.
    """
    is_beside = plan.embed is not None and not plan.on_gpu
    return min(plan.decode.workers, num_tasks) if is_beside else None


def encoder_pool(stage: WorkerStage, *, in_halves: bool = False) -> Any:
    """Return the actors of a stage: on GPUs as many as there are at any time, on cores a number.

    Args:
        stage: of the plan.
        in_halves: they let a call begin while another one ends, each in a thread of its own.
    """
    calls: dict[str, Any] = {"max_tasks_in_flight_per_actor": 2}
    if in_halves:
        calls = {
            "max_tasks_in_flight_per_actor": CALLS_PER_ENCODER,
            "max_concurrent_calls_per_actor": CALLS_PER_ENCODER - 1,
            "enable_true_multi_threading": True,
        }
    if not stage.num_gpus:
        return ray.data.ActorPoolStrategy(size=stage.workers, **calls)
    return ray.data.ActorPoolStrategy(
        min_size=1, max_size=_MANY_ENCODERS, initial_size=stage.workers, **calls
    )


def _decode(files: pa.Table, decode: Decode, ledger: RayCrashLedger) -> Iterator[pa.Table]:
    """Run the decode stage in a Ray task; encoders beside it on the machine come first."""
    os.setpriority(os.PRIO_PROCESS, 0, _LEAST_PRIORITY)
    yield from decode(files, Attempt(ledger, f"decode {_first_clip(files)}"))


class _EncoderActor:
    """Runs the embed stage in a Ray actor: while one call embeds, the last one's parts are written.

    Three calls are in threads of their own: one embeds, one stores, one waits for one of the two.
    """

    def __init__(self, start_encoder: Callable[[], Embed], ledger: RayCrashLedger) -> None:
        self._ledger = ledger
        self._embedding, self._storing = threading.Lock(), threading.Lock()
        ledger.add_this_encoder()
        self._embed: Embed | None = None
        self._failure: UserError | None = None
        try:
            self._embed = start_encoder()
        except UserError as error:  # raised here, Ray would keep no more of it than its text
            self._failure = error

    def __call__(self, clips: pa.Table) -> pa.Table:
        if self._embed is None:
            assert self._failure is not None
            raise self._failure
        with self._embedding:
            attempt = Attempt(self._ledger, f"embed {clips['clip'][0]}")
            if attempt.again:  # if this process dies now, it is of nothing else
                with self._storing:
                    return self._embed(clips, attempt)()
            store = self._embed(clips, attempt)
        with self._storing:
            return store()


def _first_clip(files: pa.Table) -> int:
    first: int = files["clip"][0].as_py()[0]
    return first


def user_error_inside(error: BaseException) -> UserError | None:
    """Find the user's error in what Ray made of it; None: it is ours."""
    found = _inside(error, UserError)
    return None if found is None else UserError(str(found).partition(_RAYS_ADVICE)[0])


def _inside(error: BaseException, kind: type[Exception]) -> Exception | None:
    """Find an error of a kind in what Ray made of it."""
    inner: BaseException | None = error
    while inner is not None:
        cause = getattr(inner, "cause", None)
        for found in (cause, inner):
            if isinstance(found, kind):
                return found
        inner = inner.__cause__
    return None
