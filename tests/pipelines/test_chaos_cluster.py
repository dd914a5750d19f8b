"""A cluster whose machines come and go while a run goes on: the bytes of an undisturbed one."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.chaos_cluster import NodeOutcome, disturbed, make_cluster_arena, undisturbed

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
