"""Training of Video-XL-Pro on two processes: the losses of one, and what if one of them dies."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.mllm_runs import training_shards, tree
from support.shard_fixtures import make_video, media_clip, text_clip, write_shards
from support.train_processes import TIMEOUT_S, finish, free_port, kill_all, start
from vxp_model.train.metrics_log import read_log

ALONE = [sys.executable, "-m", "vxp_model", "train"]
TWO = [
    sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
    "-m", "vxp_model", "train",
]  # fmt: skip
OFFLOADED = {"zero_stage": 2, "offload": "torch", "device": "cpu"}
SOON_S = 60.0


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Videos and images in one directory, text in another: the sources of a recipe."""
    folder = tmp_path_factory.mktemp("data")
    texts = write_shards(folder / "text", [[text_clip(f"text/{i}") for i in range(4)]])
    return [{"uri": training_shards(folder, videos=4, images=4)}, {"uri": texts.uri}]


def recipe_file(path: Path, shards: str, **changes: Any) -> Path:
    settings = tree(
        shards,
        path.with_suffix(""),
        batch={"global_samples": 4, "micro_samples": 1},
        engine=OFFLOADED,
        **changes,
    )
    path.write_text(yaml.safe_dump(settings))
    return path


def kinds(entry: dict[str, Any]) -> list[frozenset[str]]:
    """What two processes had at once, as the log lists it: first the one's samples."""
    own = [sample_id.partition("/")[0] for sample_id in entry["sample_ids"]]
    return [frozenset(pair) for pair in zip(own[:2], own[2:], strict=True)]


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("stage", "loss"), [("sft", "sample"), ("align", "token")])
def test_two_processes_have_the_losses_of_one_where_each_has_another_kind_of_sample(
    stage: str, loss: str, shards: list[dict[str, Any]], tmp_path: Path
) -> None:
    logs = []
    for name, command in (("one", ALONE), ("two", TWO)):
        path = recipe_file(
            tmp_path / f"{name}.yaml", "", stage=stage, loss=loss, data__sources=shards,
            run__steps=8,
        )  # fmt: skip
        finish(command, path)
        logs.append(read_log(tmp_path / name / "log.jsonl"))
    one, two = logs
    assert [len(entry["sample_ids"]) for entry in two] == [4] * 8
    met = {pair for entry in two for pair in kinds(entry)}
    assert met >= {
        frozenset(pair) for pair in itertools.combinations(("text", "image", "video"), 2)
    }
    for key, near in (("loss", 1e-4), ("token_loss", 1e-4), ("grad_norm", 1e-3)):
        found = [entry[key] for entry in two]
        assert found == pytest.approx([entry[key] for entry in one], rel=near), key


def both(recipe: Path) -> list[subprocess.Popen[str]]:
    """Start two processes that nothing else looks after."""
    port = free_port()
    return [
        start(
            ALONE, recipe, RANK=str(rank), WORLD_SIZE="2", LOCAL_RANK=str(rank),
            MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port),
        )
        for rank in range(2)
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_an_error_of_one_process_ends_the_other_with_its_message(tmp_path: Path) -> None:
    clips = [
        media_clip(make_video(tmp_path / f"{i}.mp4", 12, seed=i), [f"video/{i}"]) for i in range(8)
    ]
    clips[5].payload = b"no video" * 20
    data = write_shards(tmp_path / "shards", [clips])
    recipe = recipe_file(tmp_path / "run.yaml", data.uri, data__max_broken=0, run__steps=100)
    processes = both(recipe)
    try:
        deadline_s = time.monotonic() + TIMEOUT_S
        while all(process.poll() is None for process in processes):
            assert time.monotonic() < deadline_s
            time.sleep(0.1)
        said = [process.communicate(timeout=SOON_S)[0] for process in processes]
    finally:
        for process in processes:
            kill_all(process)
    assert [process.returncode for process in processes] == [2, 2]
    own = "1 clips cannot be used, at most 0 are allowed"
    (failed,) = [rank for rank in range(2) if f"error: process {rank}: {own}" in said[rank]]
    other = 1 - failed
    assert f"error: process {other}: process {failed} (" in said[other]
    assert f"ended the training: {own}" in said[other]
    assert "Traceback" not in said[other]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("killed", [0, 1])
def test_a_process_that_is_killed_ends_the_other(
    killed: int, shards: list[dict[str, Any]], tmp_path: Path
) -> None:
    recipe = recipe_file(tmp_path / "run.yaml", "", data__sources=shards, run__steps=100_000)
    processes = both(recipe)
    try:
        deadline_s = time.monotonic() + TIMEOUT_S
        while len(read_log(tmp_path / "run" / "log.jsonl")) < 2:
            assert [process.poll() for process in processes] == [None, None]
            assert time.monotonic() < deadline_s
            time.sleep(0.1)
        processes[killed].send_signal(signal.SIGKILL)
        other = processes[1 - killed]
        said = other.communicate(timeout=SOON_S)[0]
    finally:
        for process in processes:
            kill_all(process)
    assert other.returncode == 1
    assert f"error: process {1 - killed}: process {killed} (" in said
    assert "gone without a word: killed" in said
    assert "Traceback" not in said
