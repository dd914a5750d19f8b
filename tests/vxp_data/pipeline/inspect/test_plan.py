"""`plan`, and budgets through `decide`: what is shown is what is then kept."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from synthetic_run import write_synthetic_run
from typer.testing import CliRunner

from support.runs import table
from vxp_data.cli import app
from vxp_data.core.budgets import parse_budget
from vxp_data.core.thresholds import parse_keep
from vxp_data.errors import UserError
from vxp_data.pipeline.redecide import redecide
from vxp_data.pipeline.run_dir.directory import open_run
from vxp_data.pipeline.verify.run import verify_run


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of 600 rows over 200 videos, made of numbers."""
    folder = tmp_path_factory.mktemp("synthetic") / "run"
    write_synthetic_run(folder, num_rows=600, num_videos=200, seed=5)
    return folder


@pytest.fixture
def run(synthetic: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(synthetic, tmp_path / "run"))


def said(*words: object) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


def planned(*words: object) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(said("plan", *words, "--json"))
    return read


def kept_of(run: Path) -> list[dict[str, Any]]:
    return [row for row in table(run, "decisions") if row["decision"] == "keep"]


def test_what_plan_shows_is_what_decide_then_keeps(run: Path) -> None:
    for options in (
        ["--budget", "frames=3000"],
        ["--budget", "videos=50", "--weight", "caption=3"],
        ["--budget", "bytes=200M"],
        ["--keep", "caption=20", "--threshold", "knee"],
        ["--budget", "caption=tokens=40k", "--keep", "0.9"],
    ):
        shown = planned(run, *options)
        said("decide", run, *options)
        now = planned(run)
        assert shown["all"]["kept"]["chosen"] == now["all"]["kept"]["now"]
        for task, subset in shown["subsets"].items():
            there = now["subsets"][task]["kept"]["now"]
            assert subset["kept"]["chosen"]["threshold"] == there["threshold"]
            assert subset["kept"]["chosen"]["rows"] == there["rows"]
        assert now["all"]["kept"]["now"]["rows"] == len(kept_of(run))


def test_a_budget_is_met_by_the_kept_rows_own_files(run: Path) -> None:
    said("decide", run, "--budget", "bytes=100M")
    media = {row["media_id"]: row["num_bytes"] for row in table(run, "media")}
    files = {row["media_id"] for row in kept_of(run)}
    spent = sum(media[media_id] for media_id in files)
    assert 100e6 - max(media.values()) < spent <= 100e6


def test_plan_writes_nothing_into_the_run(run: Path, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    out = tmp_path / "out"
    out.mkdir()
    text = said(
        "plan", run, "--budget", "rows=9", "--csv", out / "a.csv", "--png", out / "a.png",
        "--measure", "effective_frames", "--points", 7,
    )  # fmt: skip
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before
    assert "effective_frames" in text
    assert "chosen: budget rows=9" in text
    assert (out / "a.png").read_bytes().startswith(b"\x89PNG")
    rows = list(csv.DictReader(io.StringIO((out / "a.csv").read_text())))
    assert {row["subset"] for row in rows} == {"caption", "multiple_choice", "open_ended", "all"}
    assert len(rows) == 4 * 7


def test_a_curve_ends_with_all_that_is_not_quarantined_and_never_falls(run: Path) -> None:
    shown = planned(run)
    quarantined = sum(row["decision"] == "quarantine" for row in table(run, "decisions"))
    last = shown["all"]["curve"][-1]
    assert (shown["rows_in"], shown["rows_out"], last["rows"]) == (
        600,
        quarantined,
        600 - quarantined,
    )
    assert "gpu_hours" not in last
    for name in ("rows", "videos", "hours", "frames", "tokens", "bytes"):
        values = [point[name] for point in shown["all"]["curve"]]
        assert values == sorted(values)
        assert last[name] <= sum(s["curve"][-1][name] for s in shown["subsets"].values()) + 1e-6
    tokens = last["tokens"]
    shown = planned(run, "--tokens-per-gpu-hour", 1000)
    assert shown["all"]["curve"][-1]["gpu_hours"] == pytest.approx(tokens / 1000)


def test_a_rate_comes_from_a_run_record_too(run: Path, tmp_path: Path) -> None:
    record = tmp_path / "train.json"
    record.write_text(json.dumps({"figures": {"tokens_per_gpu_hour": 1000}}))
    options = ["--budget", "gpu_hours=20", "--tokens-per-gpu-hour"]
    assert planned(run, *options, record) == planned(run, *options, 1000)
    record.write_text("{}")
    with pytest.raises(UserError, match=r"wanted a number, or a JSON record with figures\.tokens"):
        said("plan", run, *options, record)


def test_options_that_contradict_each_other_are_refused(run: Path) -> None:
    with pytest.raises(UserError, match="'default' has --keep 0"):
        said("plan", run, "--keep", "0.5", "--budget", "rows=3")
    with pytest.raises(UserError, match="weights are of a budget for all subsets"):
        said("plan", run, "--keep", "0.5", "--weight", "caption=2")
    with pytest.raises(UserError, match="wanted a task, once, and a number above 0"):
        said("plan", run, "--budget", "rows=3", "--weight", "caption=0")
    with pytest.raises(UserError, match="Give --tokens-per-gpu-hour"):
        said("decide", run, "--budget", "gpu_hours=3")


def test_the_curve_is_drawn_the_same_each_time(run: Path, tmp_path: Path) -> None:
    for name in "ab":
        said("plan", run, "--png", tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_run_decided_by_a_budget_verifies_also_after_another_sampling(
    mixed_run: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(mixed_run, tmp_path / "run"))
    redecide(run, measure=None, thresholds={}, default=parse_budget("frames=40"))
    frames = planned(run)
    spent = frames["all"]["kept"]["now"]["frames"] + frames["always_kept"]["frames"]
    assert 30 < spent <= 40
    assert verify_run(open_run(run), media=False).problems == []
    said("sample", run, "--set", "sampling.policy=fixed_fps", "--set", "sampling.fps=0.5")
    assert verify_run(open_run(run), media=False).problems == []
    redecide(run, measure=None, thresholds={}, default=parse_keep("1.0"))
    assert json.loads((run / "run.json").read_text())["decided"]["counted_by"] is None
