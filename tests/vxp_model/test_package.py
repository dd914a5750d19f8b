"""What `vxp_model` offers under its own name, and that nothing is loaded before its time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import vxp_model
from support.shard_fixtures import text_shards


def in_child(code: str) -> list[str]:
    """Run code in a fresh interpreter; give the lines that it prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_importing_the_package_loads_nothing_heavy() -> None:
    lines = in_child(
        "import sys, vxp_model\n"
        "print(sorted({'torch', 'transformers', 'numpy', 'typer'} & set(sys.modules)))\n"
        "print(sorted(name for name in sys.modules if name.startswith('vxp')))"
    )
    assert lines == ["[]", "['vxp_model']"]


def test_a_star_import_gives_what_all_says_and_no_training() -> None:
    lines = in_child(
        "import sys\n"
        "before = {*globals(), 'before'}\n"
        "from vxp_model import *\n"
        "print(sorted(set(globals()) - before))\n"
        "print(sorted(sys.modules['vxp_model'].__all__))\n"
        "print(sorted({'deepspeed', 'ray', 'pydantic'} & set(sys.modules)))"
    )
    assert lines[0] == lines[1]
    assert "'LongVideoModel'" in lines[0]
    assert lines[2] == "[]"


def test_a_name_that_the_package_has_not_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'vxp_model' has no attribute 'Loader'"):
        vxp_model.Loader  # noqa: B018


def test_a_loader_takes_a_folder_as_a_path_or_as_its_text(tmp_path: Path) -> None:
    text_shards(tmp_path / "shards", 5)
    by_path, by_text = (
        [batch.samples[0].sample_id for batch in vxp_model.ShardLoader(folder)]
        for folder in (tmp_path / "shards", str(tmp_path / "shards"))
    )
    assert sorted(by_path) == sorted(f"t/{number}" for number in range(5))
    assert by_path == by_text
