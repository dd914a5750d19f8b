"""The table of filters, from the registry and the rules' docstrings; see `readme_table.py`."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from itertools import pairwise
from pathlib import Path
from typing import Final

from vxp_data.core import filter_rules
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
    said = documented()
    return head + [row(load_rule(name), said[name]) for name in FILTERS.names() if name in said]


def row(rule: FilterRule, measures: str) -> str:
    """Return a rule's row."""
    cells = (
        f"`{rule.name}`",
        measures,
        rule.unit,
        f"`{rule.below}`" if rule.below else "",
        f"`{rule.above}`" if rule.above else "",
    )
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def documented() -> dict[str, str]:
    """Return what the text under each rule of `vxp_data.core.filter_rules` says, by its name."""
    found = {}
    for info in pkgutil.iter_modules(filter_rules.__path__, f"{filter_rules.__name__}."):
        module = importlib.import_module(info.name)
        for statement, after in pairwise(ast.parse(inspect.getsource(module)).body):
            is_named = isinstance(statement, ast.AnnAssign)
            if not is_named or not isinstance(statement.target, ast.Name):
                continue
            rule = getattr(module, statement.target.id, None)
            if isinstance(rule, FilterRule) and isinstance(after, ast.Expr):
                text = ast.literal_eval(after.value)
                found[rule.name] = " ".join(str(text).split()).rstrip(".")
    return found
