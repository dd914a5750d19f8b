"""How long the videos of a run are, and how many frames a training step sees of them.

The paper's Figure 3, as numbers: durations and frame counts under variable and fixed sampling.

Shapes: R rows (kept samples with a video).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

DURATION_EDGES_S: Final = (0.0, 5.0, 15.0, 30.0, 60.0, 120.0, 180.0, 360.0, 900.0, 3600.0, math.inf)
"""Bins (low, high]; 180 s and 360 s are where the paper's rule changes."""

_FRAME_EDGES: Final = (0, 1, 8, 16, 32, 64, 128, 256)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanCounts:
    """Durations, and frames a row by policy, in one epoch."""

    duration_s_R: NDArray[np.float64]
    frames_R_of: Mapping[str, NDArray[np.int64]]
    """From a policy's name to the frames of each row's plan."""
    max_frames: int
    """The cap: no number of frames is higher."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DurationBin:
    """Rows with low_s < duration <= high_s (the first bin: a duration of 0, too)."""

    low_s: float
    high_s: float
    num_rows: int
    mean_frames_of: dict[str, float]
    """By policy; NaN where there is no row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FramesBin:
    """Rows with low <= frames <= high, by policy."""

    low: int
    high: int
    num_rows_of: dict[str, int]


def duration_bins(counts: PlanCounts) -> list[DurationBin]:
    """Sort rows by duration; bins before the first row and after the last are left out."""
    bin_R = np.searchsorted(DURATION_EDGES_S[1:], counts.duration_s_R, side="left")
    used = range(bin_R.min(), bin_R.max() + 1) if len(bin_R) else range(0)
    return [
        DurationBin(
            low_s=DURATION_EDGES_S[i],
            high_s=DURATION_EDGES_S[i + 1],
            num_rows=int((bin_R == i).sum()),
            mean_frames_of={
                policy: _mean(frames_R[bin_R == i])
                for policy, frames_R in counts.frames_R_of.items()
            },
        )
        for i in used
    ]


def frames_bins(counts: PlanCounts) -> list[FramesBin]:
    """Sort rows by frames, 1 to the cap; the cap itself has a bin of its own."""
    edges = [edge for edge in _FRAME_EDGES if edge < counts.max_frames - 1]
    edges += [counts.max_frames - 1, counts.max_frames]
    return [
        FramesBin(
            low=low + 1,
            high=high,
            num_rows_of={
                policy: int(((frames_R > low) & (frames_R <= high)).sum())
                for policy, frames_R in counts.frames_R_of.items()
            },
        )
        for low, high in pairwise(edges)
    ]


def _mean(frames: NDArray[np.int64]) -> float:
    return float(frames.mean()) if len(frames) else math.nan
