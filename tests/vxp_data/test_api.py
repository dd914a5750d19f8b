"""The Python API: the commands' results by the commands' words; nothing is loaded too early."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import vxp_data
from support.flat_videos import write_flat_video
from support.runs import caption_row, run_shard, shard_bytes, table, write_rows
from support.s3 import Bucket
from support.stored_runs import StoredClip, stored_run
from vxp_data.cli import app
from vxp_data.pipeline.embed.job import EmbedTotals
from vxp_data.pipeline.shard.write_shard import WrittenShard
from vxp_data.report.plan_tables import plan_json


def said(*words: object) -> str:
    """Run a command in this process, and its Ray."""
    done = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


def in_child(code: str) -> list[str]:
    """Run code in a fresh interpreter; give the lines that it prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write eight videos, one of them twice, and rows about them; give the manifest."""
    folder = tmp_path_factory.mktemp("videos")
    rows = []
    for number in range(8):
        name = f"{number}.mp4"
        write_flat_video(folder / name, num_frames=12 + number, rgb=(number * 30, 90, 200))
        rows.append(caption_row(f"row-{number}", name))
    shutil.copyfile(folder / "0.mp4", folder / "copy.mp4")
    return write_rows(folder / "rows.json", [*rows, caption_row("copy", "copy.mp4")])


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """A decided run of twelve clips that lie nowhere, captions and questions about them."""
    rng = np.random.default_rng(0)
    clips, rows = {}, []
    for number in range(12):
        frames = np.ones(16) + rng.normal(size=(8, 16)) * (number + 1) / 10
        name = f"{number}.mp4"
        unit = frames / np.linalg.norm(frames, axis=1, keepdims=True)
        clips[name] = StoredClip(emb_FD=unit, duration_s=2.0 + number)
        rows.append(caption_row(f"row-{number}", name))
        if number % 2:
            rows[-1]["conversations"][0]["value"] = "<video>\nWhere does it end?"
    stored_run(tmp_path, clips, rows)
    vxp_data.Run(tmp_path / "run").decide(keep=0.5)
    return tmp_path / "run"


class Heard(vxp_data.Observer):
    """Notes what a prune tells."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def started(self, num_clips: int, num_done: int) -> None:
        self.told.append(f"started {num_clips} {num_done}")

    def progressed(self, totals: EmbedTotals) -> None:
        self.told.append(f"progressed {totals.clips}")

    def ended(self) -> None:
        self.told.append("ended")


class HeardShards(vxp_data.ShardObserver):
    """Notes how many clips the shards hold that were told."""

    def __init__(self) -> None:
        self.num_clips = 0

    def progressed(self, shard: WrittenShard) -> None:
        self.num_clips += shard.entry.num_clips


@pytest.mark.usefixtures("engine")
def test_python_writes_the_bytes_that_the_commands_write_and_prints_nothing(
    videos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    heard, heard_shards = Heard(), HeardShards()
    run = vxp_data.prune(
        videos,
        tmp_path / "python",
        encoder="thumbnail",
        keep={"caption": 5, "default": 0.5},
        duplicates="drop",
        settings={"frames.num_frames": 4},
        observer=heard,
    )
    shards = run.shard(
        tmp_path / "python-shards", payload="none", shard_bytes="1Ki", observer=heard_shards
    )
    assert capfd.readouterr() == ("", "")
    assert heard.told[0] == "started 9 0"
    assert heard.told[-2:] == ["progressed 9", "ended"]
    assert heard_shards.num_clips == len(shards) == 5

    out = tmp_path / "command"
    words = ["--encoder", "thumbnail", "--keep", "caption=5", "--keep", "0.5"]
    words += ["--duplicates", "drop", "--set", "frames.num_frames=4"]
    said("prune", videos, "--out", out, *words)
    said("shard", out, "--out", tmp_path / "shards", "--payload", "none", "--shard-bytes", "1Ki")
    names = {path.name for path in out.iterdir() if path.is_file()} - {"run.json"}
    assert "decisions.parquet" in names
    for name in names:
        assert (tmp_path / "python" / name).read_bytes() == (out / name).read_bytes(), name
    assert run.record["config"] == vxp_data.open_run(out).record["config"]
    assert shard_bytes(tmp_path / "python-shards") == shard_bytes(tmp_path / "shards")


SAME: list[tuple[dict[str, Any], list[str]]] = [
    ({"keep": 0.25}, ["--keep", "0.25"]),
    ({"keep": 1}, ["--keep", "1"]),
    ({"keep": np.float32(0.25)}, ["--keep", "0.25"]),
    ({"keep": {"caption": "80%"}}, ["--keep", "caption=80%"]),
    ({"threshold": 0.9}, ["--threshold", "0.9"]),
    ({"threshold": {"caption": "q0.3"}, "keep": 0.9},
     ["--threshold", "caption=q0.3", "--keep", "0.9"]),
    ({"budget": "rows=7", "weight": {"caption": 2}},
     ["--budget", "rows=7", "--weight", "caption=2"]),
    ({"budget": {"caption": "frames=20"}}, ["--budget", "caption=frames=20"]),
    ({"budget": "gpu_hours=0.001", "tokens_per_gpu_hour": 1e6},
     ["--budget", "gpu_hours=0.001", "--tokens-per-gpu-hour", "1e6"]),
    ({"measure": "effective_frames"}, ["--measure", "effective_frames"]),
    ({"select": "random", "keep": 0.5}, ["--select", "random", "--keep", "0.5"]),
    ({"select": {"caption": "coverage"}}, ["--select", "caption=coverage"]),
    ({"per": "cost"}, ["--per", "cost"]),
    ({"per": "cost", "select": "random", "budget": "frames=60"},
     ["--per", "cost", "--select", "random", "--budget", "frames=60"]),
]  # fmt: skip


@pytest.mark.usefixtures("engine")
def test_prune_selects_and_counts_cost_as_the_command_does(videos: Path, tmp_path: Path) -> None:
    chosen = {"select": {"default": "random", "caption": "decorrelate"}, "per": "cost"}
    settings = {"frames.num_frames": 4, "selection.seed": 3}
    run = vxp_data.prune(
        videos, tmp_path / "python", encoder="thumbnail", keep=4, settings=settings, **chosen
    )
    words = ["--encoder", "thumbnail", "--keep", "4", "--set", "frames.num_frames=4"]
    words += ["--set", "selection.seed=3", "--select", "random", "--select", "caption=decorrelate"]
    said("prune", videos, "--out", tmp_path / "command", *words, "--per", "cost")
    for name in ("decisions.parquet", "selection.parquet", "kept.json"):
        mine, theirs = (tmp_path / folder / name for folder in ("python", "command"))
        assert mine.read_bytes() == theirs.read_bytes()
    assert run.record["config"] == vxp_data.open_run(tmp_path / "command").record["config"]
    assert set(run.decisions["measure"].to_pylist()) == {"select:decorrelate@1/tokens"}
    assert run.counts.reasons == {"within_threshold": 4, "not_selected": 5}
    one = vxp_data.prune(videos, tmp_path / "python", encoder="thumbnail", keep=4,
                         select="random", settings=settings)  # fmt: skip
    assert set(one.decisions["measure"].to_pylist()) == {"select:random@1"}
    with pytest.raises(vxp_data.UserError, match="one on scores"):
        vxp_data.prune(videos, tmp_path / "other", threshold=0.8, per="cost")
    with pytest.raises(vxp_data.UserError, match="Did you mean 'random'"):
        vxp_data.prune(videos, tmp_path / "other", select="randon")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(("arguments", "words"), SAME)
def test_an_argument_of_decide_means_what_the_option_means(
    stored: Path, tmp_path: Path, arguments: dict[str, Any], words: list[str]
) -> None:
    other = Path(shutil.copytree(stored, tmp_path / "other"))
    run = vxp_data.open_run(stored)
    before = run.record["config"]
    decided = run.decide(**arguments)
    said("decide", other, *words)
    assert (other / "decisions.parquet").read_bytes() == (stored / "decisions.parquet").read_bytes()
    assert before != run.record["config"] == vxp_data.open_run(other).record["config"]
    assert repr(run.counts) == repr(decided)  # a threshold may be NaN, which equals nothing
    assert decided.num_kept == len(json.loads(Path(run.kept[0]).read_text()))


@pytest.mark.parametrize(("arguments", "words"), SAME)
def test_an_argument_of_plan_means_what_the_option_means(
    stored: Path, arguments: dict[str, Any], words: list[str]
) -> None:
    decisions = (stored / "decisions.parquet").read_bytes()
    planned = vxp_data.open_run(stored).plan(**arguments, points=7)
    shown = json.loads(said("plan", stored, *words, "--points", "7", "--json"))
    assert json.loads(json.dumps(plan_json(planned))) == shown
    assert planned.num_rows == 12
    assert (stored / "decisions.parquet").read_bytes() == decisions


def test_duplicates_and_exclusions_mean_what_the_options_mean(stored: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(stored, tmp_path / "other"))
    (tmp_path / "evaluation.txt").write_text("row-3\n")
    bounds = {"filters.duration_s.min": 4}
    vxp_data.open_run(stored).decide(
        duplicates="report", exclude=tmp_path / "evaluation.txt", settings=bounds
    )
    words = ["--duplicates", "report", "--exclude", tmp_path / "evaluation.txt"]
    said("decide", other, *words, "--set", "filters.duration_s.min=4")
    decisions = (other / "decisions.parquet").read_bytes()
    assert (stored / "decisions.parquet").read_bytes() == decisions
    reasons = [row["reason"] for row in table(stored, "decisions")]
    assert reasons.count("in_evaluation") == 1
    assert reasons.count("too_short") == 2


def test_an_amount_for_some_tasks_leaves_the_others(stored: Path) -> None:
    run = vxp_data.open_run(stored)
    run.decide(keep={"caption": 2})
    assert {s.task: s.kept for s in run.counts.subsets} == {"caption": 2, "open_ended": 3}
    run.decide(keep=1.0)
    assert {s.task: s.kept for s in run.counts.subsets} == {"caption": 6, "open_ended": 6}


def test_tables_are_those_of_the_files_as_they_are_now(stored: Path) -> None:
    run = vxp_data.open_run(str(stored))
    for read, name in (
        (lambda: run.decisions, "decisions"),
        (lambda: run.scores, "scores"),
        (lambda: run.clips, "media"),
        (lambda: run.samples, "samples"),
        (lambda: run.quarantine, "quarantine"),
    ):
        assert read().equals(pq.read_table(stored / f"{name}.parquet"))
    kept = run.decisions.column("decision").to_pylist().count("keep")
    run.decide(keep=1)
    assert run.decisions.column("decision").to_pylist().count("keep") == 2 < kept


def test_counts_are_those_of_the_summary(stored: Path) -> None:
    counts = vxp_data.open_run(stored).counts
    assert (counts.num_in, counts.num_kept, counts.num_pruned) == (12, 6, 6)
    assert [subset.task for subset in counts.subsets] == ["caption", "open_ended"]
    assert all(math.isfinite(subset.threshold) for subset in counts.subsets)


def test_the_report_is_the_commands(mixed_run: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(mixed_run, tmp_path / "run"))
    run = vxp_data.open_run(folder)
    said("report", folder, "--out", tmp_path / "command.html")
    assert run.report(tmp_path / "new" / "python.html") == str(tmp_path / "new" / "python.html")
    page = (tmp_path / "new" / "python.html").read_bytes()
    assert page == (tmp_path / "command.html").read_bytes()
    assert run.report() == str(folder / "report.html")
    assert (folder / "report.html").read_bytes() == page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"settings": {"frames.nun_frames": 8}},
         r"settings\['frames.nun_frames'\]: unknown setting .* mean 'frames.num_frames'"),
        ({"settings": {"frames": {"num_framse": 8}}},
         "unknown setting 'frames.num_framse'. Did you mean 'frames.num_frames'"),
        ({"settings": {"frames.num_frames": 0}},
         r"settings\['frames.num_frames'\]: frames.num_frames: .* or equal to 1; got 0"),
        ({"keep": 1.5}, "keep=1.5: .*got 1.5, wanted a share"),
        ({"keep": True}, "keep=True: .*wanted a share such as"),
        ({"threshold": {"caption": "high"}}, r"threshold=\{'caption': 'high'\}: .*a score such as"),
        ({"keep": 0.5, "threshold": "knee"}, "keep=0.5: 'default' has threshold='knee' already"),
        ({"budget": "rows"}, "budget='rows': .*wanted a unit"),
        ({"budget": "rows=5", "weight": {"caption": -1}}, r"weight=\{'caption': -1\}: .*above 0"),
        ({"tokens_per_gpu_hour": "nowhere.json"}, "tokens_per_gpu_hour='nowhere.json': wanted a n"),
        ({"encoder": "siglp"}, "encoder='siglp': .*Did you mean 'siglip'"),
        ({"measure": "centriod"}, "measure='centriod': .*Did you mean 'centroid'"),
        ({"recipe": "nowhere.yaml"}, "recipe 'nowhere.yaml': there is no such file"),
        ({"media_root": "nowhere"}, "nowhere: no such folder"),
    ],
)  # fmt: skip
def test_what_a_prune_cannot_take_is_named_as_it_was_said(
    videos: Path, tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(vxp_data.UserError, match=f"(?s){message}"):
        vxp_data.prune(videos, tmp_path / "run", **arguments)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda run: run.decide(keep=2.5), "keep=2.5: "),
        (lambda run: run.decide(measure="centriod"), "Did you mean 'centroid'"),
        (lambda run: run.decide(settings={"frames.num_frames": 8}), "another setting is another r"),
        (lambda run: run.decide(weight={"caption": 2}), "weights are of a budget"),
        (lambda run: run.plan(points=0), "points=0: wanted 1 or more"),
        (lambda run: run.plan(measure="centriod"), "Did you mean 'centroid'"),
        (lambda run: run.plan(per="costs"), "per: order per 'costs'. Did you mean 'cost'"),
        (lambda run: run.decide(per="cost", threshold=0.8), "is one on scores"),
        (lambda run: run.plan(scores="none.csv"), "none.csv: cannot be read"),
        (
            lambda run: run.shard("shards", shard_bytes="much"),
            "shard_bytes='much': wanted a n",
        ),
        (lambda run: run.shard("shards", payload="film"), "payload='film': shard.payload: "),
    ],
)
def test_what_a_run_cannot_take_leaves_it_as_it_was(
    stored: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: Callable[[vxp_data.Run], object],
    message: str,
) -> None:
    monkeypatch.chdir(stored.parent)
    before = {path: path.read_bytes() for path in stored.rglob("*") if path.is_file()}
    with pytest.raises(vxp_data.UserError, match=message):
        call(vxp_data.open_run(stored))
    assert {path: path.read_bytes() for path in stored.rglob("*") if path.is_file()} == before
    assert not (stored.parent / "shards").exists()


def test_a_run_that_is_not_there_is_not_opened(stored: Path, tmp_path: Path) -> None:
    with pytest.raises(vxp_data.UserError, match="nothing holds no finished run"):
        vxp_data.open_run(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()
    (stored / "run.json").unlink()
    with pytest.raises(vxp_data.UserError, match=r"run.json is missing\. Run `vxp-data prune"):
        vxp_data.open_run(stored)


def test_a_run_whose_change_was_stopped_gives_no_tables(stored: Path) -> None:
    run = vxp_data.open_run(stored)
    record = json.loads((stored / "run.json").read_text())
    (stored / "run.json").write_text(json.dumps({**record, "changing": "vxp-data decide"}))
    with pytest.raises(vxp_data.UserError, match="`vxp-data decide` was stopped in it"):
        vxp_data.open_run(stored)
    with pytest.raises(vxp_data.UserError, match="`vxp-data decide` was stopped in it"):
        _ = run.decisions
    run.decide()  # writes anew what was left half-done
    assert run.decisions.num_rows == 12


def test_a_run_in_a_store_is_read_decided_and_reported_there(stored: Path, s3: Bucket) -> None:
    for path in stored.rglob("*"):
        if path.is_file():
            s3.put(f"runs/a/{path.relative_to(stored)}", path.read_bytes())
    run = vxp_data.open_run(f"{s3.uri}/runs/a")
    assert run.uri == f"{s3.uri}/runs/a"
    assert run.decisions.equals(pq.read_table(stored / "decisions.parquet"))
    decided = run.decide(keep=1)
    assert run.kept == (f"{s3.uri}/runs/a/kept.json",)
    assert len(json.loads(s3.get("runs/a/kept.json"))) == decided.num_kept == 2
    with pytest.raises(vxp_data.UserError, match="/none holds no finished run"):
        vxp_data.open_run(f"{s3.uri}/none")


@pytest.fixture(scope="module")
def whole_shards(mixed_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("api") / "shards"
    run_shard(mixed_run, out, shard__payload="none")
    return out


def test_shards_give_every_kept_row_once(mixed_run: Path, whole_shards: Path) -> None:
    shards = vxp_data.Shards(whole_shards)
    rows = [row.sample_id for record in shards for row in record.rows]
    kept = [row["sample_id"] for row in table(mixed_run, "decisions") if row["decision"] == "keep"]
    assert sorted(rows) == sorted(kept)
    assert shards.samples.column("sample_id").to_pylist() == rows
    assert shards.quarantine.num_rows == 0
    assert len(shards) == len(list(shards)) == shards.verify().num_clips
    assert {entry.name for entry in shards.index.shards} < {p.name for p in whole_shards.iterdir()}


def test_shards_in_a_store_are_those_on_a_disk(whole_shards: Path, s3: Bucket) -> None:
    for path in whole_shards.iterdir():
        s3.put(f"shards/{path.name}", path.read_bytes())
    remote = vxp_data.Shards(f"{s3.uri}/shards")
    assert remote.uri == f"{s3.uri}/shards"
    assert list(remote) == list(vxp_data.Shards(whole_shards))


def test_damaged_and_missing_shards_are_named(whole_shards: Path, tmp_path: Path) -> None:
    with pytest.raises(vxp_data.UserError, match="holds no finished shards: index"):
        vxp_data.Shards(tmp_path / "nothing")
    damaged = Path(shutil.copytree(whole_shards, tmp_path / "damaged"))
    shards = vxp_data.Shards(damaged)
    tar = damaged / shards.index.shards[0].name
    tar.write_bytes(tar.read_bytes()[:700])
    with pytest.raises(vxp_data.UserError, match=f"cannot read {tar}: "):
        list(shards)
    with pytest.raises(vxp_data.UserError, match=f"(?s)is not what its index says.*{tar.name}"):
        shards.verify()


HEAVY = "{'numpy', 'pyarrow', 'pydantic', 'yaml', 'ray', 'torch', 'av', 'typer', 'dataclasses'}"


def test_importing_the_package_loads_nothing_heavy() -> None:
    lines = in_child(
        "import sys, vxp_data\n"
        f"print(sorted({HEAVY} & set(sys.modules)))\n"
        "print(sorted(name for name in sys.modules if name.startswith('vxp_data')))\n"
        "vxp_data.open_run\n"
        "print('pyarrow' in sys.modules, sorted({'ray', 'torch'} & set(sys.modules)))"
    )
    assert lines == ["[]", "['vxp_data']", "True []"]


def test_a_star_import_gives_what_all_says() -> None:
    lines = in_child(
        "before = {*globals(), 'before'}\n"
        "from vxp_data import *\n"
        "print(sorted(set(globals()) - before))\n"
        "import vxp_data\n"
        "print(sorted(vxp_data.__all__))\n"
        "print(set(vxp_data.__all__) <= set(dir(vxp_data)))"
    )
    assert lines[0] == lines[1]
    assert "'prune'" in lines[0]
    assert lines[2] == "True"


def test_a_name_that_the_package_has_not_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'vxp_data' has no attribute 'prun'"):
        vxp_data.prun  # noqa: B018


def test_the_package_runs_as_its_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "vxp_data", "decide", str(tmp_path / "none"), "--keep", "0.5"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "holds no finished run" in done.stderr
