"""Writes one shard. No Ray here: plain functions, tested as such.

A shard is a function of its rows and settings alone; written again, anywhere, it has the same
bytes. A clip whose file is not what it was when the run was pruned goes to quarantine, and the
shard is written without it.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

import pyarrow as pa

from vxp_data.errors import MediaError
from vxp_data.pipeline.shard_clips import ReadyClip, ShardSettings, ready_clip
from vxp_data.records import Reason
from vxp_data.shard_format import (
    JSON_SUFFIX,
    SAMPLE_COLUMNS,
    ShardEntry,
)
from vxp_data.shards.shard_file import ShardClip, read_clips
from vxp_data.shards.tar_file import Member, TarWriter
from vxp_data.storage.digest import stream_sha256
from vxp_data.storage.folder import Folder

SAMPLE_SCHEMA: Final = pa.schema(
    [(name, pa.type_for_alias(t)) for name, t in SAMPLE_COLUMNS.items()]
)
QUARANTINE_SCHEMA: Final = pa.schema(
    [("sample_id", pa.string()), ("key", pa.string()), ("uri", pa.string()),
     ("reason", pa.string()), ("message", pa.string())]
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenShard:
    """What a shard became."""

    entry: ShardEntry
    samples: pa.Table
    """SAMPLE_COLUMNS, but for the shard's place in the index, which is 0 here."""
    quarantined: pa.Table
    """QUARANTINE_SCHEMA."""


class _SourceError(Exception):
    """A file changed while it was copied into the shard."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(key, message)
        self.key = key
        self.message = message


def written_shard(
    name: str, keys: frozenset[str], decode_cost: float, out: Folder
) -> WrittenShard | None:
    """Read back a shard that an earlier, stopped run has written; None: it has to be written.

    A shard without some of its clips is not taken: their files may be there again.

    Args:
        name: of the shard's file.
        keys: of all its clips.
        decode_cost: what was planned, for the index.
        out: where it lies.
    """
    try:
        with out.open(name) as file:
            clips = list(read_clips(file))
            num_bytes = file.seek(0, io.SEEK_END)
            file.seek(0)
            sha256 = stream_sha256(file)
    except (OSError, ValueError):
        return None
    if {clip.record.key for clip in clips} != keys:
        return None
    entry, samples = _entry(name, clips, decode_cost, num_bytes, sha256)
    return WrittenShard(entry=entry, samples=samples, quarantined=QUARANTINE_SCHEMA.empty_table())


def write_shard(
    name: str, rows: pa.Table, decode_cost: float, out: Folder, settings: ShardSettings
) -> WrittenShard:
    """Write one shard, whole.

    Args:
        name: of the shard's file.
        rows: its rows, as `kept_rows` gives them, and their `key`; any order.
        decode_cost: what was planned, for the index.
        out: where it goes.
        settings: what goes in.

    Raises:
        UserError: the folder cannot be written to.
    """
    by_key: dict[str, list[dict[str, Any]]] = {}
    for row in rows.to_pylist():
        by_key.setdefault(row["key"], []).append(row)
    failed: dict[str, MediaError] = {}
    while True:
        try:
            clips = _clips(by_key, failed, settings)
            entry, samples = _write(name, clips, decode_cost, out)
            break
        except _SourceError as error:  # the next try leaves it out
            failed[error.key] = MediaError(Reason.SOURCE_CHANGED, error.message)
    lost = [
        {"sample_id": row["sample_id"], "key": key, "uri": row["media_uri"],
         "reason": failed[key].reason.value, "message": failed[key].message}
        for key in sorted(failed)
        for row in by_key[key]
    ]  # fmt: skip
    return WrittenShard(
        entry=entry, samples=samples, quarantined=pa.Table.from_pylist(lost, QUARANTINE_SCHEMA)
    )


def _clips(
    by_key: dict[str, list[dict[str, Any]]],
    failed: dict[str, MediaError],
    settings: ShardSettings,
) -> Iterator[ReadyClip]:
    for key in sorted(by_key):
        if key in failed:
            continue
        try:
            yield ready_clip(key, by_key[key], settings)
        except MediaError as error:
            failed[key] = error


class _Hashing(io.RawIOBase):
    """Hashes what is written on its way to another file."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._file = file
        self.digest = hashlib.sha256()
        self.num_bytes = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.digest.update(data)
        self.num_bytes += len(data)
        return self._file.write(data)

    def tell(self) -> int:
        return self.num_bytes


def _write(
    name: str, clips: Iterator[ReadyClip], decode_cost: float, out: Folder
) -> tuple[ShardEntry, pa.Table]:
    with out.write(name) as file:
        hashing = _Hashing(file)
        with TarWriter(cast(BinaryIO, hashing)) as tar:
            written = [_add_clip(tar, clip) for clip in clips]
    return _entry(name, written, decode_cost, hashing.num_bytes, hashing.digest.hexdigest())


def _entry(
    name: str, clips: list[ShardClip], decode_cost: float, num_bytes: int, sha256: str
) -> tuple[ShardEntry, pa.Table]:
    samples = [row for clip in clips for row in clip.sample_rows()]
    entry = ShardEntry(
        name=name,
        kind=name.partition("-")[0],
        num_clips=len(clips),
        num_samples=len(samples),
        num_frames=sum(row["num_frames"] for row in samples),
        num_bytes=num_bytes,
        decode_cost=decode_cost,
        sha256=sha256,
    )
    return entry, pa.Table.from_pylist(samples, SAMPLE_SCHEMA)


def _add_clip(tar: TarWriter, clip: ReadyClip) -> ShardClip:
    """Write a clip's members, sorted by name."""
    suffix = clip.record.payload.suffix
    members: dict[str, Member] = {}
    for each in sorted(filter(None, (JSON_SUFFIX, suffix))):
        data = clip.record.to_json() if each == JSON_SUFFIX else clip.data
        members[each] = _add(tar, clip, f"{clip.key}.{each}", data)
    return ShardClip(record=clip.record, json=members[JSON_SUFFIX], payload=members.get(suffix))


def _add(tar: TarWriter, clip: ReadyClip, name: str, data: bytes | Path) -> Member:
    if isinstance(data, bytes):
        return tar.add(name, data)
    try:
        source = data.open("rb")
    except OSError as error:
        raise _SourceError(clip.key, f"the file went away while it was copied: {error}") from error
    with source:
        reading = _Checked(source)
        try:
            member = tar.add(name, cast(BinaryIO, reading), clip.record.payload.num_bytes)
        except EOFError as error:
            raise _SourceError(clip.key, "the file got shorter while it was copied") from error
    if reading.digest.hexdigest() != clip.record.payload.sha256:
        raise _SourceError(clip.key, "the file changed while it was copied")
    return member


class _Checked:
    """Hashes what is read from a file; a short read is an error of its own kind."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def read(self, num_bytes: int) -> bytes:
        data = self._file.read(num_bytes)
        if len(data) < num_bytes:
            raise EOFError(f"{len(data)} of {num_bytes} bytes")
        self.digest.update(data)
        return data
