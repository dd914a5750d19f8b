"""What a shard holds: the contract between `vxp_data`, which writes it, and `vxp_model`.

A shard is a plain WebDataset tar. A sample of the tar is one *clip* (a media, or a part of one)
with every kept annotation row about it:

* `<key>.json`: a `ClipRecord`. Every field is always there with one type, never null: readers
  that infer a schema from the first samples (Hugging Face's) then read all of them. Lists are empty
  in text shards only.
* the payload, one member, by kind and by `Payload`: `<key>.video` or `<key>.image` (the file's own
  bytes, whatever its container), `<key>.frames.tar` (the planned frames as images), or nothing.

Rows about several media at once lie in shards of kind `mixed`: there a sample is a tuple of clips,
`<key>.json` a `MixedRecord`, and each clip's payload a member of its own, `<key>.0.video`,
`<key>.1.image`, `<key>.2.frames.tar`, by its place in the tuple.

Videos, images, text-only and mixed rows lie in shards of their own. `index.json` names every shard
and `samples.parquet` every row with its position in the tars; a shard that the index does not name
does not exist. `docs/shards-and-loader.md` describes the format for readers of other languages.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

from vxp_data.records import Modality
from vxp_data.shard_format_1 import clip_of_format_1
from vxp_data.strict_json import plain_fields, read_fields

SHARD_FORMAT_VERSION: Final = 2
"""Raised when the meaning of a member, a field or the index changes. Read: this one, and 1."""
FORMAT_1: Final = 1
"""Differs in names of fields, in columns of `samples.parquet`, in how a conversation is stored, and
in the rule by which frames of later epochs are drawn."""

INDEX_NAME: Final = "index.json"
SAMPLES_NAME: Final = "samples.parquet"
QUARANTINE_NAME: Final = "quarantine.parquet"
JSON_SUFFIX: Final = "json"
FRAMES_SUFFIX: Final = "frames.tar"
FILE_SUFFIX: Final[Mapping[str, str]] = {Modality.VIDEO: "video", Modality.IMAGE: "image"}
"""Suffix of a file's own bytes, by kind."""
MIXED: Final = "mixed"
"""Kind of rows about several media at once, and of their shards."""
_TAR_BLOCK: Final = 512
"""Bytes of a tar's header of a member; a member's own are filled up to a multiple."""


class Payload(StrEnum):
    """What a shard carries of each clip beside its JSON."""

    VIDEO = "video"
    """The file's own bytes."""
    FRAMES = "frames"
    """The planned frames, as JPEG or WebP images: training decodes no video."""
    NONE = "none"
    """Nothing: the trainer reads the file at its URI."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRecord:
    """The frames of one row in one epoch: the sampling plan, drawn once, used unchanged."""

    epoch: int
    policy: str
    fps: float
    """The rate drawn, frames per second; 0 where frames are uniform over the clip."""
    frame_index: list[int]
    """Indices in the file's presentation order, from 0, strictly increasing."""
    time_s: list[float]
    """Seconds since the file's first presented frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowRecordBase:
    """One kept annotation row, but for its plans."""

    sample_id: str
    dataset: str
    row: int
    """Index in its dataset's manifest, from 0."""
    task: str
    decision: str
    reason: str
    measure: str
    has_score: bool
    score: float
    """In the measure's own units; 0 where `has_score` is false (images, text)."""
    has_threshold: bool
    threshold: float
    conversation: str
    """The conversation as JSON, whatever the manifest's layout: see `vxp_data.conversation`. The
    place of each medium in it is a part of its own."""
    annotation: str
    """The row as the manifest has it (Parquet: as JSON)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowRecord(RowRecordBase):
    """One kept annotation row about one clip, or about none."""

    plans: list[PlanRecord]
    """One an epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MixedRowRecord(RowRecordBase):
    """One kept annotation row about several media."""

    plans: list[list[PlanRecord]]
    """Of each medium one an epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaRecord:
    """Facts about the file; empty text and 0 for text-only rows. See `records.Media`."""

    media_id: str
    uri: str
    num_bytes: int
    container: str
    codec: str
    pixel_format: str
    width_px: int
    height_px: int
    fps: float
    num_frames: int
    duration_s: float
    start_s: float
    rotation: int
    timeline: str
    """Every frame's time, packed; see `core.timeline`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PayloadRecord:
    """What the payload member is."""

    kind: str
    """A value of `Payload`; 'none' in text shards."""
    suffix: str
    """Of the payload's member; '' where there is none."""
    num_bytes: int
    sha256: str
    """64 hex digits; '' where there is none."""
    image_format: str
    """'jpeg' or 'webp' for frames, else ''."""
    width_px: int
    """Of a frame, for frames; else 0."""
    height_px: int
    num_frames: int
    """Images in a frames payload; else 0."""
    num_exact: int
    """Those that show the frame they are named by; another, whose frame could not be decoded, shows
    the nearest earlier planned one that could (the nearest later one, where there is none)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvenanceRecord:
    """Where it all comes from."""

    run: str
    """Digest of the pruned run's settings and inputs."""
    encoder: str
    sampler: str
    vxp_version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipRecord:
    """`<key>.json`: a clip and every kept row about it."""

    format_version: int
    """As stored: frames of other epochs are drawn by the rule of this format."""
    key: str
    kind: str
    """A value of `records.Modality`."""
    clip_start_s: float
    clip_end_s: float
    """Seconds; the file's duration for a whole file, never infinity."""
    media: MediaRecord
    payload: PayloadRecord
    sampling: str
    """The sampling rule, as JSON: other epochs' plans are drawn from it."""
    provenance: ProvenanceRecord
    rows: list[RowRecord]

    def to_json(self) -> bytes:
        """Write as one line of JSON: the same record gives the same bytes."""
        return _line(self)

    @classmethod
    def from_json(cls, data: bytes) -> ClipRecord:
        """Read what `to_json` wrote, or the record of format 1 with today's fields.

        Raises:
            ValueError: it is not a clip record of these formats; the message names the field.
        """
        return _clip_record(of_known_format(data))

    @property
    def media_clips(self) -> list[ClipRecord]:
        """The clips of its media: itself, or none for text."""
        return [] if self.kind == Modality.TEXT else [self]

    def plans_of(self, place: int) -> list[list[PlanRecord]]:
        """Return the plans of the row at a place in `rows`: of each medium one an epoch."""
        return [] if self.kind == Modality.TEXT else [self.rows[place].plans]

    def payload_name(self, medium: int) -> str:
        """Return the name of a medium's payload in the tar; '' where it has none."""
        del medium
        return f"{self.key}.{self.payload.suffix}" if self.payload.suffix else ""

    def with_payloads(self, payloads: Sequence[PayloadRecord]) -> ClipRecord:
        """Return the record with other payloads, one a medium."""
        return replace(self, payload=payloads[0]) if payloads else self


@dataclass(frozen=True, slots=True, kw_only=True)
class MixedRecord:
    """`<key>.json` in a mixed shard: several media in order, and every kept row about them all."""

    format_version: int
    key: str
    kind: str
    """'mixed'."""
    clips: list[ClipRecord]
    """The media, in the rows' order; each with a key, a payload and a sampling rule of its own, the
    rule's cap being its share of the row's, and without rows."""
    payload_offset: list[int]
    """Where each payload begins, bytes after the beginning of the first; 0 where there is none."""
    sampling: str
    """The sampling rule of a whole row, as JSON; see `core.frame_shares`."""
    provenance: ProvenanceRecord
    rows: list[MixedRowRecord]

    def to_json(self) -> bytes:
        """Write as one line of JSON: the same record gives the same bytes."""
        return _line(self)

    @classmethod
    def from_json(cls, data: bytes) -> MixedRecord:
        """Read what `to_json` wrote.

        Raises:
            ValueError: it is not a record of several media; the message names the field.
        """
        return _mixed_record(of_known_format(data))

    @property
    def media_clips(self) -> list[ClipRecord]:
        """The clips of its media."""
        return self.clips

    def plans_of(self, place: int) -> list[list[PlanRecord]]:
        """Return the plans of the row at a place in `rows`: of each medium one an epoch."""
        return self.rows[place].plans

    def payload_name(self, medium: int) -> str:
        """Return the name of a medium's payload in the tar; '' where it has none."""
        suffix = self.clips[medium].payload.suffix
        return f"{self.key}.{medium}.{suffix}" if suffix else ""

    def with_payloads(self, payloads: Sequence[PayloadRecord]) -> MixedRecord:
        """Return the record with other payloads, one a medium."""
        pairs = zip(self.clips, payloads, strict=True)
        return replace(
            self,
            clips=[replace(clip, payload=payload) for clip, payload in pairs],
            payload_offset=payload_offsets(payloads),
        )


ShardRecord = ClipRecord | MixedRecord
"""What `<key>.json` may hold."""


def read_record(data: bytes) -> ShardRecord:
    """Read the record of a sample of the tar, whatever its kind.

    Raises:
        ValueError: it is no record of these formats; the message names the field.
    """
    value = of_known_format(data)
    return _mixed_record(value) if value.get("kind") == MIXED else _clip_record(value)


def payload_offsets(payloads: Sequence[PayloadRecord]) -> list[int]:
    """Return where the payloads of one record begin, bytes after the beginning of the first.

    They follow each other in the tar, each after a header of its own; one that there is not is at
    0.
    """
    offsets, at = [], 0
    for payload in payloads:
        offsets.append(at if payload.suffix else 0)
        if payload.suffix:
            at += -(-payload.num_bytes // _TAR_BLOCK) * _TAR_BLOCK + _TAR_BLOCK
    return offsets


def selection_version(format_version: int) -> int:
    """Return by which rule a shard's plans are drawn: `core.frame_sampling.SELECTION_VERSION`."""
    return 1 if format_version == FORMAT_1 else 2


def clip_key(
    kind: str, *, media_id: str, clip_start_s: float, clip_end_s: float, sample_id: str
) -> str:
    """Name a clip by its content: 24 hex digits, the same wherever and whenever it is written.

    Two files of equal content are one clip, so their rows share one payload.

    Args:
        kind: a value of records.Modality.
        media_id: the file's digest; '' for a text-only row.
        clip_start_s: start of the part, 0 for the file's.
        clip_end_s: its end, infinity for the file's.
        sample_id: names a text-only row; not looked at where there is a file.
    """
    end = "end" if math.isinf(clip_end_s) else repr(float(clip_end_s))
    what = media_id or sample_id
    text = "\0".join((kind, what, repr(float(clip_start_s)), end))
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def mixed_key(clip_keys: Sequence[str]) -> str:
    """Name several media at once by the keys of their clips, in order: 24 hex digits."""
    return hashlib.sha256("\0".join((MIXED, *clip_keys)).encode()).hexdigest()[:24]


def frame_name(frame_index: int, image_format: str) -> str:
    """Name an image in a frames payload by its index in the file's presentation order."""
    return f"{frame_index:08d}.{image_format}"


def of_known_format(data: bytes) -> dict[str, Any]:
    """Read the JSON of a record or an index.

    Raises:
        ValueError: it is of no format that this version reads.
    """
    value = json.loads(data)
    version = value.get("format_version") if isinstance(value, dict) else None
    if version not in (FORMAT_1, SHARD_FORMAT_VERSION):
        raise ValueError(
            f"format_version is {version!r}; this version reads {FORMAT_1} and "
            f"{SHARD_FORMAT_VERSION}"
        )
    known: dict[str, Any] = value
    return known


def _clip_record(value: dict[str, Any]) -> ClipRecord:
    if value["format_version"] == FORMAT_1:
        value = clip_of_format_1(value)
    record: ClipRecord = read_fields(ClipRecord, value, "")
    return record


def _mixed_record(value: dict[str, Any]) -> MixedRecord:
    if value["format_version"] == FORMAT_1:
        raise ValueError(f"kind is {MIXED!r}, which format {FORMAT_1} does not have")
    record: MixedRecord = read_fields(MixedRecord, value, "")
    kinds = [clip.kind for clip in record.clips]
    if len(kinds) < 2 or not set(kinds) <= set(FILE_SUFFIX):
        raise ValueError(f"clips are of kinds {kinds}, wanted two or more, videos and images")
    wanted = payload_offsets([clip.payload for clip in record.clips])
    if record.payload_offset != wanted:
        raise ValueError(f"payload_offset is {record.payload_offset}, wanted {wanted}")
    for place, row in enumerate(record.rows):
        if len(row.plans) != len(kinds):
            raise ValueError(
                f"rows[{place}].plans are of {len(row.plans)} media, wanted {len(kinds)}"
            )
    return record


def _line(record: ShardRecord) -> bytes:
    text = json.dumps(
        record, default=plain_fields, ensure_ascii=False, separators=(",", ":"), allow_nan=False
    )
    return text.encode()
