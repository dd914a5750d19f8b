"""Two decisions side by side, as a table and as JSON."""

from __future__ import annotations

from collections.abc import Sequence

from vxp_data.core.run_changes import Compared
from vxp_data.report.keep_curves import UNIT_NAMES, amount
from vxp_data.report.terminal import aligned, one_line


def compared_text(compared: Compared) -> str:
    """Draw what is kept by each, what that costs, and what changed, with examples."""
    head = ("subset", "rows A", "rows B", "kept A", "kept B", "threshold A", "threshold B")
    rows: list[tuple[str, ...]] = [head]
    for task, (a, b) in compared.subsets.items():
        counts = (a.rows, b.rows, a.kept, b.kept)
        rows.append((task, *(f"{n:,}" for n in counts), _score(a.threshold), _score(b.threshold)))
    parts = [_ruled(rows)]
    units = [u for u in UNIT_NAMES if u in compared.costs_a and u in compared.costs_b]
    costs = [("kept", *(UNIT_NAMES[unit] for unit in units))]
    for name, kept in (("A", compared.costs_a), ("B", compared.costs_b)):
        costs.append((name, *(amount(unit, kept[unit]) for unit in units)))
    parts.append(_ruled(costs))
    lines = []
    for change in compared.changes:
        ways = (
            " ".join(filter(None, way))
            for way in ((change.outcome_a, change.reason_a), (change.outcome_b, change.reason_b))
        )
        lines.append(f"{change.num_rows:>8,}  {change.task}: {' -> '.join(ways)}")
        for example in change.examples:
            scores = f"{_score(example.score_a)} -> {_score(example.score_b)}"
            words = one_line(example.question)
            lines.append(f"          {example.sample_id}  {scores}  {words}".rstrip())
    if lines:
        parts.append("\n".join(["Changed:", *lines]))
    measures = compared.measure_a
    if compared.measure_b != measures:
        measures += f" (A) and {compared.measure_b} (B)"
    parts.append(
        f"{compared.num_same:,} rows have the same outcome and reason, {compared.num_changed:,} "
        f"have not. Scores and thresholds are on {measures}."
    )
    return "\n\n".join(parts)


def _ruled(rows: Sequence[Sequence[str]]) -> str:
    lines = aligned(rows).split("\n")
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
