"""What each stage takes of a machine: the only place for such numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStage:
    """One stage of the job, as Ray is told about it."""

    num_cpus: float
    num_gpus: float
    memory_bytes: int
    """What Ray counts for a worker; no limit."""
    workers: int
    """Tasks or actors at most at a time."""
    rows: int
    """Rows that a worker takes at once, at most: files for decoding, clips for embedding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What a machine offers to Ray."""

    num_cpus: float
    num_gpus: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StagePlan:
    """The stages of a prune job on one cluster; `embed` is None where decoding embeds too."""

    decode: WorkerStage
    embed: WorkerStage | None


MAX_BLOCK_BYTES: Final = 64 << 20
"""Frames that travel together from decoding to embedding: about 7 videos at 384 px."""

TASKS_PER_WORKER: Final = 4
"""Into how many tasks the work of one decoding worker is cut, at least; see core.task_packing."""

FILES_PER_JOB: Final = 500_000
"""Files that Ray Data is given at a time: what it keeps of each on the driver is bounded so."""

MAX_WORKER_DEATHS: Final = 3
"""Worker processes that may die of one clip before it is quarantined."""

MAX_ROUNDS_IN_VAIN: Final = 3
"""How often in a row files are handed out and not one result comes back before the run ends."""

MAX_ENCODER_START_DEATHS: Final = 3
"""Encoder actors that may die in a row while they load weights before the run ends."""

NO_PROGRESS_S: Final = 24 * 3600
"""How long a job may go without a single result. Ray Data's own half hour would end a run whose
last video takes longer; what one decode may take is limited by `decode.timeout_s`."""

SHARD_CPUS: Final = 1.0
"""Of a task that writes one shard."""

SHARD_TASKS_PER_CPU: Final = 2
"""Tasks handed to Ray at a time: one runs, one waits."""

_DECODE_MEMORY_BYTES: Final = 512 << 20
_EMBED_MEMORY_BYTES: Final = 2 << 30
"""Different from decoding's, also so that Ray does not run both in one actor."""

_FILES_PER_TASK: Final = 16
_CLIPS_PER_EMBED: Final = 16
_EMBED_CPUS: Final = 1.0
"""Cores left free for an encoder, which runs on one thread: results must not depend on their
number. Ray is told of none: should machines be lost, encoders must not hold the last cores."""


def plan_stages(machines: Sequence[Machine], *, in_decode_task: bool, on_gpu: bool) -> StagePlan:
    """Share out a cluster.

    Every GPU gets one encoder actor, for the length of the job, and its machine keeps a core free
    for it; all other cores decode.

    Args:
        machines: of the cluster.
        in_decode_task: whether the encoder is cheap enough to run where frames are decoded.
        on_gpu: whether the encoder wants a GPU.
    """
    embed = None
    num_cpus = sum(machine.num_cpus for machine in machines)
    if not in_decode_task:
        if on_gpu:
            encoders = int(sum(machine.num_gpus for machine in machines))
            beside = sum(min(m.num_cpus, m.num_gpus * _EMBED_CPUS) for m in machines)
        else:
            encoders = max(1, int(num_cpus) // 2)
            beside = encoders * _EMBED_CPUS
        embed = WorkerStage(
            num_cpus=0,
            num_gpus=1 if on_gpu else 0,
            memory_bytes=_EMBED_MEMORY_BYTES,
            workers=encoders,
            rows=_CLIPS_PER_EMBED,
        )
        num_cpus -= beside
    decode = WorkerStage(
        num_cpus=1,
        num_gpus=0,
        memory_bytes=_DECODE_MEMORY_BYTES,
        workers=max(1, int(num_cpus)),
        rows=_FILES_PER_TASK,
    )
    return StagePlan(decode=decode, embed=embed)
