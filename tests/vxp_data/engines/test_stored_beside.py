"""What an encoder has embedded is stored while it embeds what comes next, and reported after."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
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
    stages = replace(fakes.stages(), start_encoder=partial(fakes.SlowStore, log, dies=dies))
    files = fakes.file_rows([f"fine-{i}" for i in range(NUM_FILES)])
    with open_engine(ClusterConfig(engine=engine_name, num_cpus=2)) as engine:
        return [(time.monotonic(), report) for report in engine.embed_files(files, stages)]


def noted(log: Path) -> dict[str, list[tuple[float, float]]]:
    """Return when what was begun and ended."""
    found: dict[str, list[tuple[float, float]]] = {"embed": [], "store": [], "again": []}
    for line in log.read_text().splitlines():
        what, _, began_s, ended_s = line.split()
        found[what].append((float(began_s), float(ended_s)))
    return found


def test_the_next_batch_is_embedded_while_the_last_is_stored(
    engine_name: str, tmp_path: Path
) -> None:
    reports = run_job(engine_name, tmp_path / "log")
    rows = pa.concat_tables(report for _, report in reports)
    assert sorted(rows["clip"].to_pylist()) == list(range(NUM_FILES))
    times = noted(tmp_path / "log")
    embeds, stores = sorted(times["embed"]), sorted(times["store"])
    assert len(embeds) == len(stores) > 3
    beside = [any(e[0] < s[1] and s[0] < e[1] for e in embeds) for s in stores[:-1]]
    assert sum(beside) >= len(beside) - 1  # all but where clips were not there yet
    for one, other in ((embeds, embeds), (stores, stores)):  # each by itself one at a time
        assert all(a[1] <= b[0] for a, b in zip(one, other[1:], strict=False))
    ends = sorted(ended_s for _, ended_s in stores)
    heard = sorted(at_s for at_s, _ in reports)
    assert all(ended_s <= at_s for ended_s, at_s in zip(ends, heard, strict=True))


def test_a_worker_that_dies_while_it_stores_costs_no_clip(engine_name: str, tmp_path: Path) -> None:
    reports = run_job(engine_name, tmp_path / "log", dies=True)
    rows = pa.concat_tables(report for _, report in reports)
    assert sorted(rows["clip"].to_pylist()) == list(range(NUM_FILES))
    assert set(rows["reason"].to_pylist()) == {""}  # nobody is to blame
    again = noted(tmp_path / "log")["again"]
    assert 1 <= len(again) <= 2  # the batch that was stored, and the one that was embedded


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
