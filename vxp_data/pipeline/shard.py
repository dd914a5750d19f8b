"""`vxp-data shard`: from a pruned run to WebDataset shards. The order of the steps.

Kept rows -> clips -> planned shards -> one Ray task a shard -> samples.parquet, quarantine.parquet,
and index.json last. Shards that an earlier, stopped run has written are kept.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vxp_data.config import ClusterConfig, PruneConfig
from vxp_data.core.sampling_plans import SamplingRule
from vxp_data.core.shard_planning import ClipCosts, PlannedShard, decode_cost, plan_shards
from vxp_data.errors import UserError
from vxp_data.pipeline.kept import kept_rows
from vxp_data.pipeline.ray_session import ray_session
from vxp_data.pipeline.resources import SHARD_CPUS, SHARD_TASKS_PER_CPU
from vxp_data.pipeline.rundir import RunDirectory
from vxp_data.pipeline.shard_clips import ShardSettings
from vxp_data.pipeline.shard_task import (
    SAMPLE_SCHEMA,
    WrittenShard,
    write_shard,
    written_shard,
)
from vxp_data.records import Modality
from vxp_data.shard_format import (
    INDEX_NAME,
    QUARANTINE_NAME,
    SAMPLES_NAME,
    SHARD_FORMAT_VERSION,
    Payload,
    ProvenanceRecord,
    ShardIndex,
    TableEntry,
    clip_key,
)
from vxp_data.storage.folder import Folder

SHARD_NAME: Final = re.compile(r"(video|image|text)-\d{5}-[0-9a-f]{12}\.tar")
_BYTES_PER_PIXEL: Final = 0.35
"""Of a JPEG of quality 90; only to guess the size of a frames payload before it is made."""
_ROW_BYTES: Final = 4096
"""Of a row's JSON; only to guess."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardResult:
    """What was written."""

    index: ShardIndex
    num_kept_rows: int
    num_found: int
    """Shards that were there already."""
    wall_s: float


class ShardObserver:
    """Hears of the progress; every method may be overridden."""

    def started(self, num_clips: int) -> None:
        """Hear how many clips there are."""

    def progressed(self, shard: WrittenShard) -> None:
        """Hear of one more shard."""

    def ended(self) -> None:
        """Hear that no more progress comes."""


def shard_run(
    run: RunDirectory,
    record: dict[str, Any],
    config: PruneConfig,
    out: Folder,
    observer: ShardObserver,
) -> ShardResult:
    """Write the kept rows of a finished run as shards.

    Args:
        run: a finished run.
        record: its run.json.
        config: the run's settings, with the command's own over them.
        out: where the shards go; may hold what a stopped run of the same command left.
        observer: told the progress.

    Raises:
        UserError: nothing was kept, or `out` holds other shards or cannot be written to.
    """
    started_s = time.monotonic()
    rows = kept_rows(run)
    if not rows.num_rows:
        raise UserError(
            f"{run.root}: no row was kept, so there is nothing to shard. Decide again with a "
            f"higher share: vxp-data decide {run.root} --keep 0.5"
        )
    settings = _settings(run, record, config)
    rows = rows.append_column("key", pa.array(_keys(rows), pa.string()))
    costs = _costs(rows, settings)
    shards = plan_shards(
        costs,
        shard_bytes=config.shard.shard_bytes,
        max_clips=config.shard.max_samples,
        divisor=config.shard.world_size * config.shard.workers,
        salt=_salt(run, settings),
    )
    found = set(out.names())
    _refuse_other_shards(out, found, shards)
    out.remove(INDEX_NAME)
    observer.started(len(costs.key))
    try:
        written = list(_write_all(shards, costs, rows, out, found, settings, config, observer))
    finally:
        observer.ended()
    index = _commit(written, out, settings)
    num_out = index.samples.num_rows + index.quarantine.num_rows
    if num_out != rows.num_rows:
        raise AssertionError(f"{rows.num_rows} kept rows went in, {num_out} came out")
    return ShardResult(
        index=index,
        num_kept_rows=rows.num_rows,
        num_found=len(found & {shard.name for shard in shards}),
        wall_s=time.monotonic() - started_s,
    )


def _settings(run: RunDirectory, record: dict[str, Any], config: PruneConfig) -> ShardSettings:
    shard = config.shard
    return ShardSettings(
        payload=Payload(shard.payload),
        frame_px=shard.frame_px,
        picture_format=shard.picture_format,
        quality=shard.quality,
        rule=config.sampling,
        num_epochs=shard.num_epochs,
        decode=config.decode,
        provenance=ProvenanceRecord(
            run=hashlib.sha256(run.decisions.read_bytes()).hexdigest(),
            encoder=record["encoder"]["fingerprint"],
            sampler=record["sampler"],
            vxp_version=version("vxp"),
        ),
    )


def _salt(run: RunDirectory, settings: ShardSettings) -> str:
    """Digest all that a shard's bytes depend on, but for the files themselves."""
    facts = asdict(settings) | {"payload": settings.payload.value, "decode": None}
    facts["decoder"] = settings.decode.decoder
    facts["annotations"] = hashlib.sha256(run.samples.read_bytes()).hexdigest()
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _keys(rows: pa.Table) -> list[str]:
    columns = ("modality", "media_id", "clip_start_s", "clip_end_s", "sample_id")
    return [
        clip_key(
            kind, media_id=media_id or "", clip_start_s=start_s, clip_end_s=end_s, sample_id=sample
        )
        for kind, media_id, start_s, end_s, sample in zip(
            *(rows[name].to_pylist() for name in columns), strict=True
        )
    ]


def _costs(rows: pa.Table, settings: ShardSettings) -> ClipCosts:
    """Weigh every clip, by the first of its rows; rows beyond it add their JSON's bytes."""
    names = ("key", "modality", "num_bytes", "width_px", "height_px", "num_frames", "duration_s")
    weights: dict[str, tuple[str, int, float]] = {}
    for key, kind, num_bytes, width_px, height_px, num_frames, duration_s in zip(
        *(rows[name].to_pylist() for name in names), strict=True
    ):
        if key in weights:
            own_kind, so_far, cost = weights[key]
            weights[key] = own_kind, so_far + _ROW_BYTES, cost
            continue
        payload_bytes, cost = 0, 0.0
        if kind != Modality.TEXT:
            planned = _planned_frames(settings.rule, num_frames, duration_s)
            if settings.payload is Payload.FRAMES:
                width_px = height_px = settings.frame_px
                num_frames = planned
                payload_bytes = int(planned * settings.frame_px**2 * _BYTES_PER_PIXEL)
            elif settings.payload is Payload.VIDEO:
                payload_bytes = num_bytes
            cost = decode_cost(width_px=width_px, height_px=height_px, num_frames=num_frames)
        weights[key] = kind, payload_bytes + _ROW_BYTES, cost
    return ClipCosts(
        key=list(weights),
        kind=[kind for kind, _, _ in weights.values()],
        num_bytes=np.array([num_bytes for _, num_bytes, _ in weights.values()], dtype=np.int64),
        decode_cost=np.array([cost for _, _, cost in weights.values()], dtype=np.float64),
    )


def _planned_frames(rule: SamplingRule, num_frames: int, duration_s: float) -> int:
    """Guess how many frames a plan has, for the balance alone."""
    return max(1, min(rule.max_frames, num_frames, round(duration_s * rule.max_fps)))


def _refuse_other_shards(out: Folder, found: set[str], shards: Sequence[PlannedShard]) -> None:
    others = sorted(name for name in found if SHARD_NAME.fullmatch(name))
    others = [name for name in others if name not in {shard.name for shard in shards}]
    if others:
        raise UserError(
            f"{out} holds shards of another run or other settings ({others[0]}, {len(others)} in "
            "all); mixed with these they would be read twice. Choose an empty --out, or remove "
            "them."
        )


def _write_all(
    shards: Sequence[PlannedShard],
    costs: ClipCosts,
    rows: pa.Table,
    out: Folder,
    found: set[str],
    settings: ShardSettings,
    config: PruneConfig,
    observer: ShardObserver,
) -> Iterator[WrittenShard]:
    """Write every shard, in the order of the plan, each as it is done told to the observer."""
    place_of = {costs.key[i]: s for s, shard in enumerate(shards) for i in shard.members}
    shard_N = np.array([place_of[key] for key in rows["key"].to_pylist()])
    order_N = np.argsort(shard_N, kind="stable")
    rows = rows.take(order_N)
    ends = np.searchsorted(shard_N[order_N], np.arange(len(shards)), side="right").tolist()
    jobs = [
        (
            shard.name,
            rows.slice(start, end - start),
            float(costs.decode_cost[shard.members].sum()),
            out,
            settings,
            shard.name in found,
        )
        for shard, start, end in zip(shards, [0, *ends[:-1]], ends, strict=True)
    ]
    done: dict[int, WrittenShard] = {}
    for place, shard in _in_tasks(jobs, config.cluster):
        done[place] = shard
        observer.progressed(shard)
    yield from (done[place] for place in range(len(shards)))


def _in_tasks(
    jobs: Sequence[tuple[Any, ...]], cluster: ClusterConfig
) -> Iterator[tuple[int, WrittenShard]]:
    """Run every job as a Ray task, a few at a time; give results as they come."""
    with ray_session(cluster):
        import ray

        num_cpus: float = ray.cluster_resources().get("CPU", 1)  # type: ignore[no-untyped-call]
        task = ray.remote(num_cpus=SHARD_CPUS, max_retries=3)(_shard_task)
        most = max(1, int(num_cpus / SHARD_CPUS * SHARD_TASKS_PER_CPU))
        waiting = list(enumerate(jobs))[::-1]
        running: dict[Any, int] = {}
        while waiting or running:
            while waiting and len(running) < most:
                place, job = waiting.pop()
                running[task.remote(*job)] = place
            ready, _ = ray.wait(list(running), num_returns=1)
            for reference in ready:
                try:
                    yield running.pop(reference), ray.get(reference)
                except ray.exceptions.RayTaskError as error:
                    if isinstance(error.cause, UserError):
                        raise UserError(*error.cause.args) from None
                    raise


def _shard_task(
    name: str,
    rows: pa.Table,
    decode_cost: float,
    out: Folder,
    settings: ShardSettings,
    is_there: bool,
) -> WrittenShard:
    """Write a shard, or take the one that is there and whole. Runs in a Ray worker."""
    if is_there:
        keys = frozenset(rows["key"].to_pylist())
        if (shard := written_shard(name, keys, decode_cost, out)) is not None:
            return shard
    return write_shard(name, rows, decode_cost, out, settings)


def _commit(written: Sequence[WrittenShard], out: Folder, settings: ShardSettings) -> ShardIndex:
    """Write the tables and the index; shards that lost all their clips are not named, and go."""
    shards = [shard for shard in written if shard.entry.num_clips]
    for shard in written:
        if not shard.entry.num_clips:
            out.remove(shard.entry.name)
    samples = [SAMPLE_SCHEMA.empty_table()]
    samples += [
        shard.samples.set_column(0, "shard", pa.array([place] * len(shard.samples), pa.int32()))
        for place, shard in enumerate(shards)
    ]
    quarantined = pa.concat_tables([shard.quarantined for shard in written])
    index = ShardIndex(
        format_version=SHARD_FORMAT_VERSION,
        payload=settings.payload.value,
        num_epochs=settings.num_epochs,
        sampling=settings.sampling,
        provenance=settings.provenance,
        samples=_write_table(out, SAMPLES_NAME, pa.concat_tables(samples)),
        quarantine=_write_table(out, QUARANTINE_NAME, quarantined),
        quarantined_by_reason=dict(sorted(Counter(quarantined["reason"].to_pylist()).items())),
        shards=[shard.entry for shard in shards],
    )
    out.write_bytes(INDEX_NAME, index.to_json())
    return index


def _write_table(out: Folder, name: str, table: pa.Table) -> TableEntry:
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer, compression="zstd")
    data = buffer.getvalue().to_pybytes()
    out.write_bytes(name, data)
    return TableEntry(name=name, num_rows=table.num_rows, sha256=hashlib.sha256(data).hexdigest())
