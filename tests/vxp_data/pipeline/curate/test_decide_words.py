"""What `decide` and `plan` say, refuse and write down of what they were told."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from synthetic_run import write_synthetic_run

from support.commands import vxp_data_here
from support.duplicate_clips import clip, film
from support.runs import by_sample, caption_row
from support.stored_runs import StoredClip, decide, stored_run
from vxp_data.core.run_report import Histogram
from vxp_data.core.thresholds import parse_keep
from vxp_data.pipeline.inspect.report import report_run
from vxp_data.pipeline.redecide import redecide
from vxp_data.pipeline.run_dir.directory import RunDirectory, open_run
from vxp_data.report.charts import histogram_svg
from vxp_data.report.keep_curves import short_text
from vxp_data.report.page import render_report


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """Six videos of captions and one question; 5.mp4 shows what 4.mp4 does."""
    shown = [film(n, 10.0) for n in (0, 1, 2, 3, 4, 4)]
    clips = {
        f"{n}.mp4": StoredClip(emb_FD=clip(each)[0], duration_s=10.0)
        for n, each in enumerate(shown)
    }
    rows = [caption_row(f"{n}", f"{n}.mp4") for n in range(6)]
    asked = caption_row("asked", "0.mp4")
    asked["conversations"][0]["value"] = "<image>\nWhat colour is the car?"
    asked["conversations"][1]["value"] = "Red."
    made = stored_run(tmp_path, clips, [*rows, asked])
    decide(made, thresholds__default="keep 0.5")
    return made


@pytest.fixture
def scores(run: RunDirectory, tmp_path: Path) -> str:
    path = tmp_path / "judge.jsonl"
    ids = [json.loads(line) for line in template(run, tmp_path).splitlines()]
    lines = [json.dumps({"sample_id": row["sample_id"], "score": i}) for i, row in enumerate(ids)]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def template(run: RunDirectory, folder: Path) -> str:
    done("score-template", run, "--out", str(folder / "rows.jsonl"))
    return (folder / "rows.jsonl").read_text()


def done(command: str, run: RunDirectory, *words: str) -> str:
    ended = vxp_data_here(command, str(run.root), *words)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def refused(command: str, run: RunDirectory, *words: str) -> str:
    ended = vxp_data_here(command, str(run.root), *words)
    assert ended.returncode == 2, ended.stdout
    return ended.stderr


def measures(run: RunDirectory) -> set[str]:
    return set(by_sample(Path(str(run.root)), "measure").values())


def test_scores_that_no_subset_goes_by_are_refused(run: RunDirectory, scores: str) -> None:
    for command in ("decide", "plan"):
        told = refused(command, run, "--scores", scores, "--select", "random")
        assert "reads no scores (random)" in told
        assert "--select text_blind" in told
    done("decide", run, "--scores", scores, "--select", "caption=random")
    assert {name.partition(":")[0] for name in measures(run)} == {"select", "scores"}


def test_a_measure_named_with_select_none_decides_over_scores_of_before(
    run: RunDirectory, scores: str
) -> None:
    done("decide", run, "--scores", scores, "--scorer", "judge@1")
    done("decide", run, "--select", "none")
    assert measures(run) == {"scores:judge@1:score"}
    done("decide", run, "--select", "none", "--measure", "centroid")
    assert measures(run) == {"centroid"}


def test_a_filter_goes_again_and_messages_name_what_was_typed(run: RunDirectory) -> None:
    assert "needs_no_time" in done("decide", run, "--set", "filters.needs_time.min=1")
    assert "needs_no_time" not in done("decide", run, "--set", "filters.needs_time=null")
    for text, told in (
        ("filters.needs_time.max=1", "filters.needs_time: has no max, only min"),
        ("filters.need_time.min=1", "unknown filter 'need_time'"),
    ):
        assert f"--set {text}: {told}" in refused("decide", run, "--set", text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("filters.needs_time.min=1", "`vxp-data decide` with this setting shows what it leaves"),
        ("duplicates.mode=drop", "`vxp-data decide` with this setting shows what it leaves"),
        ("frames.num_frames=8", "another setting changes nothing that it shows"),
    ],
)
def test_plan_refuses_settings_that_it_does_not_go_by(
    run: RunDirectory, text: str, told: str
) -> None:
    assert f"--set {text}: `plan`" in refused("plan", run, "--set", text)
    assert told in refused("plan", run, "--set", text)
    done("plan", run, "--set", "costs.tokens_per_frame=10")


def test_a_template_that_nobody_has_filled_is_told(run: RunDirectory, tmp_path: Path) -> None:
    template(run, tmp_path)
    told = refused("decide", run, "--scores", str(tmp_path / "rows.jsonl"))
    assert "got none. If this is what score-template wrote, fill its column score" in told


def test_duplicates_that_are_only_listed_are_counted(run: RunDirectory) -> None:
    told = "  1  rows are about copies or parts of other videos"
    assert told in done("decide", run, "--duplicates", "report")
    assert told not in done("decide", run, "--duplicates", "drop")
    assert "rows are about copies" not in done("decide", run, "--set", "duplicates.mode=off")


def test_scores_per_cost_have_a_unit(run: RunDirectory) -> None:
    unit = "quality (0 to 1) per million training tokens"
    assert unit in done("plan", run, "--per", "cost", "--keep", "0.5")
    assert unit in done("decide", run, "--per", "cost", "--keep", "0.5")
    assert unit not in done("decide", run, "--per", "row")


def test_the_report_calls_nothing_redundant_that_was_not_judged_so(tmp_path: Path) -> None:
    out = tmp_path / "run"
    write_synthetic_run(out, num_rows=40, num_videos=20, seed=9, sheets=False)
    assert "Most redundant" in page(out)
    redecide(
        out, measure=None, thresholds={}, default=parse_keep("0.5"),
        select={"default": "random"}, per="cost",
    )  # fmt: skip
    text = page(out)
    assert "redundant" not in text
    assert "Taken first" in text
    assert "Scores and thresholds: quality (0 to 1) per million training tokens." in text


def page(out: Path) -> str:
    return render_report(report_run(open_run(out), "run"))


def test_the_record_tells_which_settings_decide_has_changed(run: RunDirectory) -> None:
    done("decide", run, "--select", "random", "--set", "filters.duration_s.max=60")
    record = json.loads((Path(str(run.root)) / "run.json").read_text())
    changed = {k for k, v in record["config_origin"].items() if v == "vxp-data decide"}
    bounds = {f"filters.duration_s.{name}" for name in ("min", "max", "tasks")}
    assert changed == {"select.default", "thresholds.default", *bounds}
    assert "measure" not in record["config_origin"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--select", "text_blind"], "`vxp-data decide RUN --scores FILE --select text_blind`"),
        (["--select", "captions=random"], "unknown task in select 'captions'"),
        (["--threshold", "captions=0.8"], "unknown task in thresholds 'captions'"),
        (["--set", "filters.motion={min: 1, tasks: [captions]}"], "filters.motion.tasks"),
    ],
)
def test_prune_refuses_before_it_reads_a_video_what_it_could_not_decide(
    words: list[str], told: str, tmp_path: Path
) -> None:
    manifest = tmp_path / "rows.json"
    manifest.write_text(json.dumps([caption_row("0", "0.mp4")]))
    (tmp_path / "0.mp4").write_bytes(b"no video")
    out = tmp_path / "run"
    ended = vxp_data_here(
        "prune", str(manifest), "--media-root", str(tmp_path), "--out", str(out),
        "--encoder", "thumbnail", *words,
    )  # fmt: skip
    assert ended.returncode == 2, ended.stdout
    assert told in ended.stderr
    assert not list(out.glob("embeddings/*"))


def test_names_that_are_wider_than_a_chart_stay_out_of_its_axes() -> None:
    histogram = Histogram(edges=np.array([0.0, 1.0]), kept_B=np.array([1]), dropped_B=np.array([2]))
    assert ">mean_pairwise</text>" in histogram_svg(histogram, 0.5, "mean_pairwise")
    name = "scores:blind@model/prompts-a4d034bb/settings-b86f867a:score"
    assert f">{name}</text>" not in histogram_svg(histogram, 0.5, name)
    assert ">the scores</text>" in histogram_svg(histogram, 0.5, name)


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("budget tokens=10000000", "budget tokens=10M"),
        ("budget bytes=500000000000", "budget bytes=500G"),
        ("keep 50000", "keep 50k"),
        ("budget frames=12345", "budget frames=12345"),
        ("budget frames=300", "budget frames=300"),
        ("0.93000", "0.93000"),
    ],
)
def test_amounts_are_short_where_nothing_is_lost(text: str, short: str) -> None:
    assert short_text(text) == short
