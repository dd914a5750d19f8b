"""Reading a shard as what it must be: clips, each a record and the payload that it names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any, BinaryIO

from vxp_data.conversation import conversation_from_json
from vxp_data.shard_format import JSON_SUFFIX, MixedRecord, ShardRecord, read_record
from vxp_data.shard_index import sample_columns, word_counts
from vxp_data.shards.tar_file import Member, read_bytes, read_members


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardClip:
    """One clip in a shard, or a tuple of several, and where its members lie."""

    record: ShardRecord
    json: Member
    payloads: tuple[Member, ...]
    """Of each medium, in order; none where the shard carries none."""

    def sample_rows(self) -> list[dict[str, Any]]:
        """Return what samples.parquet has of each annotation row; the shard's index is 0."""
        nothing = Member(name="", offset=0, num_bytes=0)
        first, last = (self.payloads[0], self.payloads[-1]) if self.payloads else (nothing, nothing)
        columns = sample_columns(self.record.format_version)
        num_media = len(self.record.media_clips)
        rows = [
            {
                "shard": 0,
                "key": self.record.key,
                "place": index,
                "sample_id": row.sample_id,
                "task": row.task,
                "json_offset": self.json.offset,
                "json_bytes": self.json.num_bytes,
                "payload_offset": first.offset,
                "payload_bytes": last.offset + last.num_bytes - first.offset,
                "num_frames": sum(
                    len(plans[0].frame_index) for plans in self.record.plans_of(index) if plans
                ),
                "dataset": row.dataset,
                **word_counts(conversation_from_json(row.conversation), num_media=num_media),
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
        record = read_record(read_bytes(file, own))
        for row in record.rows:
            conversation_from_json(row.conversation)
    except ValueError as error:
        raise ValueError(f"{own.name}: {error}") from error
    if record.key != key:
        raise ValueError(f"{own.name} holds the record of key {record.key!r}")
    payloads = [
        _payload(key, by_suffix, record.payload_name(medium), clip.payload.num_bytes)
        for medium, clip in enumerate(record.media_clips)
    ]
    if by_suffix:
        raise ValueError(f"key {key!r} has members that its record does not name: {[*by_suffix]}")
    there = tuple(payload for payload in payloads if payload is not None)
    offsets = [payload.offset - there[0].offset for payload in there]
    if isinstance(record, MixedRecord) and there and offsets != record.payload_offset:
        raise ValueError(
            f"key {key!r}: its payloads lie at {offsets} from the first, its record says "
            f"{record.payload_offset}"
        )
    return ShardClip(record=record, json=own, payloads=there)


def _payload(
    key: str, by_suffix: dict[str, Member], name: str, recorded_bytes: int
) -> Member | None:
    """Take a payload out of the members; None where the record has none."""
    payload = by_suffix.pop(name.partition(".")[2], None) if name else None
    num_bytes = payload.num_bytes if payload else 0
    if num_bytes != recorded_bytes or (payload is None) != (not name):
        raise ValueError(
            f"key {key!r}: the payload has {num_bytes} bytes, its record says {recorded_bytes}"
        )
    return payload
