"""From a clip's kept rows to its record and payload, ready to be written into a shard."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vxp_data.config import DecodeConfig
from vxp_data.core.sampling_plans import SamplingPlan, SamplingRule
from vxp_data.decoders.base import FrameSize
from vxp_data.errors import MediaError
from vxp_data.pipeline.media_reader import MediaReader
from vxp_data.pipeline.plans import draw_plans
from vxp_data.records import Modality, Reason
from vxp_data.shard_format import (
    FILE_SUFFIX,
    FRAMES_SUFFIX,
    SHARD_FORMAT_VERSION,
    ClipRecord,
    MediaRecord,
    Payload,
    PayloadRecord,
    PlanRecord,
    ProvenanceRecord,
    RowRecord,
)
from vxp_data.shards.frames_payload import pack_frames
from vxp_data.storage.digest import content_digest, stream_sha256
from vxp_data.storage.local import file_stamp

_WHOLE_DIGEST: Final = "sha256:"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardSettings:
    """What the workers must know."""

    payload: Payload
    frame_px: int
    """Side of the square to which frames are squashed, as SigLIP sees them; frames payload only."""
    picture_format: str
    quality: int
    rule: SamplingRule
    num_epochs: int
    """Epochs whose plans are stored."""
    decode: DecodeConfig
    provenance: ProvenanceRecord

    @property
    def sampling(self) -> str:
        """Give the rule as the shard holds it."""
        return json.dumps(self.rule.to_dict(), separators=(",", ":"))


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadyClip:
    """A clip ready to be written: its record, and where its payload comes from."""

    record: ClipRecord
    data: bytes | Path

    @property
    def key(self) -> str:
        """Its name in the tar."""
        return self.record.key


def ready_clip(key: str, rows: list[dict[str, Any]], settings: ShardSettings) -> ReadyClip:
    """Plan a clip's rows and find its payload.

    Raises:
        MediaError: the file is not there, or not what it was.
    """
    first = min(rows, key=lambda row: row["media_uri"])
    kind = first["modality"]
    plans = [draw_plans(row, settings.rule, settings.num_epochs) for row in rows]
    data, payload = _payload(first, plans, settings)
    end_s = first["clip_end_s"]
    record = ClipRecord(
        format_version=SHARD_FORMAT_VERSION,
        key=key,
        kind=kind,
        clip_start_s=float(first["clip_start_s"]),
        clip_end_s=float(end_s if math.isfinite(end_s) else first["duration_s"] or 0.0),
        media=_media_record(first),
        payload=payload,
        sampling=settings.sampling,
        provenance=settings.provenance,
        rows=[_row_record(row, plan) for row, plan in zip(rows, plans, strict=True)],
    )
    return ReadyClip(record=record, data=data)


def _payload(
    row: dict[str, Any], plans: list[list[SamplingPlan]], settings: ShardSettings
) -> tuple[bytes | Path, PayloadRecord]:
    kind = row["modality"]
    if kind == Modality.TEXT:
        return b"", _payload_record(Payload.NONE, "", b"")
    if settings.payload is Payload.FRAMES:
        index_F = np.unique(np.concatenate([p.frame_index_F for own in plans for p in own]))
        data = pack_frames(
            _decode(row, index_F, settings),
            index_F,
            picture_format=settings.picture_format,
            quality=settings.quality,
        )
        record = _payload_record(Payload.FRAMES, FRAMES_SUFFIX, data, len(index_F), settings)
        return data, record
    path = _unchanged(row, trust_stamp=settings.payload is Payload.NONE)
    if settings.payload is Payload.NONE:
        return b"", _payload_record(Payload.NONE, "", b"")
    record = PayloadRecord(
        kind=Payload.VIDEO.value,
        suffix=FILE_SUFFIX[kind],
        num_bytes=row["num_bytes"],
        sha256=_file_sha256(path, row["media_id"]),
        picture_format="",
        width_px=0,
        height_px=0,
        num_frames=0,
    )
    return path, record


def _payload_record(
    kind: Payload,
    suffix: str,
    data: bytes,
    num_frames: int = 0,
    settings: ShardSettings | None = None,
) -> PayloadRecord:
    return PayloadRecord(
        kind=kind.value,
        suffix=suffix,
        num_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest() if suffix else "",
        picture_format=settings.picture_format if settings else "",
        width_px=settings.frame_px if settings else 0,
        height_px=settings.frame_px if settings else 0,
        num_frames=num_frames,
    )


def _unchanged(row: dict[str, Any], *, trust_stamp: bool) -> Path:
    """Find a clip's file, and check that it is what was pruned.

    Raises:
        MediaError: it is missing, unreadable, or another file by now.
    """
    path = Path(row["media_uri"])
    stamp = file_stamp(str(path))
    if not stamp:
        raise MediaError(Reason.MISSING, "the file is gone since the run was pruned")
    if trust_stamp and stamp == row["file_stamp"]:
        return path
    try:
        digest = content_digest(path)
    except OSError as error:
        raise MediaError(Reason.UNREADABLE, str(error)) from error
    if digest != row["media_id"]:
        num_bytes = int(stamp.partition("-")[0])
        raise MediaError(
            Reason.SOURCE_CHANGED,
            f"the file had {row['num_bytes']} bytes and digest {row['media_id']} when it was "
            f"pruned; now {num_bytes} bytes and {digest}",
        )
    return path


def _decode(
    row: dict[str, Any], index_F: NDArray[np.int64], settings: ShardSettings
) -> NDArray[np.uint8]:
    reader = _reader(settings.decode)
    probe = reader.probe(row["media_uri"], is_image=row["modality"] == Modality.IMAGE).value
    if probe.media.media_id != row["media_id"]:
        raise MediaError(
            Reason.SOURCE_CHANGED,
            f"digest {row['media_id']} when it was pruned, now {probe.media.media_id}",
        )
    size = FrameSize(width_px=settings.frame_px, height_px=settings.frame_px)
    return reader.decode(probe.media, probe.timeline.plan(index_F), size).frames_FHWC


@cache
def _reader(decode: DecodeConfig) -> MediaReader:
    """Keep one reader, and so one child process, for the life of a worker."""
    return MediaReader(decode)


def _file_sha256(path: Path, media_id: str) -> str:
    """Give a file's SHA-256; a small file's media_id has it already."""
    if media_id.startswith(_WHOLE_DIGEST):
        return media_id.removeprefix(_WHOLE_DIGEST)
    with path.open("rb") as file:
        return stream_sha256(file)


def _media_record(row: dict[str, Any]) -> MediaRecord:
    def text(name: str) -> str:
        return row[name] or ""

    def number(name: str) -> int:
        return int(row[name] or 0)

    def real(name: str) -> float:
        return float(row[name] or 0.0)

    return MediaRecord(
        media_id=text("media_id"),
        uri=row["media_uri"],
        num_bytes=number("num_bytes"),
        container=text("container"),
        codec=text("codec"),
        pixel_format=text("pixel_format"),
        width_px=number("width_px"),
        height_px=number("height_px"),
        fps=real("fps"),
        num_frames=number("num_frames"),
        duration_s=real("duration_s"),
        start_s=real("start_s"),
        rotation=number("rotation"),
        timeline=text("timeline"),
    )


def _row_record(row: dict[str, Any], plans: list[SamplingPlan]) -> RowRecord:
    score, threshold = (
        float("nan") if row[name] is None else float(row[name]) for name in ("score", "threshold")
    )
    return RowRecord(
        sample_id=row["sample_id"],
        dataset=row["dataset"],
        row=row["row"],
        task=row["task"],
        decision=row["decision"],
        reason=row["reason"],
        measure=row["measure"],
        has_score=math.isfinite(score),
        score=score if math.isfinite(score) else 0.0,
        has_threshold=math.isfinite(threshold),
        threshold=threshold if math.isfinite(threshold) else 0.0,
        exchanges=row["exchanges"],
        annotation=row["annotation"].decode(),
        plans=[
            PlanRecord(
                epoch=plan.epoch,
                policy=plan.policy,
                fps=float(plan.fps),
                frame_index=plan.frame_index_F.tolist(),
                time_s=plan.time_s_F.tolist(),
            )
            for plan in plans
        ],
    )
