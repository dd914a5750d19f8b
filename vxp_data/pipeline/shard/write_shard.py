"""Writes one shard: plain functions, which know no engine.

A shard is a function of its rows and settings alone; written again, anywhere, it has the same
bytes. A clip whose file is not what it was when the run was pruned goes to quarantine, and the
shard is written without it.
"""

from __future__ import annotations

import io
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Final, cast

import pyarrow as pa

from vxp_data.errors import MediaError
from vxp_data.pipeline.shard.clip_records import (
    ReadyClip,
    Rows,
    ShardSettings,
    clip_record,
    payload_record,
    planned_frames,
    ready_clip,
    release_file,
)
from vxp_data.pipeline.shard.frame_plans import draw_plans
from vxp_data.records import Reason
from vxp_data.shard_format import JSON_SUFFIX, SAMPLE_COLUMNS, ClipRecord, Payload, ShardEntry
from vxp_data.shards.hashing import HashingReader, HashingThread, HashingWriter, ThreadedSha256
from vxp_data.shards.shard_file import ShardClip, read_clips
from vxp_data.shards.tar_file import Member, TarWriter, read_bytes
from vxp_data.storage.digest import digest_of_parts, sampled_ranges
from vxp_data.storage.folder import Folder

SAMPLE_SCHEMA: Final = pa.schema(
    [(name, pa.type_for_alias(t)) for name, t in SAMPLE_COLUMNS.items()]
)
QUARANTINE_SCHEMA: Final = pa.schema(
    [("sample_id", pa.string()), ("key", pa.string()), ("uri", pa.string()),
     ("reason", pa.string()), ("message", pa.string())]
)  # fmt: skip

_Broken = defaultdict[str, dict[str, MediaError]]
"""By clip: the URIs of its files that cannot be used, and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardJob:
    """One shard to be written, or found written already."""

    name: str
    rows: pa.Table
    """As `costs.weigh` gives them."""
    is_there: bool
    """A file of that name is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenShard:
    """What a shard became."""

    entry: ShardEntry
    samples: pa.Table
    """SAMPLE_COLUMNS, but for the shard's number in the index, which is 0 here."""
    quarantined: pa.Table
    """QUARANTINE_SCHEMA."""
    num_inexact: int
    """Images that stand in for frames that could not be decoded."""
    was_there: bool
    """An earlier, stopped run has written it."""


class _SourceError(Exception):
    """A file failed, or was seen to be another one, while it was copied into the shard."""

    def __init__(self, clip: ReadyClip, reason: Reason, message: str) -> None:
        super().__init__(clip.record.key, message)
        self.key = clip.record.key
        self.uri = clip.record.media.uri
        self.error = MediaError(reason, message)


def write_or_find_shard(job: ShardJob, out: Folder, settings: ShardSettings) -> WrittenShard:
    """Write a shard, or take the one that is there and whole."""
    found = find_shard(job.name, job.rows, out, settings) if job.is_there else None
    return found or write_shard(job.name, job.rows, out, settings)


def find_shard(
    name: str, rows: pa.Table, out: Folder, settings: ShardSettings
) -> WrittenShard | None:
    """Return the shard that an earlier, stopped run has written; None: it has to be written.

    It is taken where it has all its clips and every record and payload is, byte for byte, what
    would be written now. One without some of its clips is not taken: their files may be there
    again. Arguments are those of `write_shard`.
    """
    by_key = _rows_by_key(rows)
    hashing = HashingWriter(None)
    written = []
    try:
        with out.open(name) as file:
            found = list(read_clips(file))
            if [clip.record.key for clip in found] != sorted(by_key):
                return None
            with TarWriter(cast(BinaryIO, hashing)) as tar:
                for clip in found:
                    again = _add_found_clip(tar, file, clip, by_key[clip.record.key], settings)
                    if again is None:
                        return None
                    written.append(again)
            if file.seek(0, io.SEEK_END) != hashing.num_bytes:
                return None
    except (OSError, ValueError, EOFError):
        return None
    size = (hashing.num_bytes, hashing.sha256)
    return _shard(name, written, by_key, size, {}, was_there=True)


def write_shard(name: str, rows: pa.Table, out: Folder, settings: ShardSettings) -> WrittenShard:
    """Write one shard, whole.

    Args:
        name: of the shard's file.
        rows: its rows, as `shard_costs.with_costs` gives them; those of a clip in order.
        out: where it goes.
        settings: what goes in.

    Raises:
        UserError: the folder cannot be written to.
    """
    by_key = _rows_by_key(rows)
    broken: _Broken = defaultdict(dict)
    while True:
        try:
            with out.write_path(name) as path, path.open("w+b") as file:
                written, size = _write_clips(file, by_key, settings, broken)
            break
        except _SourceError as error:  # the next try does without that file
            broken[error.key][error.uri] = error.error
        finally:
            release_file(settings)
    return _shard(name, written, by_key, size, broken, was_there=False)


def _write_clips(
    file: BinaryIO, by_key: Mapping[str, Rows], settings: ShardSettings, broken: _Broken
) -> tuple[list[ShardClip], tuple[int, str]]:
    """Write a tar of all clips that can be had; return them, the tar's size and its SHA-256.

    Raises:
        _SourceError: a file is not what was pruned; the tar is not to be used.
    """
    # One thread for both digests: what it hashes a second time is still in its core's cache.
    with HashingThread() as thread:
        hashing = HashingWriter(file, thread.sha256())
        with TarWriter(cast(BinaryIO, hashing)) as tar:
            clips = _ready_clips(by_key, settings, broken)
            added = [_add_ready_clip(tar, file, clip, thread) for clip in clips]
        written = [clip.checked() for clip in added]
        return written, (hashing.num_bytes, hashing.sha256)


def _rows_by_key(rows: pa.Table) -> dict[str, Rows]:
    by_key: dict[str, Rows] = {}
    for row in rows.to_pylist():
        cast(list[object], by_key.setdefault(row["key"], [])).append(row)
    return by_key


def _ready_clips(
    by_key: Mapping[str, Rows], settings: ShardSettings, broken: _Broken
) -> Iterator[ReadyClip]:
    for key in sorted(by_key):
        clip = ready_clip(key, by_key[key], settings, broken[key])
        if clip is not None:
            yield clip


def _shard(
    name: str,
    written: list[ShardClip],
    by_key: Mapping[str, Rows],
    tar: tuple[int, str],
    broken: Mapping[str, Mapping[str, MediaError]],
    *,
    was_there: bool,
) -> WrittenShard:
    """Return what a shard became; `tar` is the number of its bytes and their SHA-256."""
    num_bytes, sha256 = tar
    samples = [row for clip in written for row in clip.sample_rows()]
    entry = ShardEntry(
        name=name,
        kind=name.partition("-")[0],
        num_clips=len(written),
        num_samples=len(samples),
        num_frames=sum(row["num_frames"] for row in samples),
        num_bytes=num_bytes,
        decode_cost=sum(row["decode_cost"] for clip in written for row in by_key[clip.record.key]),
        sha256=sha256,
    )
    lost = [
        {"sample_id": row["sample_id"], "key": key, "uri": row["media_uri"],
         "reason": broken[key][row["media_uri"]].reason.value,
         "message": broken[key][row["media_uri"]].message}
        for key in sorted(set(by_key) - {clip.record.key for clip in written})
        for row in by_key[key]
    ]  # fmt: skip
    payloads = [clip.record.payload for clip in written]
    return WrittenShard(
        entry=entry,
        samples=pa.Table.from_pylist(samples, SAMPLE_SCHEMA),
        quarantined=pa.Table.from_pylist(lost, QUARANTINE_SCHEMA),
        num_inexact=sum(payload.num_frames - payload.num_exact for payload in payloads),
        was_there=was_there,
    )


def _add_clip(tar: TarWriter, record: ClipRecord, payload: BinaryIO) -> ShardClip:
    """Write a clip's members: the payload first, whose hash the record has."""
    member = None
    if record.payload.suffix:
        name = f"{record.key}.{record.payload.suffix}"
        member = tar.add(name, payload, record.payload.num_bytes)
    return _with_record(tar, record, member)


def _with_record(tar: TarWriter, record: ClipRecord, payload: Member | None) -> ShardClip:
    json = tar.add(f"{record.key}.{JSON_SUFFIX}", record.to_json())
    return ShardClip(record=record, json=json, payload=payload)


class _Source(HashingReader):
    """Reads a clip's payload; what goes wrong is the clip's failure, not the shard's."""

    def __init__(self, file: BinaryIO, clip: ReadyClip, digest: ThreadedSha256) -> None:
        super().__init__(file, digest)
        self._clip = clip

    def read(self, num_bytes: int = -1) -> bytes:
        try:
            return super().read(num_bytes)
        except EOFError as error:
            message = "the file got shorter while it was copied"
            raise _SourceError(self._clip, Reason.SOURCE_CHANGED, message) from error
        except OSError as error:
            raise _SourceError(self._clip, Reason.UNREADABLE, str(error)) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class _AddedClip:
    """A clip that was written, whose payload is still being hashed."""

    clip: ReadyClip
    written: ShardClip
    sha256: Future[str] | None
    """None without payload."""

    def checked(self) -> ShardClip:
        """Wait for the payload's hash, and return the clip.

        Raises:
            _SourceError: it is not that of what was pruned.
        """
        wanted = self.written.record.payload.sha256
        if self.sha256 is not None and (found := self.sha256.result()) != wanted:
            message = f"the file has SHA-256 {found}; what was pruned had {wanted}"
            raise _SourceError(self.clip, Reason.SOURCE_CHANGED, message)
        return self.written


def _add_ready_clip(
    tar: TarWriter, file: BinaryIO, clip: ReadyClip, thread: HashingThread
) -> _AddedClip:
    """Write a clip; `file` is the tar's own, `thread` hashes the payload."""
    record = clip.record
    if not record.payload.suffix:
        return _AddedClip(clip=clip, written=_with_record(tar, record, None), sha256=None)
    digest = thread.sha256()
    with _open(clip) as opened:
        name = f"{record.key}.{record.payload.suffix}"
        source = cast(BinaryIO, _Source(opened, clip, digest))
        member = tar.add(name, source, record.payload.num_bytes)
    sha256 = digest.future()
    if not record.payload.sha256:
        if isinstance(clip.data, Path):
            _check_sampled(file, clip, member)
        record = replace(record, payload=replace(record.payload, sha256=sha256.result()))
    return _AddedClip(clip=clip, written=_with_record(tar, record, member), sha256=sha256)


def _check_sampled(file: BinaryIO, clip: ReadyClip, member: Member) -> None:
    """Check what was written of a file that is named by a sample of it, as far as that tells.

    Raises:
        _SourceError: it is another file.
    """
    file.flush()
    wanted = clip.record.media.media_id
    ranges = sampled_ranges(member.num_bytes)
    parts = (os.pread(file.fileno(), stop - at, member.offset + at) for at, stop in ranges)
    found = digest_of_parts(member.num_bytes, parts)
    if found != wanted:
        message = f"the file has digest {found}; what was pruned had {wanted}"
        raise _SourceError(clip, Reason.SOURCE_CHANGED, message)


def _open(clip: ReadyClip) -> BinaryIO:
    if isinstance(clip.data, bytes):
        return io.BytesIO(clip.data)
    try:
        return clip.data.open("rb")
    except FileNotFoundError as error:
        raise _SourceError(clip, Reason.MISSING, str(error)) from error
    except OSError as error:
        raise _SourceError(clip, Reason.UNREADABLE, str(error)) from error


def _add_found_clip(
    tar: TarWriter, file: BinaryIO, clip: ShardClip, rows: Rows, settings: ShardSettings
) -> ShardClip | None:
    """Write a clip of a shard that is there as it would be written now; None: it is another."""
    stored = clip.record
    source = next((row for row in rows if row["media_uri"] == stored.media.uri), None)
    if source is None:
        return None
    plans = [draw_plans(row, settings.rule, settings.num_epochs) for row in rows]
    is_frames = stored.payload.kind == Payload.FRAMES
    payload = payload_record(
        source["modality"],
        settings,
        num_bytes=stored.payload.num_bytes,
        sha256=stored.payload.sha256,
        num_frames=len(planned_frames(plans)) if is_frames else 0,
        num_exact=stored.payload.num_exact,
    )
    record = clip_record(stored.key, source, rows, plans, payload, settings)
    if record.to_json() != read_bytes(file, clip.json):
        return None
    if clip.payload is not None:
        file.seek(clip.payload.offset)
    reading = HashingReader(file)
    written = _add_clip(tar, record, cast(BinaryIO, reading))
    return written if not payload.suffix or reading.sha256 == payload.sha256 else None
