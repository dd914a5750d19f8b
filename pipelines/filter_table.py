"""The table of filters, from the registry and the rules' docstrings; see `readme_table.py`."""

from __future__ import annotations

import ast
import importlib
import inspect
from itertools import pairwise
from pathlib import Path
from typing import Final

from vxp_data.core.filters import FilterRule, load_rule
from vxp_data.registry import FILTERS

PAGE: Final = Path(__file__).resolve().parents[1] / "docs" / "filters-and-duplicates.md"
BEGIN: Final = "<!-- made of vxp_data.registry.FILTERS by `make readme-table` -->"


def table() -> list[str]:
    """Return the table's lines: one row a filter, in the registry's order.

    Without those of other packages, which may be installed here.
    """
    head = [
        "| filter | measures | unit | reason below `min` | reason above `max` |",
        "|---|---|---|---|---|",
    ]
    return head + [row(load_rule(name)) for name in FILTERS.names() if name in documented()]


def row(rule: FilterRule) -> str:
    """Return a rule's row."""
    cells = (
        f"`{rule.name}`",
        documented()[rule.name],
        rule.unit,
        f"`{rule.below}`" if rule.below else "",
        f"`{rule.above}`" if rule.above else "",
    )
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def documented() -> dict[str, str]:
    """Return what the text under each rule of `vxp_data.core.filters` says, by the rule's name."""
    module = importlib.import_module("vxp_data.core.filters")
    body = ast.parse(inspect.getsource(module)).body
    found = {}
    for statement, after in pairwise(body):
        if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
            continue
        rule = getattr(module, statement.target.id, None)
        if isinstance(rule, FilterRule) and isinstance(after, ast.Expr):
            text = ast.literal_eval(after.value)
            found[rule.name] = " ".join(str(text).split()).rstrip(".")
    return found
