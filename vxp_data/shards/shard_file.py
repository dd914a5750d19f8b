"""Reading a shard as what it must be: clips, each a record and the payload that it names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any, BinaryIO

from vxp_data.conversation import conversation_from_json
from vxp_data.records import Modality
from vxp_data.shard_format import JSON_SUFFIX, ClipRecord, sample_columns, word_counts
from vxp_data.shards.tar_file import Member, read_bytes, read_members


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardClip:
    """One clip in a shard, and where its members lie."""

    record: ClipRecord
    json: Member
    payload: Member | None

    def sample_rows(self) -> list[dict[str, Any]]:
        """Return what samples.parquet has of each annotation row; the shard's index is 0."""
        payload = self.payload or Member(name="", offset=0, num_bytes=0)
        columns = sample_columns(self.record.format_version)
        num_media = int(self.record.kind != Modality.TEXT)
        rows = [
            {
                "shard": 0,
                "key": self.record.key,
                "place": index,
                "sample_id": row.sample_id,
                "task": row.task,
                "json_offset": self.json.offset,
                "json_bytes": self.json.num_bytes,
                "payload_offset": payload.offset,
                "payload_bytes": payload.num_bytes,
                "num_frames": len(row.plans[0].frame_index) if row.plans else 0,
                "dataset": row.dataset,
                **word_counts(row, num_media=num_media),
            }
            for index, row in enumerate(self.record.rows)
        ]
        return [{name: row[name] for name in columns} for row in rows]


def read_clips(file: BinaryIO) -> Iterator[ShardClip]:
    """Return every clip of a shard, in order; payloads are not read.

    Raises:
        ValueError: the tar is not whole, a member is missing, too many or of another size than the
            record says, a key comes twice, or a record is not of this format.
    """
    seen: set[str] = set()
    members = list(read_members(file))
    for key, own in groupby(members, key=lambda member: member.name.partition(".")[0]):
        if key in seen:
            raise ValueError(f"key {key!r} comes twice")
        seen.add(key)
        yield _clip(file, key, list(own))


def _clip(file: BinaryIO, key: str, members: list[Member]) -> ShardClip:
    by_suffix = {member.name.partition(".")[2]: member for member in members}
    if len(by_suffix) != len(members):
        raise ValueError(f"key {key!r} has two members of one name")
    own = by_suffix.pop(JSON_SUFFIX, None)
    if own is None:
        raise ValueError(f"key {key!r} has no member {JSON_SUFFIX!r}")
    try:
        record = ClipRecord.from_json(read_bytes(file, own))
        for row in record.rows:
            conversation_from_json(row.conversation)
    except ValueError as error:
        raise ValueError(f"{own.name}: {error}") from error
    if record.key != key:
        raise ValueError(f"{own.name} holds the record of key {record.key!r}")
    payload = by_suffix.pop(record.payload.suffix, None) if record.payload.suffix else None
    if by_suffix:
        raise ValueError(f"key {key!r} has members that its record does not name: {[*by_suffix]}")
    num_bytes = payload.num_bytes if payload else 0
    if num_bytes != record.payload.num_bytes or (payload is None) != (not record.payload.suffix):
        raise ValueError(
            f"key {key!r}: the payload has {num_bytes} bytes, its record says "
            f"{record.payload.num_bytes}"
        )
    return ShardClip(record=record, json=own, payload=payload)
