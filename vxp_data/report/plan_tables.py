"""What a plan says beside its curves: what rows ask, what a budget buys per row and per cost."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any, Final

from vxp_data.core.keep_curve import RunPlan
from vxp_data.core.question_facts import WORD_QUANTILES, QuestionShares
from vxp_data.core.question_words import OTHER, TYPES
from vxp_data.report.keep_curves import UNIT_NAMES, amount, curve_json
from vxp_data.report.terminal import aligned

_WORDS: Final = "/".join(f"{share:.0%}" for share in WORD_QUANTILES)


def asked_table(plan: RunPlan) -> str:
    """Draw a table: for each subset, what its rows ask, before a decision and after each."""
    blocks = []
    for task, ways in sorted(plan.asked.items()):
        told = [(f"  {label}", *cells) for label, cells in _lines(ways)]
        blocks.append((task, [("asked", *(way.name for way in ways)), *told]))
    if not blocks:
        return ""
    lines = aligned([row for _, rows in blocks for row in rows]).split("\n")
    rule, shown, at = "-" * len(lines[0]), [lines[0].rstrip()], 0
    for task, block in blocks:
        shown += [rule, task, *(line.rstrip() for line in lines[at + 1 : at + len(block)])]
        at += len(block)
    return "\n".join(shown)


def _lines(ways: tuple[QuestionShares, ...]) -> list[tuple[str, list[str]]]:
    lines = [("rows", [f"{way.num_rows:,}" for way in ways])]
    if any(way.types for way in ways):
        lines.append(("needs time", [_percent(way.needs_time) for way in ways]))
    for kind in (*TYPES, OTHER):
        if any(kind in way.types for way in ways):
            cells = [_percent(way.types.get(kind, 0.0)) if way.types else "-" for way in ways]
            lines.append((kind, cells))
    if any(way.answer_words for way in ways):
        lines.append((f"answer words, {_WORDS}", [_words(way) for way in ways]))
    return lines


def bought_table(plan: RunPlan) -> str:
    """Draw a table: what the chosen target keeps where rows are taken per row, and per cost."""
    if not plan.bought:
        return ""
    units = [unit for unit in ("rows", "videos", "hours", "tokens", "gpu_hours")
             if unit in plan.units]  # fmt: skip
    rows = [("buys", *(UNIT_NAMES[unit] for unit in units), "quality")]
    for bought in plan.bought:
        costs = (amount(unit, bought.costs[unit]) for unit in units)
        rows.append((f"  per {bought.per}", *costs, f"{bought.quality:,.1f}"))
    return aligned(rows)


def plan_json(plan: RunPlan) -> dict[str, Any]:
    """Return all of a plan as JSON values."""
    return {
        **curve_json(plan),
        "asked": {
            task: {
                way.name: {
                    "rows": way.num_rows,
                    "needs_time": None if math.isnan(way.needs_time) else way.needs_time,
                    "types": dict(way.types),
                    "answer_words": {
                        f"{share:.0%}": words
                        for share, words in zip(WORD_QUANTILES, way.answer_words, strict=False)
                    },
                }
                for way in ways
            }
            for task, ways in plan.asked.items()
        },
        "asked_of_all": plan.asked_of_all,
        "datasets": [asdict(dataset) for dataset in plan.datasets],
        "bought": {b.per: {**b.costs, "quality": b.quality} for b in plan.bought},
    }


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{share:.0%}"


def _words(way: QuestionShares) -> str:
    return "/".join(f"{words:.0f}" for words in way.answer_words) or "-"
