"""Figures, verdict and table of selector_board.py, from the shares of right answers."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from selector_pools import PLANTED
from selector_runs import SELECTORS
from student_t import Paired, holm, paired

VERDICT_BUDGET: Final = 0.25
WANTED_POOLS: Final = 3
"""Of PLANTED, in which a selector has to be clearly better."""
ALL: Final = "all"
"""What was trained on all rows of a pool."""
RIVALS: Final = ("random", "intra")

Shares = Mapping[tuple[str, float, str], Sequence[float]]
"""Right answers by selector (or ALL), budget and pool: a share a seed."""


def budgets_of(right: Shares) -> list[float]:
    """Return the budgets at which was trained, without that of all rows."""
    return sorted({budget for selector, budget, _ in right if selector != ALL})


def cells(right: Shares, pools: Sequence[str]) -> dict[str, Any]:
    """Return every cell: pool -> budget -> selector, with its differences from three others."""
    table: dict[str, Any] = {}
    for pool in pools:
        table[pool] = {ALL: _told(right[ALL, 1.0, pool])}
        for budget in budgets_of(right):
            row = {}
            for selector in SELECTORS:
                own = right[selector, budget, pool]
                row[selector] = _told(own) | {
                    f"minus_{other}": _spoken(paired(_minus(own, base)))
                    for other, base in (
                        ("random", right["random", budget, pool]),
                        ("intra", right["intra", budget, pool]),
                        (ALL, right[ALL, 1.0, pool]),
                    )
                    if other != selector
                }
            table[pool][f"{budget}"] = row
    return table


def verdict(right: Shares, pools: Sequence[str]) -> dict[str, Any]:
    """Return who is clearly better, by the rule that was fixed beforehand.

    In a pool, at VERDICT_BUDGET: the intervals of a selector's differences from `random` and from
    `intra`, corrected by Holm for all such differences of the pool, lie above 0; `intra` itself is
    held against `random` alone. Clearly better as a whole: in WANTED_POOLS of PLANTED or more.
    Clearly worse likewise, below 0.
    """
    better: dict[str, list[str]] = {name: [] for name in SELECTORS if name != "random"}
    worse: dict[str, list[str]] = {name: [] for name in better}
    corrected: dict[str, Any] = {}
    for pool in pools:
        intervals = holm(_family(right, pool))
        corrected[pool] = {
            f"{selector} minus {other}": [round(low, 4), round(high, 4)]
            for (selector, other), (low, high) in sorted(intervals.items())
        }
        for name in better:
            own = [span for (selector, _), span in intervals.items() if selector == name]
            if all(low > 0 for low, _ in own):
                better[name].append(pool)
            if all(high < 0 for _, high in own):
                worse[name].append(pool)
    planted = {name: [pool for pool in own if pool in PLANTED] for name, own in better.items()}
    clear = [name for name, own in planted.items() if len(own) >= WANTED_POOLS]
    return {
        "rule": f"corrected interval above random and intra in {WANTED_POOLS} of {len(PLANTED)} "
                f"pools ({', '.join(PLANTED)}) at {VERDICT_BUDGET:.0%}",
        "clearly_better": clear,
        "told": ", ".join(clear) or "none",
        "better_in": better,
        "worse_in": worse,
        "corrected_95": corrected,
    }  # fmt: skip


def best_other(right: Shares, pools: Sequence[str], *, but: Collection[str] = ()) -> str:
    """Return the selector that is best over some pools at VERDICT_BUDGET.

    Args:
        right: shares of right answers.
        pools: that are looked at.
        but: selectors that are left out, with RIVALS.
    """
    return max(
        (name for name in SELECTORS if name not in (*RIVALS, *but)),
        key=lambda name: statistics.fmean(
            share for pool in pools for share in right[name, VERDICT_BUDGET, pool]
        ),
    )


def describe(right: Shares, pools: Sequence[str], *, budget: float = VERDICT_BUDGET) -> list[str]:
    """Return a budget's shares of right answers as Markdown; bold: Holm's interval leaves 0 out."""
    lines = ["| selector | " + " | ".join(pools) + " |", "|---|" + "---|" * len(pools)]
    corrected = {pool: holm(_family(right, pool, budget)) for pool in pools}
    for selector in (*SELECTORS, ALL):
        row = []
        for pool in pools:
            own = right[selector, 1.0 if selector == ALL else budget, pool]
            text = f"{100 * statistics.fmean(own):.1f}"
            if selector not in ("random", ALL):
                gain = 100 * statistics.fmean(_minus(own, right["random", budget, pool]))
                text += f" ({gain:+.1f})"
                low, high = corrected[pool][selector, "random"]
                text = f"**{text}**" if low > 0 or high < 0 else text
            row.append(text)
        lines.append(f"| {'all rows' if selector == ALL else f'`{selector}`'} | "
                     + " | ".join(row) + " |")  # fmt: skip
    return lines


def _family(
    right: Shares, pool: str, budget: float = VERDICT_BUDGET
) -> dict[tuple[str, str], Paired]:
    """Return all differences of a pool that are judged together."""
    return {
        (selector, other): paired(_minus(right[selector, budget, pool], right[other, budget, pool]))
        for selector in SELECTORS
        for other in RIVALS
        if selector not in (other, "random")
    }


def _minus(own: Sequence[float], other: Sequence[float]) -> list[float]:
    return [mine - theirs for mine, theirs in zip(own, other, strict=True)]


def _told(values: Sequence[float]) -> dict[str, Any]:
    """Return shares with their mean and its interval over the seeds."""
    span = paired(values)
    low, high = span.interval()
    return {
        "by_seed": [round(value, 4) for value in values],
        "mean": round(span.mean, 4),
        "low": round(low, 4),
        "high": round(high, 4),
    }


def _spoken(difference: Paired) -> dict[str, float]:
    low, high = difference.interval()
    told = {"mean": difference.mean, "low": low, "high": high, "p": difference.p_value}
    return {name: round(value, 4) for name, value in told.items()}
