"""The table of benchmarks, from what each says of itself; see `readme_table.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from vxp_model.eval.benchmarks.base import Benchmark
from vxp_model.eval.catalogue import load_benchmark
from vxp_model.registry import BENCHMARKS

PAGE: Final = Path(__file__).resolve().parents[1] / "docs" / "evaluate.md"
BEGIN: Final = "<!-- made of vxp_model.registry.BENCHMARKS by `make readme-table` -->"


def table() -> list[str]:
    """Return the table's lines: one row a benchmark of ours, in the registry's order."""
    head = [
        "| benchmark | files below `--data` | figure | prompts | conventions | checked against |",
        "|---|---|---|---|---|---|",
    ]
    ours = [load_benchmark(name) for name in BENCHMARKS.names()]
    return head + [row(one) for one in ours if type(one).__module__.startswith("vxp_model.")]


def row(one: Benchmark) -> str:
    """Return a benchmark's row."""
    cells = (
        f"`{one.name}`",
        one.about.files,
        one.about.metric,
        ", ".join(one.styles),
        ", ".join(["ours", *sorted(one.conventions)]),
        one.about.checked_against,
    )
    # A bare "<same>" would be taken for HTML.
    escaped = (cell.replace("|", "\\|").replace("<", "\\<") for cell in cells)
    return "| " + " | ".join(escaped) + " |"
