"""`vxp-data shard`, killed at any moment and started again, ends with the same bytes."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support.runs import run_shard, shard_bytes
from vxp_data.pipeline.verify.shards import verify_shards
from vxp_data.storage.folder import open_folder

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("engine")]

SETTINGS = {"shard__payload": "frames", "shard__max_samples": 2, "shard__frame_px": 640}


def start(run: Path, out: Path) -> subprocess.Popen[bytes]:
    """Start the command as a process; wait until it works on `out`."""
    words = [str(Path(sys.executable).with_name("vxp-data")), "shard", str(run), "--out", str(out)]
    for name, value in SETTINGS.items():
        words += ["--set", f"{name.replace('__', '.')}={value}"]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while not (out / "lock.json").exists() and process.poll() is None:
        time.sleep(0.005)
    return process


def ended_ok(process: subprocess.Popen[bytes]) -> bool:
    _, complaints = process.communicate(timeout=120)
    assert process.returncode == 0, complaints.decode()
    return True


@pytest.fixture(scope="module")
def wanted(mixed_run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What an undisturbed run writes."""
    out = tmp_path_factory.mktemp("quiet") / "out"
    run_shard(mixed_run, out, **SETTINGS)
    return shard_bytes(out)


@pytest.fixture(scope="module")
def length_s(mixed_run: Path, tmp_path_factory: pytest.TempPathFactory) -> float:
    """How long a run works on its folder, in a process of its own."""
    out = tmp_path_factory.mktemp("timed") / "out"
    process = start(mixed_run, out)
    started_s = time.monotonic()
    assert ended_ok(process)
    return time.monotonic() - started_s


def kill_and_go_on(run: Path, out: Path, delay_s: float) -> int:
    """Kill a run after some seconds; finish it; give how many shards it had written."""
    process = start(run, out)
    time.sleep(delay_s)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    left = [path.name for path in out.iterdir()]
    if process.returncode == -signal.SIGKILL and "index.json" not in left:
        assert "lock.json" in left
    result = run_shard(run, out, **SETTINGS)
    return result.num_found


@pytest.mark.parametrize("share", [0.3, 0.8])
def test_killed_early_and_late_it_goes_on_to_the_same_bytes(
    mixed_run: Path, tmp_path: Path, wanted: dict[str, bytes], length_s: float, share: float
) -> None:
    num_found = kill_and_go_on(mixed_run, tmp_path / "out", share * length_s)
    assert num_found <= sum(name.endswith(".tar") for name in wanted)
    assert shard_bytes(tmp_path / "out") == wanted
    assert verify_shards(open_folder(tmp_path / "out")).problems == []


@pytest.mark.parametrize("seed", range(10))
def test_killed_at_ten_random_moments_it_goes_on_to_the_same_bytes(
    mixed_run: Path, tmp_path: Path, wanted: dict[str, bytes], length_s: float, seed: int
) -> None:
    share = random.Random(seed).random()
    num_found = kill_and_go_on(mixed_run, tmp_path / "out", share * length_s)
    assert shard_bytes(tmp_path / "out") == wanted, f"{share:.2f} of a run, {num_found} found"


def test_killed_again_and_again_it_gets_there(
    mixed_run: Path, tmp_path: Path, wanted: dict[str, bytes], length_s: float
) -> None:
    out = tmp_path / "out"
    for _ in range(4):
        process = start(mixed_run, out)
        time.sleep(length_s / 3)
        process.kill()
        process.communicate(timeout=60)
    run_shard(mixed_run, out, **SETTINGS)
    assert shard_bytes(out) == wanted


def test_ctrl_c_ends_it_with_a_hint_and_loses_nothing(
    mixed_run: Path, tmp_path: Path, wanted: dict[str, bytes], length_s: float
) -> None:
    process = start(mixed_run, tmp_path / "out")
    time.sleep(length_s / 3)
    process.send_signal(signal.SIGINT)
    _, complaints = process.communicate(timeout=60)
    assert process.returncode == 130, complaints.decode()
    assert "the same command goes on from there" in complaints.decode()
    left = {path.name for path in (tmp_path / "out").iterdir()}
    assert "lock.json" not in left
    assert "index.json" not in left
    run_shard(mixed_run, tmp_path / "out", **SETTINGS)
    assert shard_bytes(tmp_path / "out") == wanted
