"""The records that cross layers; their Arrow schemas are in `schemas`.

Identity: a *sample* is an annotation row; a *media* is a file; a *clip* is a media from
`clip_start_s` to `clip_end_s` (0 and infinity for the whole file). Many samples share one clip.
Clips are decoded, embedded and scored once; decisions are made per sample, in its task subset.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Outcome(StrEnum):
    """Where a sample ends. Every input row ends in exactly one of these."""

    KEEP = "keep"
    PRUNE = "prune"
    DUPLICATE = "duplicate"
    QUARANTINE = "quarantine"


class Task(StrEnum):
    """The task subsets of the paper (section 3.3); a recipe may name others."""

    CAPTION = "caption"
    MULTIPLE_CHOICE = "multiple_choice"
    OPEN_ENDED = "open_ended"


ClipKey = tuple[str, float, float]
"""A clip: (uri, clip_start_s, clip_end_s), seconds; end inf: to the end of the file."""


class Modality(StrEnum):
    """What a sample's media is."""

    VIDEO = "video"
    IMAGE = "image"
    TEXT = "text"


class Reason(StrEnum):
    """Why a sample ended where it did: a closed set, but for filters' own (OWN_REASON)."""

    # keep
    WITHIN_THRESHOLD = "within_threshold"
    IMAGE = "image"  # one image has nothing to be redundant with
    TEXT_ONLY = "text_only"  # no media at all
    KEPT_UNSCORED = "kept_unscored"  # the user's scores have none for it: `missing: keep`
    # prune
    REDUNDANT = "redundant"
    NOT_SELECTED = "not_selected"  # by a selector, or by the user's scores
    UNSCORED = "unscored"  # the user's scores have none for it: `missing: drop`
    DATASET_EXCESS = "dataset_excess"  # more of its dataset than the mixture's rows
    # prune, by a rule of `filters`
    TOO_SHORT = "too_short"
    TOO_LONG = "too_long"
    LOW_RESOLUTION = "low_resolution"
    STATIC = "static"
    BLANK = "blank"
    INEXACT_FRAMES = "inexact_frames"
    NO_AUDIO = "no_audio"
    TOO_MANY_SCENES = "too_many_scenes"
    CAPTION_TOO_SHORT = "caption_too_short"
    CAPTION_TOO_LONG = "caption_too_long"
    CAPTION_REPETITIVE = "caption_repetitive"
    CAPTION_UNLIKE_IMAGE = "caption_unlike_image"
    PLACEHOLDER_TEXT = "placeholder_text"
    WRONG_LANGUAGE = "wrong_language"
    EMPTY_ANSWER = "empty_answer"
    NO_OPTIONS = "no_options"
    ANSWER_NOT_AN_OPTION = "answer_not_an_option"
    ANSWER_IN_QUESTION = "answer_in_question"
    REPEATED_QUESTION = "repeated_question"
    ANSWER_TOO_SHORT = "answer_too_short"
    ANSWER_TOO_LONG = "answer_too_long"
    NEEDS_NO_TIME = "needs_no_time"
    QUESTION_TYPE_EXCESS = "question_type_excess"  # more of its type than the balance has
    # duplicate
    SAME_CONTENT = "same_content"  # the same bytes
    NEAR_DUPLICATE = "near_duplicate"  # another encoding of it
    CONTAINED = "contained"  # a part of it
    IN_EVALUATION = "in_evaluation"  # of what `duplicates.exclude` names
    # quarantine: the row
    BAD_ROW = "bad_row"
    # quarantine: the file
    MISSING = "missing"
    FETCH_FAILED = "fetch_failed"  # the store failed at every attempt
    UNREADABLE = "unreadable"
    EMPTY = "empty"
    FORBIDDEN = "forbidden"
    TOO_LARGE = "too_large"
    NOT_VIDEO = "not_video"
    NO_VIDEO_STREAM = "no_video_stream"
    NO_FRAMES = "no_frames"
    OUTSIDE_CLIP = "outside_clip"
    SOURCE_CHANGED = "source_changed"  # since it was pruned
    ENCRYPTED = "encrypted"
    TRUNCATED = "truncated"
    CORRUPT = "corrupt"
    # quarantine: the decode
    UNSUPPORTED = "unsupported"
    DECODE_FAILED = "decode_failed"
    INEXACT = "inexact"  # too many frames did not come; see decode.max_inexact_share
    TIMEOUT = "timeout"
    CRASHED = "crashed"
    OUT_OF_MEMORY = "out_of_memory"


KEEP_REASONS: Final = frozenset(
    {Reason.WITHIN_THRESHOLD, Reason.IMAGE, Reason.TEXT_ONLY, Reason.KEPT_UNSCORED}
)
FILTER_REASONS: Final = frozenset(
    {
        Reason.TOO_SHORT,
        Reason.TOO_LONG,
        Reason.LOW_RESOLUTION,
        Reason.STATIC,
        Reason.BLANK,
        Reason.INEXACT_FRAMES,
        Reason.NO_AUDIO,
        Reason.TOO_MANY_SCENES,
        Reason.CAPTION_TOO_SHORT,
        Reason.CAPTION_TOO_LONG,
        Reason.CAPTION_REPETITIVE,
        Reason.CAPTION_UNLIKE_IMAGE,
        Reason.PLACEHOLDER_TEXT,
        Reason.WRONG_LANGUAGE,
        Reason.EMPTY_ANSWER,
        Reason.NO_OPTIONS,
        Reason.ANSWER_NOT_AN_OPTION,
        Reason.ANSWER_IN_QUESTION,
        Reason.REPEATED_QUESTION,
        Reason.ANSWER_TOO_SHORT,
        Reason.ANSWER_TOO_LONG,
        Reason.NEEDS_NO_TIME,
        Reason.QUESTION_TYPE_EXCESS,
    }
)
PRUNE_REASONS: Final = FILTER_REASONS | {
    Reason.REDUNDANT,
    Reason.NOT_SELECTED,
    Reason.UNSCORED,
    Reason.DATASET_EXCESS,
}
CUT_REASONS: Final = frozenset({Reason.WITHIN_THRESHOLD, Reason.REDUNDANT, Reason.NOT_SELECTED})
"""Of rows about which a threshold decided."""
DUPLICATE_REASONS: Final = frozenset(
    {Reason.SAME_CONTENT, Reason.NEAR_DUPLICATE, Reason.CONTAINED, Reason.IN_EVALUATION}
)
QUARANTINE_REASONS: Final = frozenset(Reason) - KEEP_REASONS - PRUNE_REASONS - DUPLICATE_REASONS

OWN_REASON: Final = re.compile(r"filter:[a-z0-9][a-z0-9_.-]*")
"""What a filter may say instead of a member of FILTER_REASONS: 'filter:', then words of its own.
The beginning keeps it apart from every reason that is ours, also from those to come."""


def is_filter_reason(reason: str) -> bool:
    """Whether a filter may give this reason: one of FILTER_REASONS, or one of its own."""
    return reason in FILTER_REASONS or OWN_REASON.fullmatch(reason) is not None


def is_excluding(reason: str) -> bool:
    """Whether rows go for this reason before a threshold is applied."""
    return reason in DUPLICATE_REASONS or reason == Reason.UNSCORED or is_filter_reason(reason)


def outcome_of(reason: str) -> Outcome | None:
    """Return where every sample with this reason ends; None: there is no such reason."""
    if reason in KEEP_REASONS:
        return Outcome.KEEP
    if reason in DUPLICATE_REASONS:
        return Outcome.DUPLICATE
    if reason in QUARANTINE_REASONS:
        return Outcome.QUARANTINE
    if reason in PRUNE_REASONS or is_filter_reason(reason):
        return Outcome.PRUNE
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleClip:
    """One medium of a row that has several, and the part of it that the row is about."""

    modality: Modality
    media_uri: str
    clip_start_s: float = 0.0
    clip_end_s: float = math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One annotation row of a manifest.

    `sample_id` is unique in a run. `media_uri` is empty for a text-only row; where a row has
    several media, it and the clip's limits are those of the first video, or else of the first
    image. A row that cannot be used carries `reason` and `message` and goes straight to quarantine.
    """

    sample_id: str
    dataset: str
    row: int
    """Index of the row in its dataset's manifest, from 0."""
    task: str
    task_origin: str
    """How the task was found: 'dataset', 'field', 'map' or 'rule'."""
    modality: Modality
    media_uri: str
    clip_start_s: float = 0.0
    clip_end_s: float = math.inf
    clips: tuple[SampleClip, ...] = ()
    """All media of a row that has several, in the row's order; empty for any other row. The row
    stands and falls with the whole of them."""
    turns: str = "[]"
    """The conversation as JSON, see `vxp_data.conversation`. Options follow their question as lines
    'A. ...'; a caption is an answer without a question."""
    annotation: bytes
    """The row as the manifest has it, byte for byte (Parquet: the row as JSON)."""
    reason: Reason | None = None
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaLimits:
    """What a file may hold at most; one beyond is quarantined as `too_large`, undecoded."""

    max_pixels: int = 1 << 27
    """Of a coded image: 134 megapixels, four times 8K."""
    max_frames: int = 20_000_000
    """Four days at 60 frames a second."""
    max_streams: int = 256
    """Video, audio, subtitles and data together."""
    max_duration_s: float = 7 * 86400.0
    """From the first presented frame to the end, seconds: a week."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """Facts about one file, from its header and one demux-only pass. Unknown numbers are 0."""

    media_id: str
    uri: str
    num_bytes: int = 0
    container: str = ""
    codec: str = ""
    pixel_format: str = ""
    width_px: int = 0
    """Displayed width: after pixel aspect and rotation."""
    height_px: int = 0
    """Displayed height."""
    fps: float = 0.0
    """Frames over duration, measured, not the header's."""
    num_frames: int = 0
    """Packets of the video stream without the discard flag; two with a field each are one, and
    MPEG-TS and MPEG-PS begin with their first key frame."""
    duration_s: float = 0.0
    """From the first frame's start to the last frame's end, seconds."""
    start_s: float = 0.0
    """The container's own time of the first presented frame; every other time counts from it."""
    has_edit_list: bool = False
    """Some packets are decoded but not shown."""
    open_gop: bool = False
    """Some frames are stored after a key frame and shown before it."""
    gradual_refresh: bool = False
    """Some of the container's key frames are none: the pictures after them come out whole only
    later. Decoders ask; it is not stored."""
    frames_indexed: bool = False
    """The header lists every frame; not so in fragmented files, Matroska and streams."""
    time_note: str = ""
    """Where frames' times are not simply the file's own: what was wrong, and what was done."""
    rotation: int = 0
    """Clockwise turn applied for display: 0, 90, 180 or 270 degrees."""
    num_audio_streams: int = 0
    """As the container lists them; none is opened."""
    stream_index: int = 0
    """Of the video stream, among all streams of the file."""
    num_video_streams: int = 0
    """From which it was chosen: without covers, still images and thumbnails."""
    has_crop: bool = False
    """The container leaves edges out of the stored pictures."""
