"""A cluster whose machines come and go while a run goes on: the bytes of an undisturbed one."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from support.chaos_cluster import NodeOutcome, disturbed, make_cluster_arena, undisturbed
from support.compared_runs import compare

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def test_with_a_third_of_its_machines_replaced_a_run_ends_with_the_same_bytes(
    tmp_path: Path,
) -> None:
    outcome = NodeOutcome()
    with make_cluster_arena(tmp_path / "arena", copies=3) as arena:
        disturbed(arena, undisturbed(arena), 0, outcome)
    assert outcome.kills
    assert outcome.rows > 0
    assert (outcome.lost, outcome.doubled) == (0, 0)
    assert outcome.different == []
    assert outcome.left_behind == []
    assert outcome.busy_after_s


def test_encoders_on_cores_become_more_where_the_cluster_grows(tmp_path: Path) -> None:
    on_cores = {"encoder__device": "cpu"}
    with make_cluster_arena(tmp_path / "arena", copies=5) as arena:
        for _ in range(2):
            arena.add("d")
        run = arena.start(tmp_path / "run", **on_cores)
        while not arena.embedded_on():
            assert run.process.poll() is None, run.said()
            time.sleep(0.1)
        assert len(arena.embedded_on()) == 1
        for _ in range(2):
            arena.add("d")
        assert run.end(900) == 0, run.said()
        assert len(arena.embedded_on()) > 1
        again = arena.start(tmp_path / "again", **on_cores)
        assert again.end(900) == 0, again.said()
    found = compare(tmp_path / "run", tmp_path / "again")
    assert (found.lost, found.doubled, found.different) == (0, 0, [])
