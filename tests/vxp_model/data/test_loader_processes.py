"""Resume where it counts: training processes over gloo, killed at any moment with SIGKILL."""

from __future__ import annotations

import json
import multiprocessing
import random
import subprocess
import sys
import time

import psutil
import pytest

from support.later import LATER
from support.repo import ROOT
from support.shard_fixtures import make_video, media_clip, text_shards, write_shards
from vxp_model.data.order import BatchRule, OrderRule

if LATER:
    from support import loader_rank
    from vxp_model.data.loader import ShardLoader

NUM_SAMPLES = 211
DEADLINE_S = 120


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    return text_shards(tmp_path_factory.mktemp("texts"), NUM_SAMPLES, per_shard=50)


def run_until(run, kill_at):
    """Start all ranks; kill them as soon as the state is at `kill_at` (None: let them end).

    Gives the state, and the samples given out up to it, in order.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["vxp_model.data.loader"])  # torch is slow to import
    run.folder.mkdir()
    processes = [
        context.Process(target=loader_rank.train, args=(rank, run))
        for rank in range(run.world_size)
    ]
    for process in processes:
        process.start()
    state_path = run.folder / "state.json"
    deadline = time.monotonic() + DEADLINE_S
    while any(process.is_alive() for process in processes):
        assert time.monotonic() < deadline
        if kill_at is not None and state_path.exists():
            state = json.loads(state_path.read_text())
            if state["epoch"] > 0 or state["position"] >= kill_at:
                break
        time.sleep(loader_rank.STEP_S / 3)
    for process in processes:
        process.kill()
        process.join()
    while time.monotonic() < deadline and (left := workers_left()):
        time.sleep(0.1)
    assert not left, "workers outlive their training process"
    if kill_at is None:
        assert [process.exitcode for process in processes] == [0] * run.world_size
    state = json.loads(state_path.read_text())
    logs = [(run.folder / f"rank-{rank}.jsonl").read_text().splitlines()
            for rank in range(run.world_size)]  # fmt: skip
    if kill_at is None:
        assert {log.pop() for log in logs} == {"end"}
        assert len({len(log) for log in logs}) == 1  # all ranks end on the same step
    given = [
        tuple(one) for log in logs for line in log if line.endswith("]") for one in json.loads(line)
    ]
    return state, sorted(one for one in given if one[0] < state["position"])


def workers_left():
    """Find the fork server's processes: by now, DataLoader workers of ranks that are gone."""
    servers = [p for p in psutil.Process().children() if "multiprocessing.forkserver" in cmdline(p)]
    return [p.pid for server in servers for p in server.children() if cmdline(p)]


def cmdline(process):
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def check_killed_and_resumed(texts, folder, starts, order):
    """Train through all starts, each (world size, batch, workers, samples until the kill)."""
    state, seen = None, []
    for number, (world_size, batch, num_workers, more) in enumerate(starts):
        is_last = number == len(starts) - 1
        at = state["position"] if state else 0
        run = loader_rank.Run(
            texts.uri, folder / str(number), world_size, batch, order, num_workers, state
        )
        state, given = run_until(run, None if is_last else at + more)
        assert [position for position, _ in given] == list(range(at, state["position"]))
        seen += [sample_id for _, sample_id in given]
    assert sorted(seen) == sorted(texts.sample_ids)
    alone = ShardLoader(texts.uri, frames=None, order=order)
    assert seen == [sample.sample_id for batch in alone for sample in batch.samples]


@pytest.mark.slow
def test_killed_at_random_and_resumed_on_other_worlds_every_sample_comes_once(texts, tmp_path):
    rng = random.Random(0)
    starts = [
        (4, BatchRule(max_samples=2), 0, rng.randint(1, 60)),
        (3, BatchRule(max_samples=1), 0, rng.randint(1, 40)),
        (1, BatchRule(max_samples=5), 2, rng.randint(1, 40)),
        (2, BatchRule(max_samples=3), 0, None),
    ]
    check_killed_and_resumed(texts, tmp_path, starts, OrderRule())


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_many_kills_lose_and_repeat_nothing(texts, tmp_path, seed):
    rng = random.Random(seed)
    starts = [
        (rng.randint(1, 4), BatchRule(max_samples=rng.randint(1, 5)), rng.randint(0, 2),
         rng.randint(0, 60))
        for _ in range(6)
    ]  # fmt: skip
    order = OrderRule(seed=seed, length_window=rng.choice([0, 64]), length_run=16)
    check_killed_and_resumed(texts, tmp_path, starts, order)


@pytest.fixture(scope="module")
def video_shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    clips = [
        media_clip(make_video(folder / f"{seed}.mp4", 10, seed=seed), [f"row-{seed}"])
        for seed in range(4)
    ]
    return write_shards(folder / "shards", [clips])


@pytest.mark.parametrize(
    ("how", "tracker", "status"),
    [
        pytest.param("returns", "loud", 0, marks=pytest.mark.slow),
        pytest.param("keeps", "loud", 0, marks=pytest.mark.slow),
        ("raises", "loud", 1),
        ("is_killed", "ours", -15),
    ],
)
def test_a_script_that_stops_early_leaves_no_semaphore(how, tracker, status, video_shards):
    done = subprocess.run(
        [sys.executable, ROOT / "tests/support/leaving_loader.py", video_shards.uri, how, "spawn",
         tracker],
        capture_output=True, text=True, timeout=DEADLINE_S, check=False,
    )  # fmt: skip
    assert done.returncode == status
    assert "leaked" not in done.stderr
    assert ("stopped on purpose" in done.stderr) == (how == "raises")
