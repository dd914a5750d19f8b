"""Processes of this machine: nothing but them, bounded, and gone when the command is."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pyarrow as pa
import pytest

from support import stages as fakes
from support.commands import vxp_data
from support.flat_videos import TAKES_LONG, write_flat_video
from support.misbehaving import offer_misbehaving
from support.mixed_media import write_media
from support.repo import ROOT
from support.runs import caption_row, write_rows
from vxp_data.engines.choose import one_engine, open_engine
from vxp_data.engines.local.engine import LocalEngine
from vxp_data.engines.local.machine import available_cpus, memory_in_use, this_machine
from vxp_data.engines.local.shared_table import receive_message, send_message, whole
from vxp_data.errors import UserError
from vxp_data.settings.cluster import ClusterConfig

TWO = ClusterConfig(num_cpus=2)
HEEDS_CTRL_C = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background of a script
from vxp_data.cli import main
main()
"""


@pytest.fixture
def others() -> set[int]:
    """Return the processes below this one that are of other tests."""
    return {child.pid for child in psutil.Process().children(recursive=True)}


def workers(others: set[int]) -> set[int]:
    """Return the worker processes of this process, and theirs."""
    return {
        child.pid
        for child in psutil.Process().children(recursive=True)
        if child.pid not in others and "spawn_main" in " ".join(child.cmdline())
    }


def num_open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_a_run_from_rows_to_shards_needs_neither_ray_nor_torch(tmp_path: Path) -> None:
    manifest = write_media(tmp_path / "media")
    (tmp_path / "sitecustomize.py").write_text(  # in workers, too
        "import sys\nfor name in ('ray', 'torch'):\n    sys.modules[name] = None\n"
    )
    without = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    run = ("prune", manifest, "--out", tmp_path / "run", "--encoder", "thumbnail")
    for command in (run, ("shard", tmp_path / "run", "--out", tmp_path / "shards")):
        done = vxp_data(*command, **without)
        assert done.returncode == 0, done.stderr
        complaints = [line for line in done.stderr.splitlines() if re.search("arning|rror", line)]
        assert complaints == []


def test_one_engine_starts_its_workers_once(others: set[int]) -> None:
    with one_engine(TWO):
        pids = []
        for _ in range(2):
            with open_engine(ClusterConfig(num_cpus=2)) as engine:
                assert sorted(engine.run_tasks(fakes.square, range(6)))[-1] == (5, 25)
                pids.append(workers(others))
        assert pids[0] == pids[1]
        with open_engine(ClusterConfig(num_cpus=1)) as other:
            assert other is not engine
    assert workers(others) == set()


def test_clips_that_wait_are_few_and_batches_are_full() -> None:
    files = fakes.file_rows([f"fine-{i}" for i in range(200)])
    most_open, before = 0, num_open_files()
    with LocalEngine(ClusterConfig(num_cpus=4)) as engine:
        reports = []
        for report in engine.embed_files(files, fakes.stages()):
            most_open = max(most_open, num_open_files())
            reports.append(report)
            time.sleep(0.05)  # whoever listens is slow: nothing piles up meanwhile
    batches = [report["batch"][0].as_py() for report in reports]
    assert sum(batches) == 200
    assert sorted(batches)[1:] == [16] * 12  # but for the last one
    waiting = 2 * 16 + 2 * 16 + 2  # in the queue, with the encoders, and in decoders' hands
    assert most_open - before < waiting + 30


def test_a_second_encoder_starts_where_much_is_left_though_little_waits() -> None:
    names = ["embed-sleep" if i % 8 == 0 else "fine" for i in range(320)]  # 0.4 s a batch
    with LocalEngine(ClusterConfig(num_cpus=4)) as engine:
        reports = pa.concat_tables(engine.embed_files(fakes.file_rows(names), fakes.stages()))
    assert len(reports) == len(names)
    assert len(set(reports["encoder_pid"].to_pylist())) == 2


def test_no_process_is_left_when_a_job_fails_or_is_left(others: set[int]) -> None:
    files = fakes.file_rows([f"fine-{i}" for i in range(40)])
    with LocalEngine(TWO) as engine:
        reports = engine.embed_files(files, fakes.stages())
        next(reports)
        reports.close()
    assert workers(others) == set()


def test_encoders_that_die_while_they_start_end_the_job(others: set[int]) -> None:
    stages = replace(fakes.stages(), start_encoder=fakes.dying_encoder)
    with LocalEngine(TWO) as engine, pytest.raises(UserError, match="3 encoders in a row died"):
        list(engine.embed_files(fakes.file_rows(["fine"]), stages))
    assert workers(others) == set()


def test_an_address_and_this_machine_do_not_go_together(tmp_path: Path) -> None:
    command = ("prune", tmp_path, "--out", tmp_path / "run", "--encoder", "thumbnail")
    done = vxp_data(*command, "--engine", "local", "--address", "auto")
    assert done.returncode == 2
    assert "Leave --address out, or take --engine ray" in done.stderr
    unknown = vxp_data(*command, "--engine", "lokal")
    assert unknown.returncode == 2
    assert "Did you mean 'local'?" in unknown.stderr
    assert not (tmp_path / "run").exists()


@pytest.fixture
def slow_prune(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[str]]:
    """A prune that works, in a process group of its own."""
    offer_misbehaving(tmp_path / "misbehaving", monkeypatch)
    for i in range(12):
        write_flat_video(tmp_path / f"{i}.mp4", num_frames=TAKES_LONG)
    manifest = write_rows(
        tmp_path / "rows.json", [caption_row(str(i), f"{i}.mp4") for i in range(12)]
    )
    command = ["prune", manifest, "--out", tmp_path / "run", "--encoder", "thumbnail"]
    command += ["--set", "frames.sampler=misbehaving"]
    with subprocess.Popen(
        [sys.executable, "-c", HEEDS_CTRL_C, *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        marks = tmp_path / "misbehaving" / "marks"
        while not list(marks.glob(f"{TAKES_LONG} frames by *")):
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.05)
        yield process
        process.kill()


@pytest.mark.parametrize("way", ["interrupt", "kill"])
def test_a_command_that_is_stopped_takes_its_processes_along(
    slow_prune: subprocess.Popen[str], tmp_path: Path, way: str
) -> None:
    family = psutil.Process(slow_prune.pid).children(recursive=True)
    assert len(family) >= 2
    begun_s = time.monotonic()
    if way == "interrupt":
        os.killpg(slow_prune.pid, signal.SIGINT)  # as a terminal does, to all of them
        output, _ = slow_prune.communicate(timeout=60)
        assert slow_prune.returncode == 130, output
        assert output.rstrip().endswith("the same command goes on from there.")
        assert "Traceback" not in output
    else:
        slow_prune.kill()
        slow_prune.wait()
    _, alive = psutil.wait_procs(family, timeout=20)
    assert alive == []
    assert time.monotonic() - begun_s < 20
    assert not (tmp_path / "run" / "run.json").exists()


LONG_TASK = """
import sys
from pathlib import Path
from support.stages import misbehave_at
from vxp_data.engines.local.engine import LocalEngine
from vxp_data.settings.cluster import ClusterConfig
with LocalEngine(ClusterConfig(num_cpus=1)) as engine:
    list(engine.run_tasks(misbehave_at, [Path(sys.argv[1])]))
"""


def test_a_worker_in_the_middle_of_a_long_task_ends_with_its_parent(tmp_path: Path) -> None:
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    command = [sys.executable, "-c", LONG_TASK, str(tmp_path / "begun")]
    with subprocess.Popen(command, env=os.environ | {"PYTHONPATH": paths}) as process:
        while not (tmp_path / "begun").exists():
            assert process.poll() is None
            time.sleep(0.05)
        family = psutil.Process(process.pid).children(recursive=True)
        process.kill()
    _, alive = psutil.wait_procs(family, timeout=20)  # the task sleeps for 60 s
    assert alive == []


def test_tables_pass_between_processes_small_and_large() -> None:
    from multiprocessing import Pipe

    here, there = Pipe(duplex=True)
    small = pa.table({"x": [1]})
    large = pa.table({"x": list(range(100_000))})
    num_open = num_open_files()
    send_message(here, os.getpid(), ("any", 1), [small, large, small])
    message, parcels = receive_message(there)
    assert message == ("any", 1)
    assert [whole(parcel) for parcel in parcels] == [small, large, small]
    assert num_open_files() == num_open


def test_what_the_machine_has_is_read_from_its_control_group(tmp_path: Path) -> None:
    cores = len(os.sched_getaffinity(0))
    assert available_cpus(tmp_path) == cores
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert available_cpus(tmp_path) == cores
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    assert available_cpus(tmp_path) == 1
    assert this_machine(ClusterConfig(num_cpus=7, num_gpus=3)).num_cpus == 7
    plain = memory_in_use(tmp_path)
    assert 0 < plain < 1
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("1100\n")
    (tmp_path / "memory.stat").write_text("anon 700\ninactive_file 110\n")
    assert memory_in_use(tmp_path) == pytest.approx(0.99)
    (tmp_path / "memory.max").write_text("max\n")
    assert memory_in_use(tmp_path) == pytest.approx(plain, abs=0.1)


def test_a_share_is_of_a_cluster() -> None:
    with (
        pytest.raises(UserError, match=r"cluster\.share is 0\.5, .*cluster\.num_cpus=2"),
        open_engine(ClusterConfig(engine="local", share=0.5)),
    ):
        pass


def test_encoders_run_where_a_gpu_is_or_on_cores() -> None:
    for num_gpus, asked, device in [(0, "auto", "cpu"), (1, "auto", "cuda"), (1, "cpu", "cpu")]:
        with open_engine(ClusterConfig(engine="local", num_gpus=num_gpus)) as engine:
            assert engine.encoder_device(asked) == device
