"""Imports that wait for a module's first test: loading torch takes seconds, collecting none.

    if LATER:
        import torch

binds `torch` in the test module, for readers and checkers like any import; tests/conftest.py
executes it.
"""

import ast
from pathlib import Path
from types import ModuleType
from typing import Final

LATER: Final[bool] = False
_DONE: Final[set[ModuleType]] = set()


def run_later(module: ModuleType) -> None:
    """Execute what stands at the top level of a module under `if LATER:`, in its namespace."""
    if module in _DONE:
        return
    _DONE.add(module)
    path = Path(str(module.__file__))
    later = [
        statement
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "LATER"
        for statement in node.body
    ]
    exec(compile(ast.Module(later, type_ignores=[]), path, "exec"), vars(module))
