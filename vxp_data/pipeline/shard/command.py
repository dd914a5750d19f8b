"""`vxp-data shard`: from a pruned run to WebDataset shards. The order of the steps.

Kept rows -> clips -> planned shards -> one task a shard -> samples.parquet, quarantine.parquet,
and index.json last. Shards that an earlier, stopped run has written are kept.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vxp_data.core.shard_planning import PlannedShard, plan_shards
from vxp_data.engines.base import Engine, WorkerDiedError
from vxp_data.engines.choose import open_engine
from vxp_data.errors import UserError
from vxp_data.pipeline.run_dir.directory import RunDirectory
from vxp_data.pipeline.run_dir.lock import run_lock
from vxp_data.pipeline.shard.clip_records import ShardSettings
from vxp_data.pipeline.shard.costs import Weighed, weigh
from vxp_data.pipeline.shard.kept_rows import kept_rows
from vxp_data.pipeline.shard.write_shard import (
    SAMPLE_SCHEMA,
    ShardJob,
    WrittenShard,
    write_or_find_shard,
)
from vxp_data.settings.prune import PruneConfig
from vxp_data.shard_format import (
    INDEX_NAME,
    QUARANTINE_NAME,
    SAMPLES_NAME,
    SHARD_FORMAT_VERSION,
    Payload,
    ProvenanceRecord,
)
from vxp_data.shard_index import ShardIndex, TableEntry
from vxp_data.storage.digest import stream_sha256
from vxp_data.storage.folder import File, Folder

TAR_SUFFIX: Final = ".tar"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardResult:
    """What was written."""

    index: ShardIndex
    num_kept_rows: int
    num_found: int
    """Shards that were there already, whole."""
    num_inexact: int
    """Images in frames payloads that stand in for frames that could not be decoded."""
    repeated_bytes: int
    """See `costs.Weighed`."""
    divisor: int
    """What the number of shards of each kind should divide by."""
    wall_s: float


class ShardObserver:
    """Hears of the progress; every method may be overridden."""

    def started(self, num_clips: int) -> None:
        """Called with how many clips there are."""

    def progressed(self, shard: WrittenShard) -> None:
        """Called when one more shard is written."""

    def ended(self) -> None:
        """Called when no more progress comes."""


def shard_run(
    run: RunDirectory,
    record: dict[str, Any],
    config: PruneConfig,
    out: Folder,
    observer: ShardObserver,
    *,
    replace: bool = False,
) -> ShardResult:
    """Write the kept rows of a finished run as shards.

    Args:
        run: a finished run.
        record: its run.json.
        config: the run's settings, with the command's own over them.
        out: where the shards go; may hold what a stopped run of the same command left.
        observer: told the progress.
        replace: tars in `out` that are not of these shards are of an earlier run, and go.

    Raises:
        UserError: nothing was kept or no file of it can be used, or `out` holds something else, is
            in use, or cannot be written to.
    """
    started_s = time.monotonic()
    rows = kept_rows(run)
    if not rows.num_rows:
        raise UserError(
            f"{run.root}: no row was kept, so there is nothing to shard. Decide again with a "
            f"higher share: vxp-data decide {run.root} --keep 0.5"
        )
    settings = shard_settings(run, record, config)
    divisor = config.shard.world_size * config.shard.workers
    weighed = weigh(rows, settings)
    shards = plan_shards(
        weighed.clips,
        shard_bytes=config.shard.shard_bytes,
        max_clips=config.shard.max_samples,
        divisor=divisor,
        salt=_salt(run, settings),
    )
    settle = _remove_other_tars if replace else _refuse_other_files
    if not replace:
        _refuse_other_files(out, shards)  # before a lock is put where something else lies
    with open_engine(config.cluster) as engine, run_lock(out, "vxp-data shard") as lock:
        out.remove_unfinished()
        settle(out, shards)
        out.remove(INDEX_NAME)
        written = _write_all(shards, weighed, out, settings, engine, observer)
        lock.check()
        out.remove_unfinished()  # of workers that died
        index = _commit(written, out, settings)
    num_out = index.samples.num_rows + index.quarantine.num_rows
    if num_out != rows.num_rows:
        raise AssertionError(f"{rows.num_rows} kept rows went in, {num_out} came out")
    return ShardResult(
        index=index,
        num_kept_rows=rows.num_rows,
        num_found=sum(shard.was_there for shard in written),
        num_inexact=sum(shard.num_inexact for shard in written),
        repeated_bytes=weighed.repeated_bytes,
        divisor=divisor,
        wall_s=time.monotonic() - started_s,
    )


def shard_settings(run: RunDirectory, record: dict[str, Any], config: PruneConfig) -> ShardSettings:
    """Return what the workers must know; the arguments are those of `shard_run`."""
    shard = config.shard
    return ShardSettings(
        payload=Payload(shard.payload),
        frame_px=shard.frame_px,
        image_format=shard.image_format,
        quality=shard.quality,
        rule=config.sampling,
        num_epochs=shard.num_epochs,
        decode=config.decode,
        fetch=config.fetch,
        provenance=ProvenanceRecord(
            run=_sha256(run.decisions),
            encoder=record["encoder"]["fingerprint"],
            sampler=record["sampler"],
            vxp_version=version("vxp"),
        ),
    )


def _salt(run: RunDirectory, settings: ShardSettings) -> str:
    """Digest all that a shard's bytes depend on, but for the files themselves."""
    facts = asdict(settings) | {"payload": settings.payload.value, "decode": None, "fetch": None}
    facts["decoder"] = settings.decode.decoder
    facts["annotations"] = _sha256(run.samples)
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _sha256(file: File) -> str:
    with file.open("rb") as opened:
        return stream_sha256(opened)


def _refuse_other_files(out: Folder, shards: Sequence[PlannedShard]) -> None:
    """Refuse a folder that holds a run, or tars that are not these shards.

    Raises:
        UserError: it does, or cannot be listed.
    """
    try:
        names = out.names()
    except OSError as error:
        raise UserError(f"{out}: cannot be listed: {error}") from error
    if "run.json" in names:
        raise UserError(f"{out} holds a run. Choose another --out, such as {out.where('shards')}.")
    if others := _other_tars(names, shards):
        raise UserError(
            f"{out} holds tars of another run or of other settings ({others[0]}, {len(others)} in "
            "all); mixed with these they would be read too. Choose an empty --out, or remove them."
        )


def _remove_other_tars(out: Folder, shards: Sequence[PlannedShard]) -> None:
    out.remove(INDEX_NAME)  # first: it names them
    for name in _other_tars(out.names(), shards):
        out.remove(name)


def _other_tars(names: Sequence[str], shards: Sequence[PlannedShard]) -> list[str]:
    planned = {shard.name for shard in shards}
    return [name for name in names if name.endswith(TAR_SUFFIX) and name not in planned]


def _write_all(
    shards: Sequence[PlannedShard],
    weighed: Weighed,
    out: Folder,
    settings: ShardSettings,
    engine: Engine,
    observer: ShardObserver,
) -> list[WrittenShard]:
    """Write every shard, each as it is done told to the observer; return them as planned."""
    keys, found = weighed.clips.key, set(out.names())
    position_of = {
        keys[i]: position for position, shard in enumerate(shards) for i in shard.members
    }
    shard_N = np.array([position_of[key] for key in weighed.rows["key"].to_pylist()])
    order_N = np.argsort(shard_N, kind="stable")
    rows = weighed.rows.take(order_N)
    ends = np.searchsorted(shard_N[order_N], np.arange(len(shards)), side="right").tolist()
    jobs = [
        ShardJob(name=shard.name, rows=rows.slice(start, end - start), is_there=shard.name in found)
        for shard, start, end in zip(shards, [0, *ends[:-1]], ends, strict=True)
    ]
    done: dict[int, WrittenShard] = {}
    observer.started(len(keys))
    try:
        write = partial(write_or_find_shard, out=out, settings=settings)
        with closing(engine.run_tasks(write, jobs)) as results:
            for position, shard in results:
                done[position] = shard
                observer.progressed(shard)
    except WorkerDiedError as error:
        raise UserError(
            f"{jobs[error.index].name}: the worker that wrote it died {error.deaths} times "
            f"({error.what}). Most often it was killed for memory: give it more, or fewer workers "
            "(--set cluster.num_cpus=N). Whole shards are kept: the same command goes on from "
            "there."
        ) from error
    finally:
        observer.ended()
    return [done[position] for position in range(len(shards))]


def _commit(written: Sequence[WrittenShard], out: Folder, settings: ShardSettings) -> ShardIndex:
    """Write the tables and the index; shards that lost all their clips are not named, and go.

    Raises:
        UserError: not one clip is left.
    """
    shards = [shard for shard in written if shard.entry.num_clips]
    for shard in written:
        if not shard.entry.num_clips:
            out.remove(shard.entry.name)
    quarantined = pa.concat_tables([shard.quarantined for shard in written])
    by_reason = dict(sorted(Counter(quarantined["reason"].to_pylist()).items()))
    quarantine = _write_table(out, QUARANTINE_NAME, quarantined)
    if not shards:
        raise UserError(
            f"{out}: no shard was written, because none of the kept rows' files can be used any "
            f"more ({', '.join(f'{n} rows {reason}' for reason, n in by_reason.items())}). The "
            f"reasons are in {out.where(QUARANTINE_NAME)}. Put the files back, or prune again."
        )
    samples = [SAMPLE_SCHEMA.empty_table()]
    samples += [
        shard.samples.set_column(0, "shard", pa.array([position] * len(shard.samples), pa.int32()))
        for position, shard in enumerate(shards)
    ]
    index = ShardIndex(
        format_version=SHARD_FORMAT_VERSION,
        payload=settings.payload.value,
        num_epochs=settings.num_epochs,
        sampling=settings.sampling,
        provenance=settings.provenance,
        samples=_write_table(out, SAMPLES_NAME, pa.concat_tables(samples)),
        quarantine=quarantine,
        quarantined_by_reason=by_reason,
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
