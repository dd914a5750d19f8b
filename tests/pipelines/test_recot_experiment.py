"""The benchmark of ReCoT training: what it measures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from support.recot_runs import recipe_file, training_shards
from support.repo import BENCH


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_benchmark_books_a_whole_step_to_its_parts(tmp_path: Path) -> None:
    recipe = recipe_file(tmp_path / "r.yaml", training_shards(tmp_path / "s"), tmp_path / "run")
    script = (
        "import sys, records, recot; from pathlib import Path; "
        "write = records.write_record; "
        "records.write_record = lambda *a, **k: write(*a, folder=Path(sys.argv[1]), **k); "
        "recot.main([sys.argv[2], '--steps', '3', '--warmup', '1'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "runs"), str(recipe)],
        cwd=BENCH, capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "runs" / "recot-tiny-cpu.json").read_text())["figures"]
    assert all(seconds > 0 for seconds in figures["parts_s"].values())
    assert sum(figures["parts_s"].values()) == pytest.approx(figures["step_s"], rel=1.0)
