"""The Ray Data job: files in, embeddings parts out. Thin: no arithmetic here.

CPU decode tasks -> encoder actors -> Parquet parts. Encoders that are cheap run in the decode task
itself. The driver hears a few numbers a clip, no frames, no embeddings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from vxp_data.config import PruneConfig
from vxp_data.errors import UserError
from vxp_data.pipeline.clips import MediaItem
from vxp_data.pipeline.ray_session import ray_session
from vxp_data.pipeline.resources import MAX_BLOCK_BYTES, StagePlan, plan_stages
from vxp_data.pipeline.stages import (
    EmbedActor,
    JobSettings,
    decode_and_embed_files,
    decode_files,
    item_table,
)

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

    def add(self, report: pa.Table) -> None:
        """Count the clips of one report (REPORT_SCHEMA)."""
        self.clips += report.num_rows
        self.bytes_fetched += sum(report["bytes_fetched"].to_pylist())
        self.failed += sum(1 for reason in report["reason"].to_pylist() if reason)
        for stage in ("probe", "decode", "embed"):
            name = f"{stage}_cpu_s"
            setattr(self, name, getattr(self, name) + sum(report[name].to_pylist()))


def embed_media(
    items: list[MediaItem],
    config: PruneConfig,
    settings: JobSettings,
    on_progress: Callable[[EmbedTotals], None],
) -> EmbedTotals:
    """Decode and embed files, on this machine or on a cluster; parts are written as they come.

    Args:
        items: 1 or more files.
        config: for the cluster and the encoder's device.
        settings: what the workers must know.
        on_progress: told the totals so far, on the driver, every few clips.

    Raises:
        UserError: there is no cluster, no GPU that was asked for, or a worker met an error that
            the user can fix.
    """
    totals = EmbedTotals()
    with ray_session(config.cluster):
        import ray

        try:
            for report in _reports(items, config, settings):
                totals.add(report)
                on_progress(totals)
        except ray.exceptions.RayError as error:
            raise _user_error_inside(error) or error from None
    return totals


def _reports(
    items: list[MediaItem], config: PruneConfig, settings: JobSettings
) -> Iterator[pa.Table]:
    import ray

    ray.data.DataContext.get_current().target_max_block_size = MAX_BLOCK_BYTES
    stages = _stages(len(items), config, settings)
    rows = stages.decode.rows
    blocks = [item_table(items[i : i + rows]) for i in range(0, len(items), rows)]
    dataset: ray.data.Dataset = ray.data.from_arrow(blocks)
    decode: Any = decode_files if stages.embed else decode_and_embed_files
    dataset = dataset.map_batches(
        decode,
        batch_size=None,
        batch_format="pyarrow",
        fn_kwargs={"settings": settings},
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
            fn_constructor_args=(settings,),
            num_cpus=stages.embed.num_cpus,
            num_gpus=stages.embed.num_gpus or None,
            memory=stages.embed.memory_bytes,
            compute=ray.data.ActorPoolStrategy(
                size=stages.embed.workers, max_tasks_in_flight_per_actor=2
            ),
        )
    yield from dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)


def _stages(num_files: int, config: PruneConfig, settings: JobSettings) -> StagePlan:
    import ray

    there: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    num_gpus = there.get("GPU", 0)
    device = config.encoder.device
    if device == "cuda" and not num_gpus:
        raise UserError(
            "encoder.device is 'cuda', and Ray sees no GPU. Use --set encoder.device=cpu, or a "
            "machine or cluster with GPUs."
        )
    return plan_stages(
        num_files=num_files,
        num_cpus=there.get("CPU", 1),
        num_gpus=num_gpus,
        in_decode_task=settings.spec.in_decode_task,
        on_gpu=bool(num_gpus) and device != "cpu",
    )


def _user_error_inside(error: BaseException) -> UserError | None:
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
