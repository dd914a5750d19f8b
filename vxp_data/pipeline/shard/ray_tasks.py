"""The shards of a run as Ray tasks, a few at a time."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from vxp_data.errors import UserError
from vxp_data.pipeline.embed.ray_session import ray_session
from vxp_data.pipeline.embed.resources import SHARD_CPUS, SHARD_TASKS_PER_CPU
from vxp_data.pipeline.shard.clip_records import ShardSettings
from vxp_data.pipeline.shard.write_shard import WrittenShard, find_shard, write_shard
from vxp_data.settings.prune import ClusterConfig
from vxp_data.storage.folder import Folder

_RETRIES: Final = 3
"""Of a shard whose worker died. What decodes is a child of the worker and dies without it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardJob:
    """One shard to be written, or found written already."""

    name: str
    rows: pa.Table
    """As `shard_costs.weigh` gives them."""
    is_there: bool
    """A file of that name is there."""


def run_jobs(
    jobs: Sequence[ShardJob], out: Folder, settings: ShardSettings, cluster: ClusterConfig
) -> Generator[tuple[int, WrittenShard]]:
    """Write all shards; return the index of each and what it became, as they come.

    Closed early, or when one fails, it cancels those that run.

    Raises:
        UserError: no cluster, the folder cannot be written to, or a worker died again and again.
    """
    with ray_session(cluster):
        import ray

        num_cpus: float = ray.cluster_resources().get("CPU", 1)  # type: ignore[no-untyped-call]
        task = ray.remote(num_cpus=SHARD_CPUS, max_retries=_RETRIES)(_write_or_find_shard)
        most = max(1, int(num_cpus / SHARD_CPUS * SHARD_TASKS_PER_CPU))
        waiting = list(enumerate(jobs))[::-1]
        running: dict[Any, int] = {}
        try:
            while waiting or running:
                while waiting and len(running) < most:
                    index, job = waiting.pop()
                    running[task.remote(job, out, settings)] = index
                (ready,), _ = ray.wait(list(running), num_returns=1)
                index = running.pop(ready)
                yield index, _result(ready, jobs[index].name)
        finally:
            for reference in running:
                ray.cancel(reference)


def _result(reference: Any, name: str) -> WrittenShard:
    import ray

    try:
        written: WrittenShard = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise UserError(*error.cause.args) from None
        raise
    except ray.exceptions.RayError as error:
        what = str(error).strip().partition("\n")[0]
        raise UserError(
            f"{name}: the worker that wrote it died {_RETRIES + 1} times ({what}). Most often it "
            "was killed for memory: give it more, or fewer workers (--set cluster.num_cpus=N). "
            "Whole shards are kept: the same command goes on from there."
        ) from error
    return written


def _write_or_find_shard(job: ShardJob, out: Folder, settings: ShardSettings) -> WrittenShard:
    """Write a shard, or take the one that is there and whole. Runs in a Ray worker."""
    found = find_shard(job.name, job.rows, out, settings) if job.is_there else None
    return found or write_shard(job.name, job.rows, out, settings)
