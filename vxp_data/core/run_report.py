"""What a report shows of a run, as plain values: gathered by the pipeline, drawn by the report.

Shapes: B bins of a histogram.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vxp_data.core.keep_curve import KeepCurve


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Rows by score, kept and dropped."""

    edges: NDArray[np.float64]
    """B + 1 limits, ascending, in the measure's own units."""
    kept_B: NDArray[np.int64]
    dropped_B: NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bars:
    """Rows by some length, in two ways."""

    labels: tuple[str, ...]
    """Of the bins."""
    series: Mapping[str, tuple[int, ...]]
    """By name, rows in each bin. What holds comes last, and has the colour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One row with the frames that were scored."""

    sample_id: str
    file: str
    """Name of the media file, without its folder."""
    decision: str
    score: float
    """NaN where there is none."""
    question: str
    answer: str
    duration_s: float
    width_px: int
    height_px: int
    num_frames: int
    """Frames that were scored."""
    sheet: bytes | None
    """Contact sheet, WebP."""
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SubsetReport:
    """One task subset: exact counts, and a few of its rows."""

    task: str
    counts: Mapping[str, int]
    """Rows by outcome."""
    videos: int
    hours: float
    hours_kept: float
    inexact: int
    """Kept rows about clips of which some frames could not be decoded."""
    target: str
    """The threshold as the recipe has it."""
    threshold: float
    """In the measure's own units; NaN where nothing was cut."""
    scores: Histogram | None
    """None: no video of the subset took part."""
    curve: KeepCurve
    durations: Bars
    """Of its videos' rows: before and after."""
    duration_correlation: float
    """Of scores with durations, by ranks, before; NaN where either is the same for all rows."""
    question_types: Bars
    """Of these rows, of which some are drawn where they are many; without bins for captions."""
    needs_time: Mapping[str, float]
    """Share of these that need time, before and after; NaN for captions."""
    answer_words: Bars
    """Of the same rows."""
    frames: Bars
    """In the plans of these rows: before and after."""
    sampling: Bars
    """In the plans of the kept rows: at a fixed rate, and as the rule has it."""
    cards: Mapping[str, tuple[Card, ...]]
    """By list: 'just_kept', 'just_dropped', 'least', 'most'."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DuplicateGroup:
    """A video that is kept, and those that are the same."""

    representative: Card
    duplicates: tuple[Card, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantineReport:
    """Rows that could not be used for one reason."""

    reason: str
    num_rows: int
    examples: tuple[tuple[str, str, str], ...]
    """(sample_id, file, message)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """Everything that the report shows."""

    name: str
    ended_at: str
    measure: str
    encoder: str
    decided: Mapping[str, Any]
    """The counts that run.json has."""
    subsets: tuple[SubsetReport, ...]
    num_with_cards: int
    """Of the subsets, so many have cards."""
    costs: Mapping[str, tuple[float, float]]
    """By unit: of all rows that can be used, and of the kept ones."""
    has_sheets: bool
    duplicates: tuple[DuplicateGroup, ...]
    num_duplicate_groups: int
    quarantine: tuple[QuarantineReport, ...]
    timings: Mapping[str, Any]
    versions: Mapping[str, str]
    settings: tuple[tuple[str, str, str], ...]
    """(key, value, origin)."""
