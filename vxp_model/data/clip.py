"""One clip's members out of a shard, and one row's plans out of its record."""

from __future__ import annotations

import json
from typing import Final

import numpy as np

from vxp_data.core.sampling_plans import SamplingPlan, SamplingRule, draw_plan, image_plan
from vxp_data.core.timeline import unpack_timeline
from vxp_data.shard_format import (
    ClipRecord,
    PlanRecord,
    ShardRecord,
    read_record,
    selection_version,
)
from vxp_model.data.files import read_media
from vxp_model.data.frames import BrokenSampleError
from vxp_model.data.index import ShardTable

_NEAR_BYTES: Final = 1 << 16
"""Members this near to each other are asked of an object store in one go."""


def read_members(table: ShardTable, row: int, *, with_payload: bool) -> tuple[bytes, bytes]:
    """Read the bytes of a row's JSON and of its payloads (b'' where it has none in the shard).

    Raises:
        BrokenSampleError: the shard cannot be read there.
    """
    name = table.index.shards[table.shard_N[row]].name
    start, num_bytes = int(table.json_offset_N[row]), int(table.json_bytes_N[row])
    json_at = slice(start, start + num_bytes)
    start, num_bytes = int(table.payload_offset_N[row]), int(table.payload_bytes_N[row])
    if not num_bytes or not with_payload:
        return _read(table, name, json_at), b""
    payload_at = slice(start, start + num_bytes)
    first, second = sorted((json_at, payload_at), key=lambda at: at.start)
    # From a disk, a second read costs less than to copy the payload out of the first.
    if not table.folder.is_remote or second.start - first.stop > _NEAR_BYTES:
        return _read(table, name, json_at), _read(table, name, payload_at)
    both = memoryview(_read(table, name, slice(first.start, second.stop)))
    parts = [bytes(both[at.start - first.start : at.stop - first.start]) for at in (first, second)]
    return (parts[0], parts[1]) if first is json_at else (parts[1], parts[0])


def read_clip(table: ShardTable, row: int, *, with_payload: bool) -> tuple[ShardRecord, bytes]:
    """Read a row's record, and its payloads as they lie in the shard: b'' where there are none.

    Raises:
        BrokenSampleError: it cannot be read, or is not the clip that the index says.
    """
    data, payloads = read_members(table, row, with_payload=with_payload)
    try:
        record = read_record(data)
    except ValueError as error:
        raise BrokenSampleError("bad_record", str(error)) from error
    index, sample_id = int(table.index_N[row]), table.sample_id(row)
    if index >= len(record.rows) or record.rows[index].sample_id != sample_id:
        raise BrokenSampleError(
            "bad_record", f"row {index} of {record.key} is not {sample_id!r}, as the index says"
        )
    return record, payloads


def payload_of(record: ShardRecord, medium: int, payloads: bytes) -> bytes:
    """Return one medium's payload; from its own URI where the shard carries none.

    Args:
        record: of `read_clip`.
        medium: its place among the media.
        payloads: of `read_clip`.

    Raises:
        BrokenSampleError: it cannot be read.
    """
    clip = record.media_clips[medium]
    if not clip.payload.suffix:
        try:
            return read_media(clip.media.uri)
        except (OSError, ValueError) as error:
            raise BrokenSampleError("missing", f"{clip.media.uri}: {error}") from error
    if isinstance(record, ClipRecord):
        return payloads
    start = record.payload_offset[medium]
    return payloads[start : start + clip.payload.num_bytes]


def plans_of(record: ShardRecord, index: int, epoch: int) -> list[PlanRecord]:
    """Return the plans of a row in an epoch, one a medium.

    They are the stored ones, else drawn from the stored rule. A frames payload has no other frames
    than the stored plans': epoch e shows those of plan e % num_epochs.

    Raises:
        BrokenSampleError: the stored rule or timeline cannot be read.
    """
    sample_id = record.rows[index].sample_id
    try:
        return [
            _plan(clip, stored, sample_id, epoch)
            for clip, stored in zip(record.media_clips, record.plans_of(index), strict=True)
        ]
    except ValueError as error:
        raise BrokenSampleError("bad_record", f"{record.key}: {error}") from error


def _plan(clip: ClipRecord, stored: list[PlanRecord], sample_id: str, epoch: int) -> PlanRecord:
    if clip.payload.image_format:
        return stored[epoch % len(stored)]
    if epoch < len(stored):
        return stored[epoch]
    plan = _drawn(clip, sample_id, epoch)
    return PlanRecord(
        epoch=epoch,
        policy=plan.policy,
        fps=plan.fps,
        frame_index=plan.frame_index_F.tolist(),
        time_s=plan.time_s_F.tolist(),
    )


def _drawn(record: ClipRecord, sample_id: str, epoch: int) -> SamplingPlan:
    """Draw a plan by the stored rule, as the format of the shard says: its `format_version`.

    Raises:
        ValueError: the stored rule or timeline cannot be read.
    """
    media, rule = record.media, SamplingRule.from_dict(json.loads(record.sampling))
    if record.kind == "image":
        return image_plan(rule, epoch=epoch)
    whole = record.clip_end_s >= media.duration_s  # a still's duration may be 0
    return draw_plan(
        rule,
        sample_id=sample_id,
        epoch=epoch,
        time_s_N=unpack_timeline(media.timeline),
        duration_s=media.duration_s,
        source_fps=media.fps,
        clip_start_s=record.clip_start_s,
        clip_end_s=np.inf if whole else record.clip_end_s,
        selection_version=selection_version(record.format_version),
    )


def _read(table: ShardTable, name: str, at: slice) -> bytes:
    try:
        data = table.folder.read_range(name, at.start, at.stop)
    except (OSError, ValueError) as error:
        raise BrokenSampleError("unreadable", f"{name}: {error}") from error
    if len(data) != at.stop - at.start:
        raise BrokenSampleError(
            "unreadable", f"{name}: {len(data)} bytes at {at.start}, wanted {at.stop - at.start}"
        )
    return data
