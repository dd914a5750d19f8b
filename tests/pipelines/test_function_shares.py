"""Shares of CPU time, from py-spy's stacks."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def function_shares() -> ModuleType:
    return importlib.import_module("function_shares")


def test_shares_are_of_what_functions_spend_themselves(function_shares: ModuleType) -> None:
    spawned = 'process 6:"vxp-data";process 7:"python -c import a; run(b)"'
    stacks = [
        f"{spawned};outer (m.py:1);inner (m.py:7) 20",
        f"{spawned};other (m.py:4);inner (m.py:7) 10",
        f"{spawned};outer (m.py:1) 40",
        f"{spawned};0x7f21cca4524a (libc.so.6) 3",
        f"{spawned};outer (m.py:1);0x1 (libc.so.6) 7",
        'process 6:"vxp-data";process 8:"raylet" 20',
        "not a stack",
    ]
    shares = function_shares.shares(
        stacks, lambda command: "children" if "run" in command else "rest"
    )
    assert shares == {
        "children": {"all": 80.0, "outer (m.py)": 40.0, "inner (m.py)": 30.0, "(libc.so.6)": 10.0},
        "rest": {"all": 20.0, "starting or ending": 20.0},
    }
    assert list(shares) == ["children", "rest"]


def test_a_command_is_profiled_with_all_below_it(
    function_shares: ModuleType, tmp_path: Path
) -> None:
    spin = tmp_path / "spin.py"
    spin.write_text("def burn():\n    for i in range(20_000_000):\n        i * i\n\n\nburn()\n")
    parent = f"import subprocess, sys\nsubprocess.run([sys.executable, {str(spin)!r}])\n"
    (tmp_path / "parent.py").write_text(parent)
    shares = function_shares.profile(
        [sys.executable, str(tmp_path / "parent.py")],
        tmp_path / "stacks",
        lambda command: "child" if "spin" in command else "parent",
    )
    assert sum(found["all"] for found in shares.values()) == pytest.approx(100.0, abs=0.02)
    assert shares["child"]["burn (spin.py)"] > shares["child"]["all"] / 2
