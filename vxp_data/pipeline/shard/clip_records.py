"""From a clip's kept rows to its record and payload, ready to be written into a shard.

Rows about several media are rows about one tuple of clips, which has a payload for each.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
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
from vxp_data.pipeline.shard.frame_plans import draw_plans, media_of, rules_of
from vxp_data.pipeline.shard.sources import MediaSources, changed
from vxp_data.records import Modality
from vxp_data.settings.prune import DecodeConfig, FetchConfig
from vxp_data.shard_format import (
    FILE_SUFFIX,
    FRAMES_SUFFIX,
    MIXED,
    SHARD_FORMAT_VERSION,
    ClipRecord,
    MediaRecord,
    MixedRecord,
    MixedRowRecord,
    Payload,
    PayloadRecord,
    PlanRecord,
    ProvenanceRecord,
    RowRecord,
    ShardRecord,
    clip_key,
    payload_offsets,
)
from vxp_data.shards.frames_payload import pack_frames

Rows = Sequence[dict[str, Any]]
"""All kept rows of one clip, or tuple, as `kept_rows` gives them, in the order of the run."""
Medium = Mapping[str, Any]
"""Facts about one medium of a row: of `frame_plans.media_of`."""
Plans = Sequence[Sequence[Sequence[SamplingPlan]]]
"""The plans of each of the rows: of each medium one an epoch."""

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
        return stored_rule(self.rule)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadyClip:
    """A clip, or tuple of several, ready to be written: its record, its payloads' bytes or files.

    A payload's SHA-256 is '' in the record where it is not known before the payload is written: of
    frames, and of a file that is named by a sample of it. Files that were fetched are there until
    the next clip is made ready.
    """

    record: ShardRecord
    data: Sequence[bytes | Path]
    """Of each medium."""


def ready_clip(
    key: str, rows: Rows, settings: ShardSettings, broken: dict[str, MediaError]
) -> ReadyClip | None:
    """Plan a clip's rows and find its payloads.

    Rows may name several files of equal content; the first by name that is as it was is taken.

    Args:
        key: the clip's.
        rows: all of its kept rows.
        settings: what goes in.
        broken: URIs of this clip that are not to be tried, and why; what fails is added.

    Returns:
        None where all files of a medium are broken.
    """
    release_files(settings)
    plans = [draw_plans(row, settings.rule, settings.num_epochs) for row in rows]
    sources, data, payloads = [], [], []
    for medium, files in enumerate(zip(*(media_of(row) for row in rows), strict=True)):
        index_F = planned_frames(plans, medium)
        found = _first_whole(files, index_F, settings, broken)
        if found is None:
            return None
        sources.append(found[0])
        data.append(found[1])
        payloads.append(found[2])
    record = shard_record(key, rows, sources, payloads, settings, plans)
    return ReadyClip(record=record, data=data)


def shard_record(
    key: str,
    rows: Rows,
    sources: Sequence[Medium],
    payloads: Sequence[PayloadRecord],
    settings: ShardSettings,
    plans: Plans,
) -> ShardRecord:
    """Build the record of a clip, or of a tuple of several.

    Args:
        key: its own.
        rows: all of its kept rows.
        sources: of each medium, that one of the rows' files which the payload is from.
        payloads: what each medium's payload is.
        settings: what goes in.
        plans: of the rows.
    """
    if not rows[0]["clips"]:
        return _clip_record(
            key,
            sources[0] if sources else rows[0],
            payloads[0] if payloads else payload_record(Modality.TEXT, settings),
            settings,
            settings.rule,
            [
                RowRecord(**_row_values(row), plans=[_plan_record(p) for one in own for p in one])
                for row, own in zip(rows, plans, strict=True)
            ],
        )
    rules = rules_of(rows[0], settings.rule)
    return MixedRecord(
        format_version=SHARD_FORMAT_VERSION,
        key=key,
        kind=MIXED,
        clips=[
            _clip_record(key_of_medium(source), source, payload, settings, rule, [])
            for source, payload, rule in zip(sources, payloads, rules, strict=True)
        ],
        payload_offset=payload_offsets(payloads),
        sampling=settings.sampling,
        provenance=settings.provenance,
        rows=[
            MixedRowRecord(
                **_row_values(row), plans=[[_plan_record(p) for p in of_one] for of_one in own]
            )
            for row, own in zip(rows, plans, strict=True)
        ],
    )


def key_of_medium(medium: Medium, *, sample_id: str = "") -> str:
    """Name a medium's clip: see `shard_format.clip_key`."""
    return clip_key(
        medium["modality"],
        media_id=medium["media_id"] or "",
        clip_start_s=medium["clip_start_s"],
        clip_end_s=medium["clip_end_s"],
        sample_id=sample_id,
    )


def stored_rule(rule: SamplingRule) -> str:
    """Return a rule as shards hold it."""
    return json.dumps(rule.to_dict(), separators=(",", ":"))


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


def planned_frames(plans: Plans, medium: int) -> NDArray[np.int64]:
    """Return the indices of all frames of a medium that any plan names, each once, ascending."""
    return np.unique(np.concatenate([plan.frame_index_F for own in plans for plan in own[medium]]))


def _first_whole(
    files: Sequence[Medium],
    index_F: NDArray[np.int64],
    settings: ShardSettings,
    broken: dict[str, MediaError],
) -> tuple[Medium, bytes | Path, PayloadRecord] | None:
    """Return the first file of equal ones that is as it was, and its payload; None: none is."""
    for medium in sorted(files, key=lambda medium: str(medium["media_uri"])):
        if medium["media_uri"] in broken:
            continue
        try:
            return medium, *_payload(medium, index_F, settings)
        except MediaError as error:
            broken[medium["media_uri"]] = error
    return None


def _payload(
    medium: Medium, index_F: NDArray[np.int64], settings: ShardSettings
) -> tuple[bytes | Path, PayloadRecord]:
    if settings.payload is Payload.FRAMES:
        return _frames_payload(medium, index_F, settings)
    path = _sources(settings.fetch).find(medium, whole=settings.payload is Payload.VIDEO)
    kind, named_by = medium["modality"], medium["media_id"]
    if settings.payload is Payload.NONE:
        return b"", payload_record(kind, settings)
    sha256 = named_by.removeprefix(_WHOLE_DIGEST) if named_by.startswith(_WHOLE_DIGEST) else ""
    return path, payload_record(kind, settings, num_bytes=medium["num_bytes"], sha256=sha256)


def _frames_payload(
    medium: Medium, index_F: NDArray[np.int64], settings: ShardSettings
) -> tuple[bytes, PayloadRecord]:
    num_exact = 0

    def frames() -> Iterator[tuple[int, NDArray[np.uint8]]]:
        nonlocal num_exact
        for index_B, frames_BHWC, exact in _decode(medium, index_F, settings):
            num_exact += exact
            yield from zip(index_B.tolist(), frames_BHWC, strict=True)

    data = pack_frames(frames(), image_format=settings.image_format, quality=settings.quality)
    record = payload_record(
        medium["modality"],
        settings,
        num_bytes=len(data),
        num_frames=len(index_F),
        num_exact=num_exact,
    )
    return data, record


def _decode(
    medium: Medium, index_F: NDArray[np.int64], settings: ShardSettings
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint8], int]]:
    """Decode frames, some at a time: their indices, uint8 [B, H, W, 3], how many are exact."""
    reader = _reader(settings.decode, settings.fetch)
    try:
        is_image = medium["modality"] == Modality.IMAGE
        probe = reader.probe(medium["media_uri"], is_image=is_image).value
        if probe.media.media_id != medium["media_id"]:
            raise changed(medium, probe.media.num_bytes, probe.media.media_id)
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


def release_files(settings: ShardSettings) -> None:
    """Remove the files that were fetched for the last clip."""
    _sources(settings.fetch).release()


def _clip_record(
    key: str,
    source: Medium,
    payload: PayloadRecord,
    settings: ShardSettings,
    rule: SamplingRule,
    rows: list[RowRecord],
) -> ClipRecord:
    end_s = source["clip_end_s"]
    return ClipRecord(
        format_version=SHARD_FORMAT_VERSION,
        key=key,
        kind=source["modality"],
        clip_start_s=float(source["clip_start_s"]),
        clip_end_s=float(end_s if math.isfinite(end_s) else source["duration_s"] or 0.0),
        media=_media_record(source),
        payload=payload,
        sampling=stored_rule(rule),
        provenance=settings.provenance,
        rows=rows,
    )


def _media_record(medium: Medium) -> MediaRecord:
    def text(name: str) -> str:
        return medium[name] or ""

    def number(name: str) -> int:
        return int(medium[name] or 0)

    def real(name: str) -> float:
        return float(medium[name] or 0.0)

    return MediaRecord(
        media_id=text("media_id"),
        uri=medium["media_uri"],
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


def _row_values(row: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a RowRecordBase."""
    score, threshold = (
        float("nan") if row[name] is None else float(row[name]) for name in ("score", "threshold")
    )
    same = ("sample_id", "dataset", "row", "task", "decision", "reason", "measure")
    return {name: row[name] for name in same} | {
        "has_score": math.isfinite(score),
        "score": score if math.isfinite(score) else 0.0,
        "has_threshold": math.isfinite(threshold),
        "threshold": threshold if math.isfinite(threshold) else 0.0,
        "conversation": row["turns"],
        "annotation": row["annotation"].decode(),
    }


def _plan_record(plan: SamplingPlan) -> PlanRecord:
    return PlanRecord(
        epoch=plan.epoch,
        policy=plan.policy,
        fps=float(plan.fps),
        frame_index=plan.frame_index_F.tolist(),
        time_s=plan.time_s_F.tolist(),
    )
