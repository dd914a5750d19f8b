"""ReCoT training as its command: killed and started again, and on two processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support.later import LATER
from support.recot_runs import recipe_file, training_shards
from support.train_processes import TIMEOUT_S, finish, kill_all, start
from vxp_model.train.guards import StopRequest
from vxp_model.train.metrics_log import read_log

if LATER:
    from vxp_model.models.artefacts import load_recot

CHANGES = {
    "engine": {"zero_stage": 2},
    "data": {"workers": 1},
    "run": {"steps": 9, "checkpoint_steps": 3},
}
ALONE = [sys.executable, "-m", "vxp_model", "recot"]
TWO = [
    sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
    "-m", "vxp_model", "recot",
]  # fmt: skip


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> str:
    return training_shards(tmp_path_factory.mktemp("shards"))


def kill_after(command: list[str], recipe: Path, log: Path, *, steps: int) -> None:
    """Let it train for some steps, then kill it and all that it has started."""
    process = start(command, recipe)
    deadline_s = time.monotonic() + TIMEOUT_S
    while len(read_log(log)) < steps:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    kill_all(process)
    assert len(read_log(log)) < 9


def losses(out: Path) -> list[float]:
    entries = read_log(out / "log.jsonl")
    assert [entry["step"] for entry in entries] == list(range(1, 10))
    return [entry["loss"] for entry in entries]


@pytest.fixture(scope="module")
def alone(shards: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of nine steps on one process, never killed."""
    folder = tmp_path_factory.mktemp("alone")
    said = finish(ALONE, recipe_file(folder / "r.yaml", shards, folder / "run", **CHANGES))
    assert "Trained: 9 steps, reconstruction loss" in said
    return folder / "run"


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_killed_and_started_again_gives_the_losses_of_never_killed(
    shards: str, alone: Path, tmp_path: Path
) -> None:
    recipe = recipe_file(tmp_path / "r.yaml", shards, tmp_path / "run", **CHANGES)
    kill_after(ALONE, recipe, tmp_path / "run" / "log.jsonl", steps=5)
    said = finish(ALONE, recipe)
    assert "going on after step 3 of 9" in said or "going on after step 6 of 9" in said
    assert losses(tmp_path / "run") == losses(alone)
    weights = [load_recot(out / "model").state_dict() for out in (alone, tmp_path / "run")]
    assert all(tensor.equal(weights[0][name]) for name, tensor in weights[1].items())


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_two_processes_give_the_losses_of_one(shards: str, alone: Path, tmp_path: Path) -> None:
    recipe = recipe_file(tmp_path / "r.yaml", shards, tmp_path / "run", **CHANGES)
    finish(TWO, recipe)
    assert losses(tmp_path / "run") == pytest.approx(losses(alone), rel=1e-5)
    names = {path.name for path in (tmp_path / "run" / "checkpoints" / "step-00000009").iterdir()}
    assert names >= {"engine", "rng-0.pt", "rng-1.pt", "state.json"}


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("stage", [0, 1, 2])
def test_two_processes_killed_and_started_again_go_on_to_the_bit(
    stage: int, shards: str, tmp_path: Path
) -> None:
    changes = {**CHANGES, "engine": {"zero_stage": stage}}
    once = recipe_file(tmp_path / "once.yaml", shards, tmp_path / "once", **changes)
    twice = recipe_file(tmp_path / "twice.yaml", shards, tmp_path / "twice", **changes)
    finish(TWO, once)
    kill_after(TWO, twice, tmp_path / "twice" / "log.jsonl", steps=5)
    finish(TWO, twice)
    assert losses(tmp_path / "twice") == losses(tmp_path / "once")


def test_a_request_to_stop_is_noted_and_a_second_one_acts() -> None:
    def interrupted() -> None:
        with StopRequest() as request:
            assert not request.came
            os.kill(os.getpid(), signal.SIGINT)
            assert request.came
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        interrupted()


def test_in_the_background_of_a_script_ctrl_c_stays_ignored_and_sigterm_is_noted() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with StopRequest() as request:
            os.kill(os.getpid(), signal.SIGINT)
            assert not request.came
            os.kill(os.getpid(), signal.SIGTERM)
            assert request.came
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.slow
def test_an_error_of_the_user_is_one_line_and_status_2(tmp_path: Path) -> None:
    recipe = recipe_file(tmp_path / "r.yaml", str(tmp_path / "none"), tmp_path / "run")
    done = subprocess.run(
        [sys.executable, "-m", "vxp_model", "--local_rank=0", "recot", str(recipe)],
        capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stdout == ""
    assert "cannot read index.json" in done.stderr
    assert "Traceback" not in done.stderr
