"""The figures of the code, on a tree so small that they can be counted by eye."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import code_facts
import pytest

from support.repo import ROOT

BASE = '''\
# A licence: no comment on the code.
"""A module."""

from __future__ import annotations

from pack.sub import upper


class Box:
    """A box."""

    def __init__(self, side_px: int) -> None:
        self._side_px = side_px

    @property
    def side_px(self) -> int:
        """The side: a name is right here."""
        return self._side_px

    def grow(self, by):
        """Give the box more room."""
        # Why: nobody knows.
        self._side_px += by  # no full line


def double(x: int, *more: int) -> int:
    """Return twice as much."""
    return 2 * x


def bare(y): ...
'''
UPPER = '''\
"""Another."""

import pack.base
from ..base import _hidden


def use(box: pack.base.Box) -> int:
    """Count: what is private elsewhere."""
    return box._side_px + box._replace()
'''
OTHER = """\
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pack.base


def late():
    import pack.base
"""
TEST = """\
from pack.base import _hidden, Box


def test_a(box):
    assert box._side_px == 1
    assert box._mine == 2
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    files = {
        "pack/__init__.py": "",
        "pack/base.py": f"{BASE}\n_hidden = 1\n",
        "pack/other.py": OTHER,
        "pack/sub/__init__.py": "from . import upper\n",
        "pack/sub/upper.py": UPPER,
        "tests/__init__.py": "",
        "tests/test_base.py": TEST,
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_the_figures_are_those_counted_by_hand(tree: Path) -> None:
    assert code_facts.facts(tree) == {
        "packages": "pack",
        "files": "5",
        "folders": "2",
        "largest folders": "pack 3",
        "  ": "pack/sub 2",
        "   ": "",
        "    ": "",
        "     ": "",
        "lines": "51",  # base 33, other 8, upper 9, sub/__init__ 1
        "files above 300 lines": "0",
        "files above 400 lines": "0",
        "functions": "7",
        "lines of a function, median": "3",  # 1 2 2 3 3 3 4
        "lines of a function, 95 %": "4",
        "functions above 40 lines": "0",
        "functions above 80 lines": "0",
        "import circles": "1",  # base <-> upper; other's imports do not run when it is loaded
        "upward arrows": "-",
        "private names of other modules": "2",  # _hidden and ._side_px in upper
        "private names of the packages in tests": "2",  # the same names; _mine is nobody's
        "docstrings: Return, Whether, Called, a verb": "66.6 %",  # Return, Count; not Give
        "docstrings: Give, Tell, Hear, Say": "1",
        "public classes and functions with one": "71.4 %",  # all but bare, late
        "full-line comments per 100 code lines": "4.2",  # 1 for 14 + 5 + 4 + 1 lines
        "annotated arguments": "66.6 %",  # side_px x more box; not by y
    }


def test_a_long_function_and_a_long_file_are_counted(tree: Path) -> None:
    body = "    x = 1\n"
    text = f"def a():\n{body * 39}def b():\n{body * 40}def c():\n{body * 80}"
    (tree / "pack/long.py").write_text(text + "x = 1\n" * (301 - len(text.splitlines())))
    (tree / "pack/just.py").write_text("x = 1\n" * 300)
    got = code_facts.facts(tree)
    assert got["functions above 40 lines"] == "2"
    assert got["functions above 80 lines"] == "1"
    assert got["files above 300 lines"] == "1"
    assert got["files above 400 lines"] == "0"
    assert got["lines of a function, 95 %"] == "81"


def test_imports_are_those_that_run_when_a_module_is_loaded(tree: Path) -> None:
    sources = [code_facts.Source.read(file, tree) for file in tree.glob("pack/**/*.py")]
    edges = {module: set(targets) for module, targets in code_facts.imports(sources).items()}
    assert edges == {
        "pack": set(),
        "pack.base": {"pack.sub.upper"},
        "pack.other": set(),
        "pack.sub": {"pack.sub.upper"},
        "pack.sub.upper": {"pack.base"},
    }


def test_a_private_name_of_the_module_itself_is_no_access(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text("class A:\n    def same(self, a):\n        self._x = 1\n        return a._x\n")
    assert code_facts.private_accesses(code_facts.Source.read(file, tmp_path)) == 0


def test_a_circle_of_three_is_one_and_a_chain_is_none() -> None:
    edges = {"a": {"b"}, "b": {"c"}, "c": {"a", "e"}, "d": {"a"}, "e": set()}
    assert code_facts.circles({k: frozenset(v) for k, v in edges.items()}) == [{"a", "b", "c"}]


def test_an_upward_arrow_is_counted_by_the_checkouts_own_layers(tree: Path) -> None:
    rule = "def violations(root):\n    return [file for file in root.rglob('upper.py')]\n"
    (tree / "tests/test_layering.py").write_text(rule)
    assert code_facts.facts(tree)["upward arrows"] == "1"


def test_a_commit_stands_beside_the_checkout(tree: Path) -> None:
    def git(*words: str) -> None:
        names = ("-c", "user.name=A", "-c", "user.email=a@example.org")
        subprocess.run(["git", "-C", str(tree), *names, *words], check=True, capture_output=True)

    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "before")
    (tree / "pack/more.py").write_text("")
    script = ROOT / "pipelines/code_facts.py"
    done = subprocess.run(
        [sys.executable, str(script), str(tree), "--at", "HEAD"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    head, *lines = done.stdout.splitlines()
    rows = {cells[0]: cells[1:] for cells in (re.split(" {2,}", line) for line in lines)}
    assert head.split() == ["HEAD", tree.name]
    assert rows["files"] == ["5", "6"]


def test_a_folder_without_a_package_is_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no package here"):
        code_facts.facts(tmp_path)
