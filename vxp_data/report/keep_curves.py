"""A run's keep curves as a table, as CSV, as JSON and as an image."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from vxp_data.core.keep_curve import KeepCurve, RunPlan, SubsetPlan
from vxp_data.report.figures import new_figure
from vxp_data.report.terminal import aligned

_COLOURS: Final = ("#1f6fb4", "#e08214", "#35978f", "#8c510a", "#762a83", "#5ab4ac")
_LINES_SHOWN: Final = 10
"""Points of a curve in the table; CSV, JSON and image have all."""
_NAME_CHARS: Final = 13
"""Of a measure whose name fits at the head of a column 80 characters from the last."""
UNIT_NAMES: Final[Mapping[str, str]] = {
    "rows": "rows", "videos": "videos", "hours": "hours", "frames": "frames", "tokens": "tokens",
    "bytes": "bytes", "gpu_hours": "GPU hours",
}  # fmt: skip
"""What the table calls the units, in its order."""


def curve_table(plan: RunPlan) -> str:
    """Draw a table: for each subset, what shares of it would keep, and what is kept now."""
    units = [unit for unit in UNIT_NAMES if unit in plan.units]
    is_short = len(plan.measure) <= _NAME_CHARS
    score = plan.measure if is_short else "score"
    rows: list[tuple[str, ...]] = [("keep", score, *(UNIT_NAMES[unit] for unit in units))]
    breaks = []
    for subset in (*plan.subsets, plan.joint):
        breaks.append((len(rows), subset.task))
        rows += [
            (f"  {share:.0%}", number(threshold), *costs)
            for share, threshold, costs in _points(subset.curve, units)
        ]
        for kept in subset.kept:
            costs = [amount(unit, kept.costs[unit]) for unit in units]
            text = short_text(kept.text)
            label = f"  {kept.name}: {text}" if text and text != "knee" else None
            rows.append((label or f"  {kept.name}", number(kept.threshold), *costs))
    if plan.always["rows"]:
        breaks.append((len(rows), ""))
        costs = [amount(unit, plan.always[unit]) for unit in units]
        rows.append(("always kept", "", *costs))
    lines = aligned(rows).split("\n")
    rule = "-" * len(lines[0])
    shown = [lines[0].rstrip()] if is_short else [f"score: {plan.measure}", lines[0].rstrip()]
    for index, line in enumerate(lines[1:], start=1):
        for at, task in breaks:
            if at == index:
                shown += [rule, task] if task else [rule]
        shown.append(line.rstrip())
    return "\n".join(shown)


def _points(curve: KeepCurve, units: Sequence[str]) -> list[tuple[float, float, list[str]]]:
    """Return the points nearest to 10 %, 20 %, ..., each once."""
    indices = set()
    if len(curve):
        for tenth in range(1, _LINES_SHOWN + 1):
            indices.add(int(abs(curve.share_P - tenth / _LINES_SHOWN).argmin()))
    return [
        (
            float(curve.share_P[i]),
            float(curve.threshold_P[i]),
            [amount(unit, float(curve.costs[unit][i])) for unit in units],
        )
        for i in sorted(indices)
    ]


def curve_csv(plan: RunPlan) -> str:
    """Write every point of every curve: subset, share, threshold, then a column a unit."""
    units = [unit for unit in UNIT_NAMES if unit in plan.units]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["subset", "share", f"threshold_{plan.measure}", *units])
    for subset in (*plan.subsets, plan.joint):
        for point in _records(subset.curve, units):
            values = ("" if value is None else value for value in point.values())
            writer.writerow([subset.task, *values])
    return file.getvalue()


def curve_json(plan: RunPlan) -> dict[str, Any]:
    """Return the plan as JSON values."""
    units = [unit for unit in UNIT_NAMES if unit in plan.units]

    def subset_json(subset: SubsetPlan) -> dict[str, Any]:
        named = {
            kept.name: {
                "text": kept.text,
                "threshold": _finite(kept.threshold),
                **{unit: kept.costs[unit] for unit in units},
            }
            for kept in subset.kept
        }
        return {"kept": named, "curve": list(_records(subset.curve, units))}

    return {
        "measure": plan.measure,
        "rows_in": plan.num_rows,
        "rows_out": plan.num_out,
        "always_kept": {unit: plan.always[unit] for unit in units},
        "subsets": {subset.task: subset_json(subset) for subset in plan.subsets},
        "all": subset_json(plan.joint),
    }


def curve_figure(plan: RunPlan) -> bytes:
    """Draw what each threshold keeps, a panel a unit, a line a subset, as a PNG."""
    units = [unit for unit in UNIT_NAMES if unit in plan.units]
    columns = 4 if len(units) > 6 else 3
    figure = new_figure(
        figsize=(4.2 * columns, 3.2 * math.ceil(len(units) / columns)), dpi=110,
        layout="constrained",
    )  # fmt: skip
    for index, unit in enumerate(units):
        axes: Any = figure.add_subplot(math.ceil(len(units) / columns), columns, index + 1)
        for i, subset in enumerate(plan.subsets):
            colour = _COLOURS[i % len(_COLOURS)]
            axes.plot(
                subset.curve.threshold_P, subset.curve.costs[unit], color=colour, label=subset.task
            )
            for kept in subset.kept:
                if kept.name != "knee" and math.isfinite(kept.threshold):
                    marker = "o" if kept.name == "now" else "s"
                    axes.plot([kept.threshold], [kept.costs[unit]], marker, color=colour)
        axes.set(title=f"{UNIT_NAMES[unit]} kept", xlabel=f"threshold on {plan.measure}")
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        if index == 0 and plan.subsets:
            axes.legend(fontsize=8)
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})  # no version: same bytes
    return file.getvalue()


def short_text(target: str) -> str:
    """Write how much to keep short: 10000000 as 10M, where nothing is lost."""

    def short(found: re.Match[str]) -> str:
        value = int(found[0])
        for factor, letter in ((10**12, "T"), (10**9, "G"), (10**6, "M"), (1000, "k")):
            if value >= 10 * factor and value % factor == 0:
                return f"{value // factor}{letter}"
        return found[0]

    return re.sub(r"(?<![\d.])\d{5,}(?![\d.])", short, target)


def amount(unit: str, value: float) -> str:
    """Write a cost short: 1.23M tokens, 4.5 GB, 0.012 hours."""
    if unit in ("hours", "gpu_hours"):
        return f"{value:,.1f}" if value >= 10 else f"{value:.3f}"
    if value < 10_000 and unit != "bytes":
        return f"{value:,.0f}"
    for factor, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return (
                f"{value / factor:.3g}{letter}"
                if value / factor < 999.5
                else (f"{value / factor:,.0f}{letter}")
            )
    return f"{value:.0f}"


def number(value: float) -> str:
    """Write a threshold; '-' where there is none."""
    return f"{value:.4f}" if math.isfinite(value) else "-"


def _records(curve: KeepCurve, units: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {
            "share": float(curve.share_P[i]),
            "threshold": _finite(float(curve.threshold_P[i])),
            **{unit: float(curve.costs[unit][i]) for unit in units},
        }
        for i in range(len(curve))
    ]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
