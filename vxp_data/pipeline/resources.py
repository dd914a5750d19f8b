"""What each stage takes of a machine: the only place for such numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage of the job, as Ray is told about it."""

    num_cpus: float
    num_gpus: float
    memory_bytes: int
    """What Ray counts for a worker; no limit."""
    workers: int
    """Tasks or actors at most at a time."""
    rows: int
    """Rows that a worker takes at once: files for decoding, clips for embedding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StagePlan:
    """The stages of a prune job on one cluster; `embed` is None where decoding embeds too."""

    decode: Stage
    embed: Stage | None


MAX_BLOCK_BYTES: Final = 64 << 20
"""Frames that travel together from decoding to embedding: about 7 videos at 384 px."""

SHARD_CPUS: Final = 1.0
"""Of a task that writes one shard."""

SHARD_TASKS_PER_CPU: Final = 2
"""Tasks handed to Ray at a time: one runs, one waits."""

_DECODE_MEMORY_BYTES: Final = 512 << 20
_EMBED_MEMORY_BYTES: Final = 2 << 30
"""Different from decoding's, also so that Ray does not run both in one actor."""

_FILES_PER_TASK: Final = 16
_TASKS_PER_WORKER: Final = 4
_CLIPS_PER_EMBED: Final = 16
_EMBED_CPUS: Final = 1.0
"""CPU encoders run on one thread: results must not depend on the number of cores."""


def plan_stages(
    *, num_files: int, num_cpus: float, num_gpus: float, in_decode_task: bool, on_gpu: bool
) -> StagePlan:
    """Share out a cluster.

    Args:
        num_files: files to read, 1 or more.
        num_cpus: cores of the cluster.
        num_gpus: its GPUs.
        in_decode_task: whether the encoder is cheap enough to run where frames are decoded.
        on_gpu: whether the encoder wants a GPU.
    """
    if in_decode_task:
        embed, decode_cpus = None, num_cpus
    elif on_gpu:
        gpus = max(1, int(num_gpus))
        embed = Stage(
            num_cpus=_EMBED_CPUS,
            num_gpus=1,
            memory_bytes=_EMBED_MEMORY_BYTES,
            workers=gpus,
            rows=_CLIPS_PER_EMBED,
        )
        decode_cpus = num_cpus - gpus * _EMBED_CPUS
    else:
        actors = max(1, int(num_cpus) // 2)
        embed = Stage(
            num_cpus=_EMBED_CPUS,
            num_gpus=0,
            memory_bytes=_EMBED_MEMORY_BYTES,
            workers=actors,
            rows=_CLIPS_PER_EMBED,
        )
        decode_cpus = num_cpus - actors * _EMBED_CPUS
    workers = max(1, int(decode_cpus))
    share = -(-num_files // (workers * _TASKS_PER_WORKER))
    decode = Stage(
        num_cpus=1,
        num_gpus=0,
        memory_bytes=_DECODE_MEMORY_BYTES,
        workers=workers,
        rows=max(1, min(_FILES_PER_TASK, share)),
    )
    return StagePlan(decode=decode, embed=embed)
