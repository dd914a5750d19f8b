"""`vxp-data verify` of a folder of shards: reads everything, believes nothing."""

from __future__ import annotations

import hashlib
import io
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vxp_data.config import DecodeConfig
from vxp_data.errors import MediaError, UserError
from vxp_data.pipeline.media_reader import MediaReader
from vxp_data.pipeline.shard import SHARD_NAME
from vxp_data.records import Modality
from vxp_data.shard_format import INDEX_NAME, Payload, ShardEntry, ShardIndex, TableEntry
from vxp_data.shards.frames_payload import unpack_frames
from vxp_data.shards.shard_file import ShardClip, read_clips
from vxp_data.shards.tar_file import read_bytes
from vxp_data.storage.digest import stream_sha256
from vxp_data.storage.folder import Folder


@dataclass(slots=True)
class Verified:
    """What was looked at, and what is wrong with it."""

    num_shards: int = 0
    num_clips: int = 0
    num_samples: int = 0
    num_bytes: int = 0
    problems: list[str] = field(default_factory=list)


def verify_shards(out: Folder) -> Verified:
    """Check a folder of shards: sums, keys, records, places, and every payload opened.

    Raises:
        UserError: there is no index that can be read.
    """
    index = read_index(out)
    found = Verified()
    named = {entry.name for entry in index.shards}
    extra = sorted(name for name in out.names() if SHARD_NAME.fullmatch(name) and name not in named)
    found.problems += [f"{name}: a shard that the index does not name" for name in extra]
    samples = _table(out, index.samples, found)
    _table(out, index.quarantine, found)
    reader = MediaReader(DecodeConfig())
    keys: Counter[str] = Counter()
    sample_ids: Counter[str] = Counter()
    try:
        for place, entry in enumerate(index.shards):
            rows: list[dict[str, object]] = []
            for clip in _checked_shard(out, entry, reader, found):
                keys[clip.record.key] += 1
                sample_ids.update(row.sample_id for row in clip.record.rows)
                rows += [row | {"shard": place} for row in clip.sample_rows()]
            if samples is not None and rows != _rows_of_shard(samples, place):
                found.problems.append(f"{entry.name}: {index.samples.name} says otherwise")
    finally:
        reader.close()
    for what, counts in (("key", keys), ("sample", sample_ids)):
        found.problems += [f"{what} {name!r} is there twice" for name in counts if counts[name] > 1]
    return found


def read_index(out: Folder) -> ShardIndex:
    """Read the index of a folder of shards.

    Raises:
        UserError: it is missing or not one.
    """
    try:
        return ShardIndex.from_json(out.read_bytes(INDEX_NAME))
    except FileNotFoundError as error:
        raise UserError(
            f"{out} holds no finished shards: {INDEX_NAME} is missing. Run `vxp-data shard RUN "
            f"--out {out}`, or again if it was stopped."
        ) from error
    except (OSError, ValueError) as error:
        raise UserError(f"{out.where(INDEX_NAME)} cannot be read: {error}") from error


def _table(out: Folder, entry: TableEntry, found: Verified) -> pa.Table | None:
    try:
        data = out.read_bytes(entry.name)
    except OSError as error:
        found.problems.append(f"{entry.name}: {error}")
        return None
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        found.problems.append(f"{entry.name}: its SHA-256 is not the index's")
        return None
    return pq.read_table(io.BytesIO(data))


def _rows_of_shard(samples: pa.Table, place: int) -> list[dict[str, object]]:
    mine: list[dict[str, object]] = samples.filter(pc.equal(samples["shard"], place)).to_pylist()
    return mine


def _checked_shard(
    out: Folder, entry: ShardEntry, reader: MediaReader, found: Verified
) -> Iterator[ShardClip]:
    """Give a shard's clips, as far as they can be read; note what is wrong."""
    found.num_shards += 1
    num_clips = num_samples = 0
    try:
        with out.open(entry.name) as file:
            sha256 = stream_sha256(file)
            found.num_bytes += file.tell()
            if sha256 != entry.sha256:
                found.problems.append(f"{entry.name}: its SHA-256 is not the index's")
            file.seek(0)
            for clip in read_clips(file):
                num_clips += 1
                num_samples += len(clip.record.rows)
                if problem := _payload_problem(file, clip, reader):
                    found.problems.append(f"{entry.name}: key {clip.record.key!r}: {problem}")
                yield clip
    except (OSError, ValueError) as error:
        found.problems.append(f"{entry.name}: {error}")
        return
    if (num_clips, num_samples) != (entry.num_clips, entry.num_samples):
        found.problems.append(
            f"{entry.name}: {num_clips} clips and {num_samples} rows; the index says "
            f"{entry.num_clips} and {entry.num_samples}"
        )
    found.num_clips += num_clips
    found.num_samples += num_samples


def _payload_problem(file: BinaryIO, clip: ShardClip, reader: MediaReader) -> str:
    """Open a payload; say what is wrong with it, or nothing ('')."""
    if clip.payload is None:
        return ""
    payload = clip.record.payload
    data = read_bytes(file, clip.payload)
    if hashlib.sha256(data).hexdigest() != payload.sha256:
        return "the payload's SHA-256 is not its record's"
    wanted = {i for row in clip.record.rows for plan in row.plans for i in plan.frame_index}
    if payload.kind == Payload.FRAMES:
        try:
            there = set(unpack_frames(data))
        except ValueError as error:
            return str(error)
        return "" if there == wanted else f"pictures {sorted(there ^ wanted)[:5]} are odd"
    with tempfile.NamedTemporaryFile(prefix="vxp-verify-") as scratch:
        Path(scratch.name).write_bytes(data)
        try:
            is_image = clip.record.kind == Modality.IMAGE
            probe = reader.probe(scratch.name, is_image=is_image).value
        except MediaError as error:
            return f"the payload does not open: {error}"
    num_frames = probe.media.num_frames
    return "" if max(wanted) < num_frames else f"a plan names frame {max(wanted)} of {num_frames}"
