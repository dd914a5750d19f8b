"""How many frames training sees of videos of which length: the paper's Figure 3."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any, Final

import numpy as np

from vxp_data.core.frame_plan_counts import (
    DurationBin,
    FramesBin,
    PlanCounts,
    duration_bins,
    frames_bins,
)
from vxp_data.report.figures import new_figure

_MAX_POINTS: Final = 3000
_SHORTEST_S: Final = 0.1
"""A logarithm has no zero: shorter videos are drawn here."""
_COLOURS: Final = ("#1f6fb4", "#e08214", "#35978f")
_MARKERS: Final = ("o", "x", "+")


def sampling_table(counts: PlanCounts) -> str:
    """Draw two tables: mean frames by duration, and rows by frames, a column a policy."""
    policies = list(counts.frames_R_of)
    head = ("duration", "rows", *(f"frames, {policy}" for policy in policies))
    lengths = [
        (_span(b), str(b.num_rows), *(_mean(b.mean_frames_of[policy]) for policy in policies))
        for b in duration_bins(counts)
    ]
    means = (_mean(float(frames_R.mean())) for frames_R in counts.frames_R_of.values())
    lengths.append(("all", str(len(counts.duration_s_R)), *means))
    frames = [
        (_between(b), *(str(b.num_rows_of[policy]) for policy in policies))
        for b in frames_bins(counts)
    ]
    return (
        f"{_table([head, *lengths])}\n\n"
        f"{_table([('frames', *(f'rows, {policy}' for policy in policies)), *frames])}"
    )


def sampling_figure(counts: PlanCounts) -> bytes:
    """Draw durations, frames a row, and frames over duration, as a PNG; the same each time."""
    figure = new_figure(figsize=(13, 4.2), dpi=110, layout="constrained")
    durations, frames, over = figure.subplots(1, 3)
    _draw_durations(durations, duration_bins(counts))
    _draw_frames(frames, frames_bins(counts), list(counts.frames_R_of))
    _draw_over(over, counts)
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})  # no version: same bytes
    return file.getvalue()


def _draw_durations(axes: Any, bins: Sequence[DurationBin]) -> None:
    bars = axes.bar(range(len(bins)), [b.num_rows for b in bins], color="0.6")
    axes.bar_label(bars, fontsize=8)
    axes.set_xticks(range(len(bins)), [_span(b) for b in bins], rotation=45, ha="right")
    axes.set(title="Kept rows by duration", ylabel="rows")
    axes.yaxis.get_major_locator().set_params(integer=True)


def _draw_frames(axes: Any, bins: Sequence[FramesBin], policies: Sequence[str]) -> None:
    width = 0.8 / len(policies)
    for i, (policy, colour) in enumerate(zip(policies, _COLOURS, strict=False)):
        index_B = np.arange(len(bins)) + (i - (len(policies) - 1) / 2) * width
        rows_B = [b.num_rows_of[policy] for b in bins]
        axes.bar(index_B, rows_B, width, label=policy, color=colour)
    axes.set_xticks(range(len(bins)), [_between(b) for b in bins], rotation=45, ha="right")
    axes.set(title="Kept rows by frames in their plan", ylabel="rows")
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.legend()


def _draw_over(axes: Any, counts: PlanCounts) -> None:
    duration_s_R = np.maximum(counts.duration_s_R, _SHORTEST_S)
    step = max(1, math.ceil(len(duration_s_R) / _MAX_POINTS))
    for (policy, frames_R), colour, marker in zip(
        counts.frames_R_of.items(), _COLOURS, _MARKERS, strict=False
    ):
        axes.plot(
            duration_s_R[::step],
            frames_R[::step],
            marker,
            label=policy,
            color=colour,
            markersize=4,
            alpha=0.7,
        )
    axes.axhline(counts.max_frames, color="0.5", linewidth=0.8, linestyle="--")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(
        duration_s_R.min(initial=1.0) / 1.3, duration_s_R.max(initial=_SHORTEST_S * 100) * 1.3
    )
    axes.set_ylim(0.8, counts.max_frames * 1.5)
    axes.set(title=f"Frames over duration (cap {counts.max_frames})", xlabel="seconds")
    axes.set_ylabel("frames")
    axes.legend()
    axes.grid(alpha=0.3)


def _span(b: DurationBin) -> str:
    return f"> {b.low_s:g} s" if math.isinf(b.high_s) else f"{b.low_s:g} - {b.high_s:g} s"


def _between(b: FramesBin) -> str:
    return f"{b.low}" if b.low == b.high else f"{b.low} - {b.high}"


def _mean(frames: float) -> str:
    return "-" if math.isnan(frames) else f"{frames:.1f}"


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip_longest(*rows, fillvalue="")]
    lines = [
        f"{row[0]:<{widths[0]}}  "
        + "  ".join(f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True))
        for row in rows
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])
