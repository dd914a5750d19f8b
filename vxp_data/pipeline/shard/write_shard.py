"""Writes one shard: plain functions, which know no engine.

A shard is a function of its rows and settings alone; written again, anywhere, it has the same
bytes. A clip whose file is not what it was when the run was pruned goes to quarantine, and the
shard is written without it.
"""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

import pyarrow as pa

from vxp_data.errors import MediaError
from vxp_data.pipeline.shard.clip_records import (
    ReadyClip,
    Rows,
    ShardSettings,
    payload_record,
    planned_frames,
    ready_clip,
    release_files,
    shard_record,
)
from vxp_data.pipeline.shard.frame_plans import draw_plans, media_of
from vxp_data.pipeline.shard.payload_source import (
    PayloadSource,
    SourceError,
    SourceReader,
    check_sampled,
)
from vxp_data.records import Reason
from vxp_data.shard_format import JSON_SUFFIX, ClipRecord, Payload, PayloadRecord, ShardRecord
from vxp_data.shard_index import SAMPLE_COLUMNS, ShardEntry
from vxp_data.shards.hashing import HashingReader, HashingThread, HashingWriter
from vxp_data.shards.shard_file import ShardClip, read_clips
from vxp_data.shards.tar_file import Member, TarWriter, read_bytes
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
        rows: its rows, as `costs.weigh` gives them; those of a clip in order.
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
        except SourceError as error:  # the next try does without that file
            broken[error.key][error.uri] = error.error
        finally:
            release_files(settings)
    return _shard(name, written, by_key, size, broken, was_there=False)


def _write_clips(
    file: BinaryIO, by_key: Mapping[str, Rows], settings: ShardSettings, broken: _Broken
) -> tuple[list[ShardClip], tuple[int, str]]:
    """Write a tar of all clips that can be had; return them, the tar's size and its SHA-256.

    Raises:
        SourceError: a file is not what was pruned; the tar is not to be used.
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
        _lost_row(key, row, broken[key])
        for key in sorted(set(by_key) - {clip.record.key for clip in written})
        for row in by_key[key]
    ]
    payloads = [medium.payload for clip in written for medium in clip.record.media_clips]
    return WrittenShard(
        entry=entry,
        samples=pa.Table.from_pylist(samples, SAMPLE_SCHEMA),
        quarantined=pa.Table.from_pylist(lost, QUARANTINE_SCHEMA),
        num_inexact=sum(payload.num_frames - payload.num_exact for payload in payloads),
        was_there=was_there,
    )


def _lost_row(key: str, row: Mapping[str, Any], broken: Mapping[str, MediaError]) -> dict[str, str]:
    """Return what is told of a row that is not in the shard: the first of its media that failed."""
    uri = next(m["media_uri"] for m in media_of(row) if m["media_uri"] in broken)
    error = broken[uri]
    return {
        "sample_id": row["sample_id"],
        "key": key,
        "uri": uri,
        "reason": error.reason.value,
        "message": error.message,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class _AddedPayload:
    """A payload that was written and is still being hashed."""

    source: PayloadSource
    member: Member
    payload: PayloadRecord
    sha256: Future[str]

    def check(self) -> None:
        """Wait for the payload's hash.

        Raises:
            SourceError: it is not that of what was pruned.
        """
        if (found := self.sha256.result()) != self.payload.sha256:
            message = f"the file has SHA-256 {found}; what was pruned had {self.payload.sha256}"
            raise SourceError(self.source, Reason.SOURCE_CHANGED, message)


@dataclass(frozen=True, slots=True, kw_only=True)
class _AddedClip:
    """A clip that was written, whose payloads are still being hashed."""

    written: ShardClip
    payloads: Sequence[_AddedPayload]

    def checked(self) -> ShardClip:
        """Wait for the payloads' hashes, and return the clip.

        Raises:
            SourceError: one is not that of what was pruned.
        """
        for payload in self.payloads:
            payload.check()
        return self.written


def _add_ready_clip(
    tar: TarWriter, file: BinaryIO, clip: ReadyClip, thread: HashingThread
) -> _AddedClip:
    """Write a clip's members: the payloads first, whose hashes the record has.

    `file` is the tar's own, `thread` hashes the payloads.
    """
    record, added = clip.record, []
    for medium, (about, data) in enumerate(zip(record.media_clips, clip.data, strict=True)):
        if name := record.payload_name(medium):
            media = about.media
            source = PayloadSource(
                key=record.key, uri=media.uri, media_id=media.media_id, data=data
            )
            added.append(_add_payload(tar, file, name, source, about.payload, thread))
    if added:
        record = record.with_payloads([one.payload for one in added])
    written = _with_record(tar, record, [one.member for one in added])
    return _AddedClip(written=written, payloads=added)


def _add_payload(
    tar: TarWriter,
    file: BinaryIO,
    name: str,
    source: PayloadSource,
    payload: PayloadRecord,
    thread: HashingThread,
) -> _AddedPayload:
    """Write one payload; its hash is waited for only where the record does not know it yet."""
    digest = thread.sha256()
    with source.open() as opened:
        reading = cast(BinaryIO, SourceReader(opened, source, digest))
        member = tar.add(name, reading, payload.num_bytes)
    sha256 = digest.future()
    if not payload.sha256:
        if isinstance(source.data, Path):
            check_sampled(file, source, member)
        payload = replace(payload, sha256=sha256.result())
    return _AddedPayload(source=source, member=member, payload=payload, sha256=sha256)


def _with_record(tar: TarWriter, record: ShardRecord, payloads: Sequence[Member]) -> ShardClip:
    json = tar.add(f"{record.key}.{JSON_SUFFIX}", record.to_json())
    return ShardClip(record=record, json=json, payloads=tuple(payloads))


def _add_found_clip(
    tar: TarWriter, file: BinaryIO, clip: ShardClip, rows: Rows, settings: ShardSettings
) -> ShardClip | None:
    """Write a clip of a shard that is there as it would be written now; None: it is another."""
    record = _record_again(clip.record, rows, settings)
    if record is None or record.to_json() != read_bytes(file, clip.json):
        return None
    members = []
    for found, medium in zip(clip.payloads, record.media_clips, strict=bool(clip.payloads)):
        file.seek(found.offset)
        reading = HashingReader(file)
        members.append(tar.add(found.name, cast(BinaryIO, reading), found.num_bytes))
        if reading.sha256 != medium.payload.sha256:
            return None
    return _with_record(tar, record, members)


def _record_again(stored: ShardRecord, rows: Rows, settings: ShardSettings) -> ShardRecord | None:
    """Build a record of a shard that is there from its rows; None: its files are not theirs."""
    plans = [draw_plans(row, settings.rule, settings.num_epochs) for row in rows]
    media = list(zip(*(media_of(row) for row in rows), strict=True))
    if len(media) != len(stored.media_clips):
        return None
    sources, payloads = [], []
    for medium, (files, clip) in enumerate(zip(media, stored.media_clips, strict=True)):
        source = next((file for file in files if file["media_uri"] == clip.media.uri), None)
        if source is None:
            return None
        sources.append(source)
        payloads.append(_payload_again(clip, len(planned_frames(plans, medium)), settings))
    return shard_record(stored.key, rows, sources, payloads, settings, plans)


def _payload_again(clip: ClipRecord, num_frames: int, settings: ShardSettings) -> PayloadRecord:
    stored = clip.payload
    return payload_record(
        clip.kind,
        settings,
        num_bytes=stored.num_bytes,
        sha256=stored.sha256,
        num_frames=num_frames if stored.kind == Payload.FRAMES else 0,
        num_exact=stored.num_exact,
    )
