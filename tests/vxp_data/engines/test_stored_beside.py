"""What an encoder has embedded is stored while it embeds what comes next, and reported after."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pytest

from support import stages as fakes
from vxp_data.engines.choose import open_engine
from vxp_data.settings.cluster import ClusterConfig

NUM_FILES = 16 * 6
"""Batches enough that one comes after another."""


def run_job(engine_name: str, log: Path, *, dies: bool = False) -> list[tuple[float, pa.Table]]:
    """Run a job; return its reports and when each came."""
    stages = replace(
        fakes.stages(), start_encoder=partial(fakes.SlowStore, log, NUM_FILES, dies=dies)
    )
    files = fakes.file_rows([f"fine-{i}" for i in range(NUM_FILES)])
    with open_engine(ClusterConfig(engine=engine_name, num_cpus=2)) as engine:
        return [(time.monotonic(), report) for report in engine.embed_files(files, stages)]


def noted(log: Path) -> list[tuple[str, float, float]]:
    """Return what was done, when it was begun and when it ended."""
    lines = (line.split() for line in log.read_text().splitlines())
    return [(what, float(began_s), float(ended_s)) for what, began_s, ended_s in lines]


def test_the_next_batch_is_embedded_while_the_last_is_stored(
    engine_name: str, tmp_path: Path
) -> None:
    reports = run_job(engine_name, tmp_path / "log")
    rows = pa.concat_tables(report for _, report in reports)
    assert sorted(rows["clip"].to_pylist()) == list(range(NUM_FILES))
    notes = noted(tmp_path / "log")
    stored = sorted((n for n in notes if n[0] in ("beside", "alone")), key=lambda note: note[2])
    assert [what for what, *_ in stored].count("beside") >= len(stored) * 2 // 3 >= 4
    for number, (at_s, _) in enumerate(reports, 1):  # each only when it was stored
        assert sum(ended_s <= at_s for _, _, ended_s in stored) >= number
    embedded = sorted(note[1:] for note in notes if note[0] == "embed")
    assert all(a[1] <= b[0] for a, b in pairwise(embedded))  # one at a time


def test_a_worker_that_dies_while_it_stores_costs_no_clip(engine_name: str, tmp_path: Path) -> None:
    reports = run_job(engine_name, tmp_path / "log", dies=True)
    rows = pa.concat_tables(report for _, report in reports)
    assert sorted(rows["clip"].to_pylist()) == list(range(NUM_FILES))
    assert set(rows["reason"].to_pylist()) == {""}  # nobody is to blame
    again = [what for what, *_ in noted(tmp_path / "log") if what == "again"]
    assert 1 <= len(again) <= 3  # the batch that was stored, and those embedded meanwhile


@pytest.mark.parametrize("name", ["embed-kill"])
def test_who_kills_an_encoder_is_blamed_alone_beside_a_batch_that_is_stored(
    engine_name: str, name: str
) -> None:
    names = [f"fine-{i}" for i in range(NUM_FILES)]
    names[NUM_FILES // 2] = name
    with open_engine(ClusterConfig(engine=engine_name, num_cpus=2)) as engine:
        tables = list(engine.embed_files(fakes.file_rows(names), fakes.stages()))
    rows = pa.concat_tables(tables).sort_by("clip").to_pylist()
    assert [row["clip"] for row in rows] == list(range(NUM_FILES))
    assert {i: r["reason"] for i, r in enumerate(rows) if r["reason"]} == {
        NUM_FILES // 2: "crashed"
    }
