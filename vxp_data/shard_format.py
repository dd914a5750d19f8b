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
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from functools import cache
from typing import Any, Final, get_args, get_origin, get_type_hints

from vxp_data.conversation import Role, conversation_from_json
from vxp_data.media_markers import num_markers
from vxp_data.records import Modality
from vxp_data.shard_format_1 import clip_of_format_1

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
        return _clip_record(_of_known_format(data))

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
        return _mixed_record(_of_known_format(data))

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
    value = _of_known_format(data)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardEntry:
    """One shard in the index."""

    name: str
    kind: str
    num_clips: int
    num_samples: int
    num_frames: int
    """Planned frames of the first stored epoch, over all rows."""
    num_bytes: int
    decode_cost: float
    """What one epoch costs to decode, each row once: megapixels, see
    `core.shard_planning.decode_cost`."""
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TableEntry:
    """A Parquet file beside the shards."""

    name: str
    num_rows: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardIndex:
    """`index.json`: written last; what it does not name does not exist."""

    format_version: int
    payload: str
    num_epochs: int
    """Epochs whose plans are stored in the shards, 1 or more."""
    sampling: str
    provenance: ProvenanceRecord
    samples: TableEntry
    quarantine: TableEntry
    quarantined_by_reason: dict[str, int]
    shards: list[ShardEntry]

    def to_json(self) -> bytes:
        """Write as indented JSON: the same index gives the same bytes."""
        text = json.dumps(self, default=_plain, ensure_ascii=False, indent=1)
        return f"{text}\n".encode()

    @classmethod
    def from_json(cls, data: bytes) -> ShardIndex:
        """Read what `to_json` wrote, or an index of format 1, which has the same fields.

        Raises:
            ValueError: it is not an index of these formats; the message names the field.
        """
        index: ShardIndex = _read(cls, _of_known_format(data), "")
        return index


SAMPLE_COLUMNS: Final[Mapping[str, str]] = {
    "shard": "int32",  # index in ShardIndex.shards
    "key": "string",
    "place": "int32",  # index in ClipRecord.rows
    "sample_id": "string",
    "task": "string",
    "json_offset": "int64",  # of the member's bytes in the tar
    "json_bytes": "int64",
    "payload_offset": "int64",
    "payload_bytes": "int64",  # 0 without payload; of several, to the end of the last one
    "num_frames": "int32",  # of the first stored plan, of all media
    "dataset": "string",
    "num_answers": "int32",  # turns that a model learns to say, blank ones not counted
    "text_bytes": "int64",  # of all turns, UTF-8
    "answer_bytes": "int64",  # of the assistant's turns
    "num_media": "int32",
    "num_markers": "int32",  # see media_markers.num_markers
}
"""Columns of samples.parquet, one row an annotation row, in the order of the shards: what a loader
needs to find any sample without reading a tar from its beginning, and what tells of each row's
words whether it can be trained on."""
_SINCE_2: Final = frozenset(
    {"dataset", "num_answers", "text_bytes", "answer_bytes", "num_media", "num_markers"}
)


def selection_version(format_version: int) -> int:
    """Return by which rule a shard's plans are drawn: `core.frame_sampling.SELECTION_VERSION`."""
    return 1 if format_version == FORMAT_1 else 2


def sample_columns(format_version: int) -> dict[str, str]:
    """Return the columns of samples.parquet, and their types, in a format."""
    without = _SINCE_2 if format_version == FORMAT_1 else frozenset[str]()
    return {name: kind for name, kind in SAMPLE_COLUMNS.items() if name not in without}


def word_counts(row: RowRecordBase, *, num_media: int) -> dict[str, int]:
    """Return what samples.parquet says of a row's words and media.

    Args:
        row: the row.
        num_media: how many media it is about.

    Raises:
        ValueError: its conversation is none.
    """
    turns = conversation_from_json(row.conversation)
    answers = [turn for turn in turns if turn.role is Role.ASSISTANT]
    return {
        "num_answers": sum(not turn.is_blank for turn in answers),
        "text_bytes": sum(len(turn.text.encode()) for turn in turns),
        "answer_bytes": sum(len(turn.text.encode()) for turn in answers),
        "num_media": num_media,
        "num_markers": num_markers(turns),
    }


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


def _of_known_format(data: bytes) -> dict[str, Any]:
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
    record: ClipRecord = _read(ClipRecord, value, "")
    return record


def _mixed_record(value: dict[str, Any]) -> MixedRecord:
    if value["format_version"] == FORMAT_1:
        raise ValueError(f"kind is {MIXED!r}, which format {FORMAT_1} does not have")
    record: MixedRecord = _read(MixedRecord, value, "")
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
        record, default=_plain, ensure_ascii=False, separators=(",", ":"), allow_nan=False
    )
    return text.encode()


def _plain(record: Any) -> dict[str, Any]:
    """Return a record's fields; its own records are the caller's, and lists are not copied."""
    return {field.name: getattr(record, field.name) for field in fields(record)}


def _read(kind: Any, value: Any, where: str) -> Any:
    """Build a record, a list of records or a plain value of exactly the type declared."""
    if hasattr(kind, "__dataclass_fields__"):
        if not isinstance(value, dict):
            raise ValueError(f"{where or 'the record'} is {type(value).__name__}, not an object")
        names = {field.name for field in fields(kind)}
        if names != set(value):
            missing, unknown = sorted(names - set(value)), sorted(set(value) - names)
            raise ValueError(f"{where or 'the record'}: missing {missing}, unknown {unknown}")
        hints = _hints(kind)
        prefix = f"{where}." if where else ""
        return kind(**{name: _read(hints[name], value[name], prefix + name) for name in names})
    outer, inner = get_origin(kind) or kind, get_args(kind)
    if type(value) is not outer:
        raise ValueError(f"{where} is {type(value).__name__} {value!r:.40}, not {outer.__name__}")
    if outer is list:
        return [_read(inner[0], item, f"{where}[{i}]") for i, item in enumerate(value)]
    if outer is dict:
        return {key: _read(inner[1], item, f"{where}[{key!r}]") for key, item in value.items()}
    return value


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)
