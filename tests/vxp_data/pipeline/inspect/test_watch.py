"""What is seen of a run from another terminal, at each of its stages."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from support.s3 import Bucket
from vxp_data.core.run_state import Phase, RunState
from vxp_data.pipeline.inspect.watch import look_at
from vxp_data.pipeline.run_dir.directory import open_run
from vxp_data.pipeline.run_dir.lock import run_lock
from vxp_data.pipeline.run_dir.metrics_segments import MetricsSegments, metrics_folder
from vxp_data.report.watched import run_lines, runs_table, short_line
from vxp_data.storage.folder import open_folder

HOLDS = """
import sys
from vxp_data.pipeline.run_dir.lock import run_lock
from vxp_data.storage.folder import open_folder
with run_lock(open_folder(sys.argv[1]), "vxp-data prune"):
    print("held", flush=True)
    sys.stdin.read()
"""


def line(state: str = "embedding", **changes: Any) -> dict[str, Any]:
    """A line of metrics: 30 of 90 videos, 2 a second."""
    return {
        "time_s": time.time(), "elapsed_s": 20.0, "next_s": 5.0, "state": state,
        "clips": {"todo": 90, "before": 10, "done": 30, "failed": 2},
        "files_todo": 90, "frames": 560, "bytes_fetched": 3_400_000,
        "stages": {
            "probe": {"cpu_s": 1.0}, "decode": {"cpu_s": 9.0}, "read": {"wall_s": 30.0},
            "embed": {"cpu_s": 4.0, "wall_s": 8.0, "wait_s": 2.0},
            "write": {"cpu_s": 0.5, "wall_s": 1.0},
        },
        "queue": {"clips_waiting": 7, "decoders_paused": 1},
        "workers": {"decode": 4, "embed": 2, "on_gpu": True},
        "nodes": [{"name": "n1", "num_cpus": 4.0, "num_gpus": 2.0, "decoders": 4, "encoders": 2}],
        "quarantine": {"timeout": 2}, "clips_per_s": 2.0, "encoder_busy": 0.8,
        "bound_by": "decoding", **changes,
    }  # fmt: skip


@contextmanager
def holder(run: str | Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds a run directory."""
    command = [sys.executable, "-c", HOLDS, str(run)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def phase_of(run: Path | str) -> Phase:
    return look_at(open_run(run)).phase


def test_each_phase_of_a_run_is_told(tmp_path: Path) -> None:
    run = open_run(tmp_path)
    assert phase_of(tmp_path) == Phase.NONE
    with run_lock(run.root, "vxp-data prune"):
        assert phase_of(tmp_path) == Phase.CHECKING
        segments = MetricsSegments(metrics_folder(run.root))
        segments.write(line())
        assert phase_of(tmp_path) == Phase.EMBEDDING
        segments.write(line("embedded"))
        assert phase_of(tmp_path) == Phase.DECIDING
    assert phase_of(tmp_path) == Phase.STOPPED
    run.write_run({})
    assert phase_of(tmp_path) == Phase.ENDED
    with run_lock(run.root, "vxp-data decide"):
        segments.write(line("embedded", time_s=time.time() - 1000))
        assert phase_of(tmp_path) == Phase.CHECKING, "the last line is of an earlier run"


def test_a_killed_run_has_stopped_and_a_silent_one_is_said_to_be_silent(tmp_path: Path) -> None:
    run = open_run(tmp_path)
    with holder(tmp_path) as process:
        segments = MetricsSegments(metrics_folder(run.root))
        segments.write(line())
        state = look_at(run)
        assert (state.phase, state.is_killed, state.silent_s) == (Phase.EMBEDDING, False, None)
        assert f"process {process.pid}" in state.holder
        segments.write(line(time_s=time.time() + 1000 - 1100))
        assert look_at(run).silent_s is None or look_at(run).phase != Phase.EMBEDDING
        process.send_signal(signal.SIGKILL)
        process.wait()
        state = look_at(run)
    assert (state.phase, state.is_killed) == (Phase.STOPPED, True)
    assert "its process is gone" in short_line(state)


def state_of(metrics: dict[str, Any] | None, phase: Phase, **changes: Any) -> RunState:
    known: dict[str, Any] = {"holder": "", "is_killed": False, "silent_s": None, "eta_s": None}
    return RunState(run="runs/a", phase=phase, metrics=metrics, **known | changes)


def test_a_run_under_way_is_shown_whole() -> None:
    words = "\n".join(run_lines(state_of(line(), Phase.EMBEDDING, holder="me", eta_s=30.0)))
    assert words == (
        "runs/a: embedding\n"
        "  by me\n"
        "  30 of 90 videos (33%), 10 before, 2 quarantined; 560 frames, 3.4 MB fetched\n"
        "  20 s so far, 1.5 videos/s since the start, 2.0 of late; about 30 s left\n"
        "  decode-bound; encoders busy 80%; 7 videos wait for an encoder, 1 of 4 "
        "decoders with them\n"
        "  4 decoding workers, 2 encoders; CPU-s: probe 1.0, decode 9.0, embed 4.0, write 0.5\n"
        "  node: n1 (4 cores, 2 GPUs)\n"
        "       2  timeout"
    )
    bound = "\n".join(run_lines(state_of(line(bound_by="encoder"), Phase.EMBEDDING)))
    assert "GPU-bound" in bound


def test_several_runs_are_shown_a_line_each() -> None:
    states = [
        state_of(line(), Phase.EMBEDDING, eta_s=30.0),
        state_of(line(), Phase.EMBEDDING, silent_s=99.0),
        state_of(None, Phase.CHECKING),
    ]
    rows = [row.split() for row in runs_table(states).split("\n")]
    assert rows[1] == ["runs/a", "embedding", "30", "90", "2.0", "30", "s", "2", "decoding", "1"]
    assert rows[2][1] == "silent"
    assert rows[3] == ["runs/a", "checking", *["-"] * 7]
    assert "silent: its next line is overdue for 99 s" in short_line(states[1])


def test_the_time_left_and_silence_are_worked_out_from_the_last_line(tmp_path: Path) -> None:
    run = open_run(tmp_path)
    with run_lock(run.root, "vxp-data prune"):
        segments = MetricsSegments(metrics_folder(run.root))
        segments.write(line(time_s=time.time() + 1))
        assert look_at(run).eta_s == 30.0
        segments.write(line(clips_per_s=None, time_s=time.time() + 1))
        assert look_at(run).eta_s is None
        segments.write(line(next_s=-100.0, time_s=time.time() + 1))
        assert look_at(run).silent_s == pytest.approx(99, abs=2)


def test_a_run_in_a_store_is_watched_as_well(s3: Bucket) -> None:
    run = open_run(f"{s3.uri}/run")
    with run_lock(run.root, "vxp-data prune"):
        MetricsSegments(metrics_folder(run.root)).write(line(time_s=time.time() + 1))
        state = look_at(run)
    assert (state.phase, state.eta_s) == (Phase.EMBEDDING, 30.0)
    assert phase_of(run.root.uri) == Phase.STOPPED


def watched(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "vxp_data", "watch", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_the_command_ends_with_the_run_and_tells_scripts_how_it_is(tmp_path: Path) -> None:
    run = open_run(tmp_path)
    with holder(tmp_path):
        MetricsSegments(open_folder(tmp_path).child("metrics")).write(line())
        done = watched(str(tmp_path), "--once", "--json")
        assert (done.returncode, done.stderr) == (0, "")
        told = json.loads(done.stdout)
        assert told["phase"] == "embedding"
        assert told["metrics"]["clips"]["done"] == 30
    done = watched(str(tmp_path))
    assert done.returncode == 2
    assert "stopped before it ended" in done.stderr
    assert watched(str(tmp_path), "--once").returncode == 0
    run.root.remove("lock.json")
    run.write_run({})
    done = watched(str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{tmp_path}: ended\n")
    done = watched(str(tmp_path / "none"))
    assert done.returncode == 2
    assert "nothing has run here" in done.stderr
