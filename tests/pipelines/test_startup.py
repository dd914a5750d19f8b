"""What `pipelines/bench/startup.py` counts: processes that leave their parents, every engine."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import startup
from marked_tree import FailedError, Seconds, run_marked

SPIN = """
import os, time
{leave}
while time.process_time() < {cpu_s}:
    pass
time.sleep({stay_s})
"""
LEAVES = """
import subprocess, sys
subprocess.Popen([sys.executable, "-c", {code!r}])
"""


def run(folder: Path, code: str, limit_s: float = 60.0) -> Seconds:
    command = [sys.executable, "-c", code]
    return run_marked(command, folder / "log.txt", limit_s=limit_s, cwd=folder)


def test_a_process_that_outlives_the_command_counts_to_its_end(tmp_path: Path) -> None:
    orphan = SPIN.format(leave="os.setsid()", cpu_s=0.5, stay_s=0.5)
    taken = run(tmp_path, LEAVES.format(code=orphan))
    assert taken.cpu_s > 0.45  # the clock of /proc ticks 100 times a second


def test_a_process_that_ends_between_two_readings_counts_where_it_was_waited_for(
    tmp_path: Path,
) -> None:
    spun = [run(tmp_path, SPIN.format(leave="", cpu_s=0.3, stay_s=0)).cpu_s for _ in range(3)]
    assert min(spun) >= 0.3


def test_a_command_that_fails_or_hangs_is_told_with_its_last_line(tmp_path: Path) -> None:
    with pytest.raises(FailedError, match=r"^status 3 after \d+ s: the end$"):
        run(tmp_path, "print('begin'); print('the end'); raise SystemExit(3)")
    with pytest.raises(FailedError, match="status -9"):
        run(tmp_path, SPIN.format(leave="", cpu_s=0, stay_s=600), limit_s=0.5)


def test_every_command_is_timed_with_every_engine_that_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_commands: list[Sequence[str]] = []

    def time_once(_: startup.Bench, command: Sequence[str]) -> Seconds:
        run_commands.append(command)
        if command[1] == "retry":
            raise FailedError("status 1 after 2 s: no")
        return Seconds(wall_s=float(len(run_commands)), cpu_s=0.5)

    monkeypatch.setattr(startup.Bench, "time_once", time_once)
    bench = startup.Bench(tmp_path, tmp_path / "siglip", repeats=3)
    found = startup.time_all(bench, ["none", "local"], ["thumbnail"])
    by_engine = {command: set(engines) for command, engines in found.items()}
    alone = {name: {"none"} for name in ("--help", "decide", "plan", "report", "verify")}
    assert by_engine == {
        "prune thumbnail": {"script", "none", "local"},
        "shard": {"none", "local"},
        "retry": {"none", "local"},
        **alone,
    }
    assert found["prune thumbnail"]["script"] == {
        "first": {"wall_s": 1.0, "cpu_s": 0.5},
        "warm": {"wall_s": 2.5, "cpu_s": 0.5},
        "no_bytecode": {"wall_s": 4.0, "cpu_s": 0.5},
        "busy": {"wall_s": 5.0, "cpu_s": 0.5},
    }
    assert found["retry"]["local"] == {"first": {"failed": "status 1 after 2 s: no"}}
    prunes = [command for command in run_commands if command[1] == "prune"]
    assert ["--engine" in command for command in prunes] == [False] * 5 + [True] * 5
