"""Charts as inline SVG: readable at a phone's width, coloured by the page's own style.

Nothing in them is fetched or run; texts are escaped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vxp_data.core.run_report import Bars, Histogram

_WIDTH: Final = 360
_HEIGHT: Final = 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 20, 30
_BAR: Final = 11
"""Height of a bar; text of 11 units is about as high."""
_AXIS_CHARS: Final = 32
"""Of a name that fits below a chart, with "threshold on" before it."""


def _axis_name(measure: str) -> str:
    """Return what an axis calls the scores: a name that is wider than the chart is in the text."""
    return measure if len(measure) <= _AXIS_CHARS else "the scores"


def histogram_svg(histogram: Histogram, threshold: float, measure: str) -> str:
    """Draw rows by score, the kept ones below the dropped ones, and the threshold."""
    edges = histogram.edges
    total_B = histogram.kept_B + histogram.dropped_B
    frame = _Frame(float(edges[0]), float(edges[-1]), 0.0, float(max(1, total_B.max(initial=1))))
    parts = frame.axes(x_label=_axis_name(measure), y_ticks=_whole_ticks(frame.y_high))
    for low, high, kept, total in zip(
        edges[:-1], edges[1:], histogram.kept_B, total_B, strict=True
    ):
        for css, start, end in (("keep", 0, kept), ("prune", kept, total)):
            if end > start:
                x, width = frame.x(low), max(0.5, frame.x(high) - frame.x(low) - 0.6)
                y, height = frame.y(end), frame.y(start) - frame.y(end)
                parts.append(
                    f'<rect class="{css}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" '
                    f'height="{height:.1f}"/>'
                )
    parts += _mark(frame, threshold, f"threshold {threshold:.4f}")
    words = f"Rows by {measure}, kept and dropped"
    return _svg(parts, _HEIGHT, words)


def curve_svg(
    threshold_P: NDArray[np.float64],
    shares_of: Mapping[str, NDArray[np.float64]],
    threshold: float,
    measure: str,
) -> str:
    """Draw what share of rows, and of what they cost, each threshold keeps."""
    low, high = float(threshold_P.min()), float(threshold_P.max())
    frame = _Frame(low, high if high > low else low + 1e-6, 0.0, 1.0)
    ticks = [(i / 4, f"{25 * i} %") for i in range(5)]
    parts = frame.axes(x_label=f"threshold on {_axis_name(measure)}", y_ticks=ticks)
    for i, (name, share_P) in enumerate(shares_of.items()):
        points = " ".join(
            f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in zip(threshold_P, share_P, strict=True)
        )
        parts.append(f'<polyline class="line line{i}" points="{points}"/>')
        x = _LEFT + 8 + 80 * i
        parts.append(f'<line class="line line{i}" x1="{x}" x2="{x + 16}" y1="10" y2="10"/>')
        parts.append(f'<text x="{x + 20}" y="14">{escape(name)}</text>')
    parts += _mark(frame, threshold, "now")
    return _svg(parts, _HEIGHT, f"Share kept by threshold on {measure}")


def bars_svg(bars: Bars, title: str) -> str:
    """Draw rows in bins, a bar a series, the bins below each other."""
    names = list(bars.series)
    most = max((max(values, default=0) for values in bars.series.values()), default=0) or 1
    left = 12 + 6.2 * max((len(label) for label in bars.labels), default=0)
    step = _BAR * len(names) + 9
    parts = []
    x = 4.0
    for i, name in enumerate(names):
        parts.append(f'<rect class="bar{i}" x="{x:.0f}" y="3" width="10" height="10"/>')
        parts.append(f'<text x="{x + 14:.0f}" y="12">{escape(name)}</text>')
        x += 30 + 6.4 * len(name)
    for row, label in enumerate(bars.labels):
        y = 24 + row * step
        middle = y + _BAR * len(names) / 2 + 4
        parts.append(
            f'<text class="end" x="{left - 6:.0f}" y="{middle:.0f}">{escape(label)}</text>'
        )
        for i, name in enumerate(names):
            value = bars.series[name][row]
            width = (_WIDTH - left - 52) * value / most
            parts.append(
                f'<rect class="bar{i}" x="{left:.0f}" y="{y + i * _BAR}" width="{width:.1f}" '
                f'height="{_BAR - 1.5}"/>'
            )
            parts.append(
                f'<text class="value" x="{left + width + 4:.1f}" y="{y + i * _BAR + 8.5:.1f}">'
                f"{value:,}</text>"
            )
    return _svg(parts, 24 + step * len(bars.labels), title)


class _Frame:
    """Where a chart's values lie."""

    def __init__(self, x_low: float, x_high: float, y_low: float, y_high: float) -> None:
        self.x_low, self.x_high = x_low, x_high
        self.y_low, self.y_high = y_low, y_high

    def x(self, value: float) -> float:
        """Return the position of a value along the width."""
        share = (value - self.x_low) / (self.x_high - self.x_low)
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        """Return the position of a value along the height."""
        share = (value - self.y_low) / (self.y_high - self.y_low)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _BOTTOM - _TOP)

    def axes(self, *, x_label: str, y_ticks: Sequence[tuple[float, str]]) -> list[str]:
        """Draw grid lines, ticks and the x axis's name."""
        parts = []
        for value, text in y_ticks:
            y = self.y(value)
            parts.append(
                f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" '
                f'y2="{y:.1f}"/>'
            )
            parts.append(f'<text class="end" x="{_LEFT - 5}" y="{y + 4:.1f}">{text}</text>')
        for value in _ticks(self.x_low, self.x_high):
            x, y = self.x(value), _HEIGHT - _BOTTOM
            parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{y}" y2="{y + 4}"/>')
            parts.append(f'<text class="mid" x="{x:.1f}" y="{y + 14}">{value:g}</text>')
        middle = _LEFT + (_WIDTH - _LEFT - _RIGHT) / 2
        parts.append(
            f'<text class="mid name" x="{middle:.0f}" y="{_HEIGHT - 3}">{escape(x_label)}</text>'
        )
        return parts


def _mark(frame: _Frame, value: float, text: str) -> list[str]:
    """Draw a line down at a value, with its name beside it."""
    if not math.isfinite(value) or not frame.x_low <= value <= frame.x_high:
        return []
    x = frame.x(value)
    side, at = ("end", x - 5) if x > _WIDTH / 2 else ("", x + 5)
    return [
        f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}"/>',
        f'<text class="marked {side}" x="{at:.1f}" y="{_TOP + 10}">{escape(text)}</text>',
    ]


def _svg(parts: Sequence[str], height: float, words: str) -> str:
    inner = "".join(parts)
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height:g}" role="img" aria-label="{escape(words)}">'
        f"{inner}</svg>"
    )


def _ticks(low: float, high: float) -> list[float]:
    """Return four to eight round numbers from low to high."""
    span = max(high - low, 1e-12)
    step = 10.0 ** math.floor(math.log10(span / 4))
    for factor in (1, 2, 5, 10):
        if span / (step * factor) <= 6:
            step *= factor
            break
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(i * step, 10) for i in range(first, last + 1)]


def _whole_ticks(high: float) -> list[tuple[float, str]]:
    values = sorted({round(value) for value in _ticks(0.0, high)})
    return [(float(value), f"{value:,}") for value in values if value <= high]
