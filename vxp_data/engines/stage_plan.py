"""What each stage takes of a machine: the only place for such numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

Device = Literal["cpu", "cuda"]
AskedDevice = Literal["auto", "cpu", "cuda"]
"""'auto' takes GPUs where there are any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderNeeds:
    """Where an encoder can run."""

    in_decode_task: bool
    """It is cheap enough to run where frames are decoded."""
    device: Device
    """The same for every encoder of a job: their vectors must be comparable."""
    clip_bytes: int
    """What a clip with its frames takes on its way to the encoder, at most."""
    decodes_on_gpu: bool = False
    """Decoding workers want a GPU beside a core each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStage:
    """One stage of a job."""

    num_cpus: float
    num_gpus: float
    memory_bytes: int
    """What Ray counts for a worker; no limit."""
    workers: int
    """Workers at most at a time."""
    rows: int
    """Rows that a worker takes at once, at most: files for decoding, clips for embedding."""
    cheap_rows: int = 0
    """The same of cheap files; see core.task_packing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What a machine offers."""

    num_cpus: float
    num_gpus: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StagePlan:
    """The stages of an embedding job; `embed` is None where decoding embeds too."""

    decode: WorkerStage
    embed: WorkerStage | None

    @property
    def on_gpu(self) -> bool:
        """Whether the encoders take GPUs."""
        return self.embed is not None and self.embed.num_gpus > 0

    def waiting_bytes(self, needs: EncoderNeeds) -> int:
        """Return what clips on their way to the encoders take: for each, a few calls' worth."""
        if self.embed is None:
            return 0
        return self.embed.workers * CALLS_PER_ENCODER * self.embed.rows * needs.clip_bytes


CALLS_PER_ENCODER: Final = 4
"""Calls that an encoder has at a time: one is embedded, of the last one the parts are written,
another may wait for that, and the next one's clips are brought."""

TASKS_PER_WORKER: Final = 4
"""Into how many tasks the work of one decoding worker is cut, at least; see core.task_packing."""

MAX_WORKER_DEATHS: Final = 3
"""Worker processes that may die of one clip before it is quarantined."""

MAX_START_DEATHS: Final = 3
"""Workers that may die in a row while they start, as encoders that load weights, before the run
ends."""

MAX_TASK_DEATHS: Final = 4
"""Worker processes that may die of one task of which they are not told the parts: a shard."""

_DECODE_MEMORY_BYTES: Final = 512 << 20
_EMBED_MEMORY_BYTES: Final = 2 << 30
"""Different from decoding's, also so that Ray does not run both in one actor."""

_FILES_PER_TASK: Final = 16
_CHEAP_FILES_PER_TASK: Final = 64
_CLIPS_PER_EMBED: Final = 16
_SMALL_CLIPS_PER_EMBED: Final = 64
_EMBED_BYTES: Final = 128 << 20
"""Up to so many bytes a GPU is given more clips at once, _SMALL_CLIPS_PER_EMBED at most."""
_EMBED_CPUS: Final = 1.0
"""Cores left free for an encoder, which runs on one thread: results must not depend on their
number. Ray is told of none: should machines be lost, encoders must not hold the last cores."""

_DECODING_GPU: Final = 0.25
"""Part of a GPU that its decoding workers have together: one child of theirs, with its context and
frames. The rest is the encoder's, which runs on the card's other units than NVDEC does."""
_GPU_UNIT: Final = 10_000
"""Ray counts GPUs in ten thousandths."""


def plan_stages(machines: Sequence[Machine], needs: EncoderNeeds) -> StagePlan:
    """Share out a cluster, or one machine.

    Every GPU gets one encoder, for the length of the job, and its machine keeps a core free for it;
    all other cores decode.

    Args:
        machines: of the cluster.
        needs: of the encoder; at least one is planned on a GPU if that is its device.
    """
    embed = None
    num_cpus = sum(machine.num_cpus for machine in machines)
    num_gpus = sum(machine.num_gpus for machine in machines)
    on_gpu = needs.device == "cuda"
    if not needs.in_decode_task:
        if on_gpu:
            encoders = max(1, int(num_gpus))
            beside = sum(min(m.num_cpus, m.num_gpus * _EMBED_CPUS) for m in machines)
        else:
            encoders = max(1, int(num_cpus) // 2)
            beside = encoders * _EMBED_CPUS
        embed = WorkerStage(
            num_cpus=0,
            num_gpus=1 if on_gpu else 0,
            memory_bytes=_EMBED_MEMORY_BYTES,
            workers=encoders,
            rows=_clips_per_embed(needs) if on_gpu else _CLIPS_PER_EMBED,
        )
        num_cpus -= beside
    decode = WorkerStage(
        num_cpus=1,
        num_gpus=0,
        memory_bytes=_DECODE_MEMORY_BYTES,
        workers=max(1, int(num_cpus)),
        rows=_FILES_PER_TASK,
        cheap_rows=_CHEAP_FILES_PER_TASK,
    )
    plan = StagePlan(decode=decode, embed=embed)
    return _sharing_gpus(plan, machines) if needs.decodes_on_gpu else plan


def _clips_per_embed(needs: EncoderNeeds) -> int:
    """Return how many clips a GPU takes at once: of small ones more, they are soon embedded."""
    return max(_CLIPS_PER_EMBED, min(_SMALL_CLIPS_PER_EMBED, _EMBED_BYTES // needs.clip_bytes))


def _sharing_gpus(plan: StagePlan, machines: Sequence[Machine]) -> StagePlan:
    """Give each decoding worker its share of a GPU of its machine; other machines have none."""
    with_gpus = [machine for machine in machines if machine.num_gpus]
    workers_a_gpu = max((m.num_cpus / m.num_gpus for m in with_gpus), default=1.0)
    share = int(_DECODING_GPU / workers_a_gpu * _GPU_UNIT) / _GPU_UNIT
    num_cpus = int(sum(machine.num_cpus for machine in with_gpus))
    workers = min(plan.decode.workers, max(1, num_cpus))
    embed = plan.embed
    if embed is not None and embed.num_gpus:
        embed = replace(embed, num_gpus=embed.num_gpus - _DECODING_GPU)
    return StagePlan(decode=replace(plan.decode, num_gpus=share, workers=workers), embed=embed)
