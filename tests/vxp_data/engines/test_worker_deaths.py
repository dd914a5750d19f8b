"""Workers and encoders that die: the run ends, and every row is accounted for."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from support.commands import vxp_data
from support.flat_videos import (
    BLUE,
    GREEN,
    GREY,
    HAS_NO_MEMORY,
    HOARDS,
    KILLS,
    KILLS_ONCE,
    RED,
    WHITE,
    write_flat_video,
)
from support.misbehaving import MARKS, offer_misbehaving
from support.runs import by_sample, caption_row, run_prune, table, write_rows
from vxp_data.engines.crash_ledger import Attempt, CrashLedger
from vxp_data.errors import MediaError, UserError
from vxp_data.records import Reason


@pytest.fixture
def manifest(tmp_path: Path):
    """Write videos of given numbers of frames and colours, and a manifest of them."""
    for mark in Path(os.environ.get(MARKS, "none")).glob("*"):
        mark.unlink()

    def write(videos: dict[str, tuple[int, tuple[int, int, int]]]) -> Path:
        for name, (num_frames, rgb) in videos.items():
            write_flat_video(tmp_path / f"{name}.mp4", num_frames=num_frames, rgb=rgb)
        rows = [caption_row(name, f"{name}.mp4") for name in videos]
        return write_rows(tmp_path / "rows.json", rows)

    return write


def clips_in_parts(out: Path) -> set[str]:
    parts = [pq.read_table(part, columns=["uri"]) for part in (out / "embeddings").glob("*")]
    return {Path(uri).stem for part in parts for uri in part["uri"].to_pylist()}


@pytest.mark.parametrize(
    "encoder", ["thumbnail", pytest.param("misbehaving", marks=pytest.mark.slow)]
)
def test_a_file_that_kills_worker_after_worker_is_quarantined_alone(
    manifest, tmp_path: Path, encoder: str, engine_name: str
) -> None:
    videos = {f"fine{i}": (5 + i, GREY) for i in range(6)}
    videos |= {
        "kills": (KILLS, GREY),
        "killsonce": (KILLS_ONCE, GREY),
        "nomemory": (HAS_NO_MEMORY, GREY),
    }
    result = run_prune(
        manifest(videos),
        tmp_path / "run",
        cluster__engine=engine_name,
        encoder__name=encoder,
        frames__sampler="misbehaving",
        thresholds__default="keep 1.0",
    )
    reasons = by_sample(tmp_path / "run", "reason")
    assert reasons == dict.fromkeys(videos, "within_threshold") | {
        "kills": "crashed",
        "nomemory": "out_of_memory",
    }
    assert (result.totals.clips, result.totals.failed) == (len(videos), 2)
    assert clips_in_parts(tmp_path / "run") == set(videos)
    (crashed,) = (r for r in table(tmp_path / "run", "quarantine") if r["reason"] == "crashed")
    assert "3 worker processes died" in crashed["message"]


@pytest.mark.slow
def test_weights_missing_on_a_worker_end_the_run_with_their_own_message(
    manifest, tmp_path: Path, engine_name: str
) -> None:
    with pytest.raises(UserError, match="no weights on this machine: copy them"):
        run_prune(
            manifest({"fine": (5, GREY)}),
            tmp_path / "run",
            cluster__engine=engine_name,
            encoder__name="misbehaving",
            encoder__checkpoint="absent",
        )


def test_a_clip_that_kills_the_encoder_is_quarantined_alone(
    manifest, tmp_path: Path, engine_name: str
) -> None:
    videos = {f"fine{i}": (5, (100 + 8 * i, 128, 128)) for i in range(6)}
    videos |= {"red": (5, RED), "blue": (5, BLUE), "green": (5, GREEN)}
    result = run_prune(
        manifest(videos),
        tmp_path / "run",
        cluster__engine=engine_name,
        encoder__name="misbehaving",
        thresholds__default="keep 1.0",
    )
    reasons = by_sample(tmp_path / "run", "reason")
    assert reasons == dict.fromkeys(videos, "within_threshold") | {
        "red": "crashed",
        "green": "out_of_memory",
    }
    assert result.totals.clips == len(videos)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("engine", ["local", "ray"])
@pytest.mark.parametrize("who", ["worker", "encoder"])
def test_who_hoards_memory_is_killed_and_his_clip_is_quarantined_alone(
    manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, who: str, engine: str
) -> None:
    offer_misbehaving(tmp_path / "misbehaving", monkeypatch)
    memory = psutil.virtual_memory()
    allowed = memory.total - memory.available + (3 << 30)
    assert allowed < memory.total, "this machine has less than 3 GiB free"
    videos = {f"fine{i}": (5 + i, GREY) for i in range(6)}
    videos["hoards"] = (HOARDS, GREY) if who == "worker" else (5, WHITE)
    done = vxp_data(
        *("prune", manifest(videos), "--out", tmp_path / "run", "--keep", "1.0"),
        *("--encoder", "misbehaving" if who == "encoder" else "thumbnail"),
        *("--set", "frames.sampler=misbehaving", "--set", "cluster.num_cpus=2"),
        *("--engine", engine),
        *("--set", f"cluster.memory_threshold={allowed / memory.total:.3f}"),
        RAY_memory_usage_threshold=f"{allowed / memory.total:.3f}",
        RAY_memory_monitor_refresh_ms="50",
    )
    assert done.returncode == 0, done.stderr
    reasons = by_sample(tmp_path / "run", "reason")
    assert reasons == dict.fromkeys(videos, "within_threshold") | {"hoards": "crashed"}


def test_what_was_named_when_workers_died_is_refused_the_third_time() -> None:
    ledger = CrashLedger()
    assert not Attempt(ledger, "task").again  # dies of "b", before names are given
    for _ in range(2):
        attempt = Attempt(ledger, "task")
        assert attempt.again
        attempt.enter("a")
        attempt.enter("b")  # dies
    attempt = Attempt(ledger, "task")
    attempt.enter("a")
    with pytest.raises(MediaError, match="3 worker processes died") as caught:
        attempt.enter("b")
    assert caught.value.reason is Reason.CRASHED
    attempt.enter("c")
    attempt.leave()
    assert not Attempt(ledger, "another task").again


def test_a_finished_attempt_whose_result_is_lost_blames_nobody() -> None:
    ledger = CrashLedger()
    for _ in range(10):  # as often as machines take results with them
        attempt = Attempt(ledger, "task")
        for thing in ("a", "b"):
            attempt.enter(thing)
        attempt.leave()
