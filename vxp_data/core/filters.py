"""Rules that exclude rows before any threshold: one number a row, and the range it may have.

Shapes: N rows of a run, in order.

A rule measures; the bounds that a user gives decide. Rows about which a rule says nothing (a
duration of a text) have NaN and stay.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from vxp_data.core import text_rules
from vxp_data.errors import UserError
from vxp_data.records import FILTER_REASONS, Modality, Reason, Task, is_filter_reason
from vxp_data.registry import FILTERS

Turns = Sequence[tuple[str, str]]
"""(question, answer) pairs of a row."""

CUT_CHANGE: Final = 40.0
"""Two frames after one another between which more changes are of different scenes; the scale is
PySceneDetect's, see `core.frame_statistics`. Its own threshold, 27, is for frames 1/25 s apart.
Of 20 frames, seconds apart, a pan changes as much, and a scene that lies between two of them is not
seen. Chosen on the 37 real clips of the development corpus: the 7 in which ffmpeg's scene filter
finds cuts have 2 or more; of the other 30, six have any and none more than 3 (fades, cuts by colour
that ffmpeg does not see, a passing car). With 27, nine have, and as many as 10."""

BLANK_CONTRAST: Final = 2.0
"""An image is blank whose parts are no further from its mean brightness, of 255 levels: what
coding leaves of a plain surface. Of the same clips' frames, black ones have 0.0 to 0.1, a dark
title 2.6, a page of a terminal 4.8, cards of one colour with a number 12."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowFacts:
    """What rules measure; facts of media are those of each row's clip.

    NaN where it has none, and 0 where a file does not say (see `records.Media`): a rule that
    divides looks first.
    """

    sample_id: Sequence[str]
    task: Sequence[str]
    modality: Sequence[str]
    index_N: NDArray[np.int64]
    """Number of each row's clip, -1 for none."""
    duration_s_N: NDArray[np.float64]
    width_px_N: NDArray[np.float64]
    height_px_N: NDArray[np.float64]
    audio_streams_N: NDArray[np.float64]
    exact_share_N: NDArray[np.float64]
    """Share of the planned frames that were decoded."""
    change_N: NDArray[np.float64]
    """Mean change from one frame to the next, see `core.frame_statistics`; NaN where no rule asks.
    So the next two."""
    scene_changes_N: NDArray[np.float64]
    """Changes above CUT_CHANGE."""
    blank_share_N: NDArray[np.float64]
    """Share of frames whose contrast is BLANK_CONTRAST or less."""
    similarity_N: NDArray[np.float64]
    """Of an image-text pair; NaN where no rule asks, or where it was not measured."""
    exchanges: Sequence[Turns]
    """Empty where no rule asks."""

    def __post_init__(self) -> None:
        lengths = {field.name: len(getattr(self, field.name)) for field in fields(self)}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"the columns of row facts differ in length: {lengths}; want N each")

    def is_modality(self, modality: Modality) -> NDArray[np.bool_]:
        """Return which rows are of a modality."""
        is_it_N: NDArray[np.bool_] = np.array([own == modality for own in self.modality], np.bool_)
        return is_it_N


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterRule:
    """One rule: what it measures, and how rows end that are out of bounds."""

    name: str
    """Its name in registry.FILTERS and in the settings."""
    version: int
    """Counts up with every change of the numbers."""
    unit: str
    low: float
    """Least possible value."""
    high: float
    """Greatest possible value; infinity where there is none."""
    below: str | None
    """Reason of rows below the minimum, one of records.FILTER_REASONS or the rule's own text
    'filter:<words>'; None: a minimum makes no sense."""
    above: str | None
    """Reason of rows above the maximum, likewise."""
    needs: Literal["media", "frame_statistics", "text", "similarity"]
    """What is read for it: media.parquet; the measures of frames there; the texts; the texts and
    what a model made of them."""
    of_rows: Callable[[RowFacts], NDArray[np.float64]]
    """float64 [N] in [low, high], NaN for rows that it is not about, or about which nothing is
    known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """The range that a rule's values may have, ends included; for some tasks or all."""

    low: float | None = None
    high: float | None = None
    tasks: tuple[str, ...] = ()
    """Only rows of these; none given: all rows."""


def load_rule(name: str) -> FilterRule:
    """Return the rule of a name.

    Raises:
        UserError: there is none, or it gives a reason that no filter may give.
    """
    rule: FilterRule = FILTERS.load(name)
    for reason in (rule.below, rule.above):
        if reason is not None and not is_filter_reason(reason):
            raise UserError(
                f"filter {name!r}: its reason is {reason!r}, wanted 'filter:' and words of its own "
                f"in small letters, such as 'filter:{name}', or one of: "
                f"{', '.join(sorted(FILTER_REASONS))}. Whoever wrote the filter must mend that; "
                "until then leave it out."
            )
    return rule


def check_bounds(name: str, bounds: Bounds) -> None:
    """Check that bounds fit their rule.

    Raises:
        UserError: an unknown rule, none or impossible bounds, or one that the rule has no use for.
    """
    rule = load_rule(name)
    if bounds.low is None and bounds.high is None:
        raise UserError(f"filters.{name}: got neither min nor max, wanted one or both.")
    for end, value, reason in (("min", bounds.low, rule.below), ("max", bounds.high, rule.above)):
        if value is None:
            continue
        if reason is None:
            other = "max" if end == "min" else "min"
            raise UserError(f"filters.{name}: has no {end}, only {other}.")
        if not rule.low <= value <= rule.high:
            raise UserError(
                f"filters.{name}.{end}: got {value:g}, wanted a value in [{rule.low:g}, "
                f"{rule.high:g}] ({rule.unit})."
            )
    if bounds.low is not None and bounds.high is not None and bounds.low > bounds.high:
        raise UserError(f"filters.{name}: min {bounds.low:g} is above max {bounds.high:g}.")


def filter_rows(
    facts: RowFacts, bounds: Mapping[str, Bounds]
) -> tuple[NDArray[np.object_], dict[str, NDArray[np.float64]]]:
    """Measure rows by each rule that has bounds.

    Args:
        facts: N rows that could be used.
        bounds: by rule; where a row is out of several, the first gives the reason.

    Returns:
        The reason of each row, '' for one that stays; and the values by rule.

    Raises:
        UserError: a rule gives something else than one number or NaN a row.
    """
    num_rows = len(facts.sample_id)
    reason_N = np.full(num_rows, "", dtype=object)
    values: dict[str, NDArray[np.float64]] = {}
    task_N = np.asarray(facts.task, dtype=object)
    for name, wanted in bounds.items():
        rule = load_rule(name)
        value_N = _values_of(rule, facts)
        mine_N = np.isin(task_N, wanted.tasks) if wanted.tasks else np.ones(num_rows, np.bool_)
        values[name] = np.where(mine_N, value_N, np.nan)
        for out_N, reason in (
            (values[name] < (-np.inf if wanted.low is None else wanted.low), rule.below),
            (values[name] > (np.inf if wanted.high is None else wanted.high), rule.above),
        ):
            if reason is not None:
                reason_N[out_N & (reason_N == "")] = str(reason)
    return reason_N, values


def _values_of(rule: FilterRule, facts: RowFacts) -> NDArray[np.float64]:
    """Measure rows by a rule, which may be a stranger's: what it gives is looked at."""
    value_N = np.asarray(rule.of_rows(facts), dtype=np.float64)
    mend = "Whoever wrote the filter must mend that; until then leave it out."
    num_rows = len(facts.sample_id)
    if value_N.shape != (num_rows,):
        raise UserError(
            f"filter {rule.name!r}: gave an array of shape {value_N.shape} for {num_rows} rows, "
            f"wanted one number a row. {mend}"
        )
    # An infinity comes of dividing by a fact that is 0 where nobody knows it, and would be taken
    # for a row far out of bounds.
    if (infinite_N := np.isinf(value_N)).any():
        row = int(infinite_N.argmax())
        raise UserError(
            f"filter {rule.name!r}: gave {value_N[row]} for {facts.sample_id[row]!r} "
            f"({int(infinite_N.sum())} of {num_rows} rows), wanted a number, or NaN where nothing "
            f"is known. {mend}"
        )
    return value_N


def _of_videos(value_N: NDArray[np.float64], facts: RowFacts) -> NDArray[np.float64]:
    return np.where(facts.is_modality(Modality.VIDEO) & (facts.index_N >= 0), value_N, np.nan)


def _short_side_px(facts: RowFacts) -> NDArray[np.float64]:
    side_N = np.minimum(facts.width_px_N, facts.height_px_N)
    return np.where((facts.index_N >= 0) & (side_N > 0), side_N, np.nan)


def _blank_frames(facts: RowFacts) -> NDArray[np.float64]:
    return np.where(facts.index_N >= 0, facts.blank_share_N, np.nan)


def is_pair(facts: RowFacts) -> NDArray[np.bool_]:
    """Return which rows are image-text pairs: captions of one image, with words."""
    has_words_N = np.array([bool(text_rules.caption(said)) for said in facts.exchanges], np.bool_)
    is_caption_N = np.array([task == Task.CAPTION for task in facts.task], np.bool_)
    is_pair_N: NDArray[np.bool_] = (
        facts.is_modality(Modality.IMAGE) & is_caption_N & has_words_N & (facts.index_N >= 0)
    )
    return is_pair_N


def _by_text(
    measure: Callable[[Turns], float], task: Task | None = None
) -> Callable[[RowFacts], NDArray[np.float64]]:
    """Build a rule's function from one that measures a conversation; of one task, or of any."""

    def of_rows(facts: RowFacts) -> NDArray[np.float64]:
        return np.array(
            [
                measure(said) if said and task in (None, own) else np.nan
                for said, own in zip(facts.exchanges, facts.task, strict=True)
            ],
            dtype=np.float64,
        ).reshape(len(facts.sample_id))

    return of_rows


def _repeats(facts: RowFacts) -> NDArray[np.float64]:
    """Count the rows about the same clip that ask the same and come before, by sample id."""
    order = sorted(range(len(facts.sample_id)), key=lambda row: facts.sample_id[row])
    seen: dict[tuple[int, tuple[str, ...]], int] = {}
    value_N = np.full(len(order), np.nan)
    for row in order:
        index, said = int(facts.index_N[row]), facts.exchanges[row]
        if index < 0 or not said:
            continue
        is_caption = facts.task[row] == Task.CAPTION.value  # many prompts, one question
        asked = tuple(text_rules.plain(a if is_caption else q) for q, a in said)
        times = seen.get((index, asked), 0)
        value_N[row], seen[index, asked] = times, times + 1
    return value_N


DURATION_S: Final = FilterRule(
    name="duration_s", version=1, unit="seconds", low=0.0, high=np.inf,
    below=Reason.TOO_SHORT, above=Reason.TOO_LONG, needs="media",
    of_rows=lambda facts: _of_videos(facts.duration_s_N, facts),
)  # fmt: skip
"""Length of a video, or of the part of it that a row is about."""

SHORT_SIDE_PX: Final = FilterRule(
    name="short_side_px", version=1, unit="pixels", low=0.0, high=np.inf,
    below=Reason.LOW_RESOLUTION, above=None, needs="media", of_rows=_short_side_px,
)  # fmt: skip
"""The shorter side of an image as displayed; of videos and images."""

BLANK_FRAMES: Final = FilterRule(
    name="blank_frames", version=1, unit="share of frames", low=0.0, high=1.0,
    below=None, above=Reason.BLANK, needs="frame_statistics", of_rows=_blank_frames,
)  # fmt: skip
"""Frames of one plain surface, black or of any other colour; of videos and images."""

EXACT_SHARE: Final = FilterRule(
    name="exact_share", version=1, unit="share of frames", low=0.0, high=1.0,
    below=Reason.INEXACT_FRAMES, above=None, needs="media",
    of_rows=lambda facts: np.where(facts.index_N >= 0, facts.exact_share_N, np.nan),
)  # fmt: skip
"""Planned frames that could be decoded; for the others the nearest earlier one stands in. Of videos
and images."""

MOTION: Final = FilterRule(
    name="motion", version=1, unit="change", low=0.0, high=230.0,
    below=Reason.STATIC, above=None, needs="frame_statistics",
    of_rows=lambda facts: _of_videos(facts.change_N, facts),
)  # fmt: skip
"""How much one of the decoded frames differs from the next, on average; on PySceneDetect's scale,
0 for a still, whichever encoder is used."""

SCENE_CHANGES: Final = FilterRule(
    name="scene_changes", version=1, unit="changes seen", low=0.0, high=np.inf,
    below=None, above=Reason.TOO_MANY_SCENES, needs="frame_statistics",
    of_rows=lambda facts: _of_videos(facts.scene_changes_N, facts),
)  # fmt: skip
"""Changes above 40 (CUT_CHANGE) from one of the decoded frames to the next: a lower bound."""

AUDIO_STREAMS: Final = FilterRule(
    name="audio_streams", version=1, unit="streams", low=0.0, high=np.inf,
    below=Reason.NO_AUDIO, above=None, needs="media",
    of_rows=lambda facts: _of_videos(facts.audio_streams_N, facts),
)  # fmt: skip
"""Sound tracks of a video, as its container lists them; whether they are silent is not heard."""

CAPTION_WORDS: Final = FilterRule(
    name="caption_words", version=1, unit="words", low=0.0, high=np.inf,
    below=Reason.CAPTION_TOO_SHORT, above=Reason.CAPTION_TOO_LONG, needs="text",
    of_rows=_by_text(text_rules.answer_words, Task.CAPTION),
)  # fmt: skip
"""Words of a caption row's answers."""

REPETITION: Final = FilterRule(
    name="caption_repetition", version=1, unit="share", low=0.0, high=1.0,
    below=None, above=Reason.CAPTION_REPETITIVE, needs="text",
    of_rows=_by_text(text_rules.repetition, Task.CAPTION),
)  # fmt: skip
"""Share of a caption's three-word sequences that came before in it."""

IMAGE_TEXT_SIMILARITY: Final = FilterRule(
    name="image_text_similarity", version=1, unit="cosine", low=-1.0, high=1.0,
    below=Reason.CAPTION_UNLIKE_IMAGE, above=None, needs="similarity",
    of_rows=lambda facts: np.where(is_pair(facts), facts.similarity_N, np.nan),
)  # fmt: skip
"""Cosine of an image and its caption, or the caption's beginning, by the encoder's text side. It
is measured by `prune` where this filter is set; a pair without one stays."""

PLACEHOLDERS: Final = FilterRule(
    name="placeholders", version=1, unit="findings", low=0.0, high=np.inf,
    below=None, above=Reason.PLACEHOLDER_TEXT, needs="text",
    of_rows=_by_text(text_rules.placeholders),
)  # fmt: skip
"""URLs, markup, file names and fillers in a row's answers."""

LATIN_LETTERS: Final = FilterRule(
    name="latin_letters", version=1, unit="share", low=0.0, high=1.0,
    below=Reason.WRONG_LANGUAGE, above=None, needs="text",
    of_rows=_by_text(text_rules.latin_letters),
)  # fmt: skip
"""Share of the letters of a row's answers that are Latin: tells scripts, not languages."""

EMPTY_ANSWERS: Final = FilterRule(
    name="empty_answers", version=1, unit="answers", low=0.0, high=np.inf,
    below=None, above=Reason.EMPTY_ANSWER, needs="text",
    of_rows=_by_text(text_rules.empty_answers),
)  # fmt: skip
"""Questions of a row without an answer."""

OPTIONS: Final = FilterRule(
    name="options", version=1, unit="options", low=0.0, high=np.inf,
    below=Reason.NO_OPTIONS, above=None, needs="text",
    of_rows=_by_text(text_rules.fewest_options, Task.MULTIPLE_CHOICE),
)  # fmt: skip
"""Options of a multiple-choice row's question; of several questions, of the one with fewest."""

WRONG_LETTERS: Final = FilterRule(
    name="wrong_letters", version=1, unit="answers", low=0.0, high=np.inf,
    below=None, above=Reason.ANSWER_NOT_AN_OPTION, needs="text",
    of_rows=_by_text(text_rules.wrong_letters, Task.MULTIPLE_CHOICE),
)  # fmt: skip
"""Answers that name a letter without an option, or another option's words."""

LEAKED_ANSWERS: Final = FilterRule(
    name="leaked_answers", version=1, unit="questions", low=0.0, high=np.inf,
    below=None, above=Reason.ANSWER_IN_QUESTION, needs="text",
    of_rows=_by_text(text_rules.leaked_answers),
)  # fmt: skip
"""Questions that tell their answer: 'Answer: B'."""

REPEATS: Final = FilterRule(
    name="repeats", version=1, unit="rows", low=0.0, high=np.inf,
    below=None, above=Reason.REPEATED_QUESTION, needs="text", of_rows=_repeats,
)  # fmt: skip
"""Rows about the same clip that ask the same (captions: say the same) and have a lesser id."""
