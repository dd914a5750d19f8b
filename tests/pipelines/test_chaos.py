"""Killed at random moments, a run ends with the bytes of an undisturbed one."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.chaos import Arena, chaos, make_arena

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module", params=["local", pytest.param("ray", marks=pytest.mark.slow)])
def arena(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Arena]:
    """Videos, and for Ray a cluster that outlives the commands."""
    with make_arena(tmp_path_factory.mktemp("chaos"), request.param) as arena:
        yield arena


def test_a_run_killed_three_times_ends_with_the_bytes_of_an_undisturbed_one(arena: Arena) -> None:
    outcome = chaos(
        arena,
        kills=3,
        encoders={"thumbnail": ["--encoder", "thumbnail"]},
        seed=1,
        moments=["files"],
    )
    assert len(outcome.kills) == 3
    assert outcome.rows > 0
    assert (outcome.lost, outcome.doubled) == (0, 0)
    assert outcome.different == []
    assert outcome.left_behind == []
    assert sum(kill.files_read_again for kill in outcome.kills) <= 3 * arena.num_files


@pytest.mark.slow
def test_of_two_commands_in_one_directory_the_second_is_refused_and_names_the_first(
    arena: Arena, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    first = arena.start(out, "--encoder", "thumbnail")
    deadline = time.monotonic() + 120
    while not (out / "lock.json").exists():
        assert first.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    second = subprocess.run(
        arena.command(out, "--encoder", "thumbnail"),
        env=arena.env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert second.returncode == 2, second.stderr
    assert "is in use by `vxp-data prune` on " in second.stderr
    assert f"process {first.pid}, since" in second.stderr
    assert first.wait(300) == 0
    assert json.loads((out / "run.json").read_text())["decided"]["num_in"] == 52
