"""Files to reports as a Ray Data job. Thin: no arithmetic here.

CPU decode tasks -> encoder actors -> reports. Encoders that are cheap run in the decode task
itself. Every clip has a number, and the driver notes which have come back. Ray runs again what a
lost worker or machine took with it; should a clip not come back for all that, it is handed out
again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, Final

import numpy as np
import pyarrow as pa
import ray

from vxp_data.core.task_packing import pack_files
from vxp_data.engines.base import Decode, Embed, EmbedStages
from vxp_data.engines.crash_ledger import Attempt
from vxp_data.engines.files import num_clips, without_clips
from vxp_data.engines.ray.ledger import RayCrashLedger
from vxp_data.engines.ray.lost_nodes import NodeWatch
from vxp_data.engines.stage_plan import MAX_START_DEATHS, TASKS_PER_WORKER, StagePlan
from vxp_data.errors import UserError

_MAX_BLOCK_BYTES: Final = 64 << 20
"""Frames that travel together from decoding to embedding: about 7 videos at 384 px."""

_MAX_ROUNDS_IN_VAIN: Final = 3
"""How often in a row files are handed out and not one result comes back before the run ends."""

_NO_PROGRESS_S: Final = 24 * 3600
"""How long a job may go without a single result. Ray Data's own half hour would end a run whose
last video takes longer; what one decode may take is limited by `decode.timeout_s`."""

_RAYS_ADVICE: Final = "\nFailed to apply UDF transform"
"""What Ray Data appends to the message of any error in a stage: how to set its own retries."""


def embed_files(
    files: pa.Table,
    stages: EmbedStages,
    plan: Callable[[], StagePlan],
    node_wait_s: float,
) -> Iterator[pa.Table]:
    """Dispatch files until every clip of them has come back; see `Engine.embed_files`.

    Args:
        files: FILE_SCHEMA.
        stages: what is run over them.
        plan: shares out what is there; asked anew when a machine was lost.
        node_wait_s: how long a machine may take to be replaced.
    """
    ledger = RayCrashLedger()
    rounds_in_vain = 0
    is_back_C = np.zeros(num_clips(files), dtype=np.bool_)
    while len(files):
        num_back = is_back_C.sum()
        failure: Exception | None = None
        try:
            for report in _reports(files, stages, plan(), ledger, node_wait_s):
                clip_R = report["clip"].to_numpy()
                new = report.filter(pa.array(~is_back_C[clip_R]))
                is_back_C[clip_R] = True
                yield new
        except ray.exceptions.RayError as error:
            if user_error := user_error_inside(error):
                raise user_error from None
            if isinstance(error, ray.exceptions.RayTaskError):
                raise  # an error of a stage's own: it would come again
            failure = error  # what ran is gone, with a machine, say: planned anew
        rounds_in_vain = 0 if is_back_C.sum() > num_back else rounds_in_vain + 1
        if rounds_in_vain == _MAX_ROUNDS_IN_VAIN:
            raise failure or RuntimeError(
                f"{len(is_back_C)} clips do not come back however often they are handed out, the "
                f"first of {files['uri'][0]}; this is a bug in a stage"
            )
        files = without_clips(files, is_back_C)


def _reports(
    files: pa.Table,
    stages: EmbedStages,
    plan: StagePlan,
    ledger: RayCrashLedger,
    node_wait_s: float,
) -> Iterator[pa.Table]:
    context = ray.data.DataContext.get_current()
    context.target_max_block_size = _MAX_BLOCK_BYTES
    context.raise_original_map_exception = True  # a worker's UserError, not a wrapping of it
    context.max_consecutive_actor_init_deaths = MAX_START_DEATHS
    context.execution_no_progress_timeout_s = _NO_PROGRESS_S
    with NodeWatch(ledger, node_wait_s):
        dataset = _dataset(files, stages, plan, ledger)
        yield from dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)


def _dataset(files: pa.Table, stages: EmbedStages, plan: StagePlan, ledger: RayCrashLedger) -> Any:
    starts = pack_files(
        files["num_bytes"].to_numpy(),
        workers=plan.decode.workers,
        files_per_task=plan.decode.rows,
        tasks_per_worker=TASKS_PER_WORKER,
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
        compute=ray.data.TaskPoolStrategy(size=min(plan.decode.workers, len(blocks))),
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
            compute=ray.data.ActorPoolStrategy(
                size=plan.embed.workers, max_tasks_in_flight_per_actor=2
            ),
        )
    return dataset


def _decode(files: pa.Table, decode: Decode, ledger: RayCrashLedger) -> Iterator[pa.Table]:
    """Run the decode stage in a Ray task."""
    yield from decode(files, Attempt(ledger, f"decode {_first_clip(files)}"))


class _EncoderActor:
    """Runs the embed stage in a Ray actor."""

    def __init__(self, start_encoder: Callable[[], Embed], ledger: RayCrashLedger) -> None:
        self._ledger = ledger
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
        return self._embed(clips, Attempt(self._ledger, f"embed {clips['clip'][0]}"))


def _first_clip(files: pa.Table) -> int:
    first: int = files["clip"][0].as_py()[0]
    return first


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
