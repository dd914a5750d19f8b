"""From a clip's kept rows to its record and payload, ready to be written into a shard."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vxp_data.core.sampling_plans import SamplingPlan, SamplingRule
from vxp_data.decoders.base import FrameSize
from vxp_data.errors import MediaError
from vxp_data.pipeline.media.reader import MediaReader
from vxp_data.pipeline.shard.frame_plans import draw_plans
from vxp_data.pipeline.shard.sources import MediaSources, changed
from vxp_data.records import Modality
from vxp_data.settings.prune import DecodeConfig, FetchConfig
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

Rows = Sequence[dict[str, Any]]
"""All kept rows of one clip, as `kept.kept_rows` gives them, in the order of the run."""
Plans = Sequence[Sequence[SamplingPlan]]
"""The plans of each of a clip's rows, one an epoch."""

_WHOLE_DIGEST: Final = "sha256:"
_DECODE_BYTES: Final = 256 << 20
"""Frames decoded at a time: 606 at 384 px."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardSettings:
    """What the workers must know."""

    payload: Payload
    frame_px: int
    """Side of the square to which frames are squashed, as SigLIP sees them; frames payload only."""
    image_format: str
    quality: int
    rule: SamplingRule
    num_epochs: int
    """Epochs whose plans are stored."""
    decode: DecodeConfig
    fetch: FetchConfig
    provenance: ProvenanceRecord

    @property
    def sampling(self) -> str:
        """Return the rule as the shard holds it."""
        return json.dumps(self.rule.to_dict(), separators=(",", ":"))


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadyClip:
    """A clip ready to be written: its record, and its payload's bytes or file.

    The payload's SHA-256 is '' in the record where it is not known before the payload is written:
    of frames, and of a file that is named by a sample of it. A file that was fetched is there until
    the next clip is made ready.
    """

    record: ClipRecord
    data: bytes | Path


def ready_clip(
    key: str, rows: Rows, settings: ShardSettings, broken: dict[str, MediaError]
) -> ReadyClip | None:
    """Plan a clip's rows and find its payload.

    Rows may name several files of equal content; the first by name that is as it was is taken.

    Args:
        key: the clip's.
        rows: all of its kept rows.
        settings: what goes in.
        broken: URIs of this clip that are not to be tried, and why; what fails is added.

    Returns:
        None where all files are broken.
    """
    plans = [draw_plans(row, settings.rule, settings.num_epochs) for row in rows]
    for row in sorted(rows, key=lambda row: str(row["media_uri"])):
        if row["media_uri"] in broken:
            continue
        try:
            data, payload = _payload(row, plans, settings)
        except MediaError as error:
            broken[row["media_uri"]] = error
        else:
            return ReadyClip(
                record=clip_record(key, row, rows, plans, payload, settings), data=data
            )
    return None


def clip_record(
    key: str,
    source: dict[str, Any],
    rows: Rows,
    plans: Plans,
    payload: PayloadRecord,
    settings: ShardSettings,
) -> ClipRecord:
    """Build a clip's record.

    Args:
        key: the clip's.
        source: that one of the rows whose file the payload is from.
        rows: all of its kept rows.
        plans: theirs.
        payload: what the payload's member is.
        settings: what goes in.
    """
    end_s = source["clip_end_s"]
    return ClipRecord(
        format_version=SHARD_FORMAT_VERSION,
        key=key,
        kind=source["modality"],
        clip_start_s=float(source["clip_start_s"]),
        clip_end_s=float(end_s if math.isfinite(end_s) else source["duration_s"] or 0.0),
        media=_media_record(source),
        payload=payload,
        sampling=settings.sampling,
        provenance=settings.provenance,
        rows=[_row_record(row, own) for row, own in zip(rows, plans, strict=True)],
    )


def payload_record(
    kind: str,
    settings: ShardSettings,
    *,
    num_bytes: int = 0,
    sha256: str = "",
    num_frames: int = 0,
    num_exact: int = 0,
) -> PayloadRecord:
    """Return what a clip's payload is; text has none, whatever is asked for.

    Args:
        kind: a value of `Modality`.
        settings: what goes in.
        num_bytes: of the payload.
        sha256: of the payload, 64 hex digits; '' where it is not known yet.
        num_frames: images, for frames.
        num_exact: see PayloadRecord.
    """
    payload = Payload.NONE if kind == Modality.TEXT else settings.payload
    suffix = {Payload.VIDEO: FILE_SUFFIX.get(kind, ""), Payload.FRAMES: FRAMES_SUFFIX}
    frame_px = settings.frame_px if payload is Payload.FRAMES else 0
    return PayloadRecord(
        kind=payload.value,
        suffix=suffix.get(payload, ""),
        num_bytes=num_bytes,
        sha256=sha256,
        image_format=settings.image_format if payload is Payload.FRAMES else "",
        width_px=frame_px,
        height_px=frame_px,
        num_frames=num_frames,
        num_exact=num_exact,
    )


def planned_frames(plans: Plans) -> NDArray[np.int64]:
    """Return the indices of all frames that any of a clip's plans names, each once, ascending."""
    return np.unique(np.concatenate([plan.frame_index_F for own in plans for plan in own]))


def _payload(
    row: dict[str, Any], plans: Plans, settings: ShardSettings
) -> tuple[bytes | Path, PayloadRecord]:
    kind = row["modality"]
    if kind == Modality.TEXT:
        return b"", payload_record(kind, settings)
    if settings.payload is Payload.FRAMES:
        return _frames_payload(row, planned_frames(plans), settings)
    path = _sources(settings.fetch).find(row, whole=settings.payload is Payload.VIDEO)
    if settings.payload is Payload.NONE:
        return b"", payload_record(kind, settings)
    named_by = row["media_id"]
    sha256 = named_by.removeprefix(_WHOLE_DIGEST) if named_by.startswith(_WHOLE_DIGEST) else ""
    return path, payload_record(kind, settings, num_bytes=row["num_bytes"], sha256=sha256)


def _frames_payload(
    row: dict[str, Any], index_F: NDArray[np.int64], settings: ShardSettings
) -> tuple[bytes, PayloadRecord]:
    num_exact = 0

    def frames() -> Iterator[tuple[int, NDArray[np.uint8]]]:
        nonlocal num_exact
        for index_B, frames_BHWC, exact in _decode(row, index_F, settings):
            num_exact += exact
            yield from zip(index_B.tolist(), frames_BHWC, strict=True)

    data = pack_frames(frames(), image_format=settings.image_format, quality=settings.quality)
    record = payload_record(
        row["modality"],
        settings,
        num_bytes=len(data),
        num_frames=len(index_F),
        num_exact=num_exact,
    )
    return data, record


def _decode(
    row: dict[str, Any], index_F: NDArray[np.int64], settings: ShardSettings
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint8], int]]:
    """Decode frames, some at a time: their indices, uint8 [B, H, W, 3], how many are exact."""
    reader = _reader(settings.decode, settings.fetch)
    try:
        probe = reader.probe(row["media_uri"], is_image=row["modality"] == Modality.IMAGE).value
        if probe.media.media_id != row["media_id"]:
            raise changed(row, probe.media.num_bytes, probe.media.media_id)
        size = FrameSize(width_px=settings.frame_px, height_px=settings.frame_px)
        at_once = max(1, _DECODE_BYTES // (3 * settings.frame_px**2))
        for first in range(0, len(index_F), at_once):
            index_B = index_F[first : first + at_once]
            planned = reader.decode(probe.media, probe.timeline.plan(index_B), size)
            yield index_B, planned.frames_FHWC, planned.num_exact
    finally:
        reader.release()


@cache
def _reader(decode: DecodeConfig, fetch: FetchConfig) -> MediaReader:
    """Keep one reader, and so one child process, for the life of a worker."""
    return MediaReader(decode, fetch)


@cache
def _sources(fetch: FetchConfig) -> MediaSources:
    return MediaSources(fetch)


def release_file(settings: ShardSettings) -> None:
    """Remove the file that was fetched for the last clip."""
    _sources(settings.fetch).release()


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


def _row_record(row: dict[str, Any], plans: Sequence[SamplingPlan]) -> RowRecord:
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
        conversation=row["turns"],
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
