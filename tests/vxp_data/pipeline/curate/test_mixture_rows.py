"""Runs cut to their mixture's rows: decided, planned, verified, shown; what is refused, when."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.commands import vxp_data_here
from support.duplicate_clips import clip, film
from support.runs import caption_row, run_prune, table, write_rows
from support.stored_runs import StoredClip, stored_run
from vxp_data.errors import UserError
from vxp_data.pipeline.inspect.plan import plan_choice
from vxp_data.pipeline.inspect.report import report_run
from vxp_data.pipeline.run_dir.directory import RunDirectory
from vxp_data.pipeline.verify.run import verify_run
from vxp_data.report.page import render_report
from vxp_data.settings.prune import load_config

ROWS = {"films": 4, "talks": 5, "stills": 2}
"""That the mixture states; of 8, 3 and 6."""


def write_mixture(folder: Path, rows: dict[str, int | None] | None = None) -> Path:
    """Write films (8 videos), talks (3 videos) and stills (6 images), and a mixture of them."""
    films = [caption_row(f"f{n}", f"{n}.mp4") for n in range(8)]
    talks = [caption_row(f"t{n}", f"{n}.mp4") for n in range(8, 11)]
    stills = [caption_row(f"s{n}", "") | {"image": f"{n}.png"} for n in range(6)]
    for row in stills:
        del row["video"]
    lines = ["datasets:"]
    for name, own in (("films", films), ("talks", talks), ("stills", stills)):
        write_rows(folder / f"{name}.json", own)
        stated = (ROWS if rows is None else rows).get(name)
        lines.append(
            f"- {{name: {name}, manifest: {name}.json, media_root: ., "
            f"rows: {'null' if stated is None else stated}}}"
        )
    path = folder / "mixture.yaml"
    path.write_text("\n".join(lines))
    return path


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """A run over them, decided to keep all."""
    clips = {
        f"{n}.mp4": StoredClip(emb_FD=clip(film(n, 10.0))[0], duration_s=10.0) for n in range(11)
    }
    clips |= {
        f"{n}.png": StoredClip(emb_FD=clip(film(n, 10.0))[0][:1], duration_s=0.0) for n in range(6)
    }
    made = stored_run(tmp_path, clips, manifest=write_mixture(tmp_path))
    done("decide", made.root, "--keep", "1.0")
    return made


def done(*words: object) -> str:
    ended = vxp_data_here(*map(str, words))
    assert ended.returncode == 0, ended.stderr
    return str(ended.stdout)


def refused(*words: object) -> str:
    ended = vxp_data_here(*map(str, words))
    assert ended.returncode == 2, ended.stdout
    return str(ended.stderr)


def decisions(run: RunDirectory) -> list[dict[str, Any]]:
    return table(Path(str(run.root)), "decisions")


def written(run: RunDirectory) -> tuple[bytes, ...]:
    folder = Path(str(run.root))
    return tuple((folder / name).read_bytes() for name in ("decisions.parquet", "run.json"))


def kept(run: RunDirectory) -> Counter[str]:
    return Counter(row["dataset"] for row in decisions(run) if row["decision"] == "keep")


def least_redundant(run: RunDirectory, datasets: tuple[str, ...], number: int) -> set[str]:
    """Return the first rows by the stored scores, which no decision has touched."""
    score = {row["uri"]: row["mean_pairwise"] for row in table(Path(str(run.root)), "scores")}
    rows = [row for row in table(Path(str(run.root)), "samples") if row["dataset"] in datasets]
    rows.sort(key=lambda row: (score[row["media_uri"]], row["sample_id"]))
    return {row["sample_id"] for row in rows[:number]}


def test_every_dataset_keeps_its_rows_and_the_table_says_which_are_short(run: RunDirectory) -> None:
    text = done("decide", run.root, "--keep", "mixture")
    assert kept(run) == {"films": 4, "talks": 3, "stills": 2}
    lines = [line.split() for line in text.splitlines()]
    start = lines.index(["dataset", "rows", "wanted", "found", "kept"])
    assert lines[start + 1 : start + 4] == [
        ["films", "8", "4", "8", "4"],
        ["talks", "3", "5", "3", "3", "2", "short"],
        ["stills", "6", "2", "6", "2"],
    ]
    own = {row["sample_id"] for row in decisions(run) if row["decision"] == "keep"}
    assert {name for name in own if name.startswith("films/")} == least_redundant(
        run, ("films",), 4
    )
    reasons = Counter((r["dataset"], r["reason"]) for r in decisions(run) if r["reason"] != "image")
    assert reasons == {
        ("films", "within_threshold"): 4, ("films", "redundant"): 4,
        ("talks", "within_threshold"): 3, ("stills", "dataset_excess"): 4,
    }  # fmt: skip
    assert verify_run(run, media=False).problems == []
    record = run.read_run()
    assert record["config"]["thresholds"] == {"default": "keep mixture"}
    assert record["decided"]["num_pruned"] == 8
    assert json.loads((Path(str(run.root)) / "kept.talks.json").read_text()) == json.loads(
        (Path(str(run.root)).parent / "talks.json").read_text()
    )


def test_rows_are_taken_of_what_thresholds_leave_by_score_or_drawn(run: RunDirectory) -> None:
    stated = ("--set", "mixture.rows=stated")
    done("decide", run.root, "--keep", "0.5", *stated)
    half = least_redundant(run, ("films", "talks"), 6)
    films = least_redundant(run, ("films",), 4)
    left = {name for name in half if name.startswith("talks/") or name in films}
    assert {
        row["sample_id"] for row in decisions(run) if row["reason"] == "within_threshold"
    } == left
    assert (len(left), kept(run)["stills"]) == (5, 2)
    assert verify_run(run, media=False).problems == []
    done("decide", run.root, "--keep", "1.0", *stated, "--set", "mixture.by=random")
    first = {row["sample_id"] for row in decisions(run) if row["decision"] == "keep"}
    assert kept(run) == {"films": 4, "talks": 3, "stills": 2}
    assert {r["reason"] for r in decisions(run) if r["decision"] == "prune"} == {"dataset_excess"}
    done("decide", run.root, "--keep", "1.0", *stated, "--set", "mixture.seed=7")
    other = {row["sample_id"] for row in decisions(run) if row["decision"] == "keep"}
    assert other != first
    assert verify_run(run, media=False).problems == []


def test_a_scale_makes_a_small_mixture_of_the_same_shares(run: RunDirectory) -> None:
    done("decide", run.root, "--keep", "mixture", "--set", "mixture.scale=0.5")
    assert kept(run) == {"films": 2, "talks": 3, "stills": 1}
    done("decide", run.root, "--set", "mixture.datasets={talks: 2}")  # the scale stays
    assert kept(run) == {"films": 2, "talks": 1, "stills": 1}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--keep", "mixture", "--set", "mixture.too_few=refuse"], "talks 3 of 5"),
        (["--set", "mixture.datasets={talk: 2}", "--keep", "mixture"], "Did you mean 'talks'"),
        (["--set", "mixture.datasets={talks: 2}"], "mixture.rows is 'all', which keeps all"),
        (["--set", "mixture.scale=0.5"], "or take them back: --set mixture.scale=1."),
        (["--keep", "mixture", "--set", "mixture.by=random"], "by score: --set mixture.by=score."),
        (["--keep", "mixtur"], "or 'mixture' (of each dataset"),
        (["--set", "mixture.scale=0", "--keep", "mixture"], "greater than 0"),
    ],
)
def test_what_cannot_be_meant_or_met_is_refused_and_nothing_is_changed(
    run: RunDirectory, words: list[str], message: str
) -> None:
    before = written(run)
    assert message in refused("decide", run.root, *words)
    assert written(run) == before


def test_a_plan_shows_what_decide_then_keeps(run: RunDirectory) -> None:
    text = done("plan", run.root, "--keep", "mixture")
    assert ["talks", "3", "5", "3", "3", "2", "short"] in [ln.split() for ln in text.splitlines()]
    assert "also by the rows of\neach dataset" in text
    planned = json.loads(done("plan", run.root, "--keep", "mixture", "--json"))
    chosen = planned["subsets"]["caption"]["kept"]["chosen"]
    assert (chosen["rows"], chosen["threshold"]) == (7, None)
    assert planned["always_kept"]["rows"] == 2
    assert [asked["rows"] for asked in planned["asked"]["caption"].values()] == [17, 17, 9, 9]
    assert kept(run) == {"films": 8, "talks": 3, "stills": 6}  # it changes nothing
    done("decide", run.root, "--keep", "mixture")
    again = json.loads(done("plan", run.root, "--json"))
    assert again["subsets"]["caption"]["kept"]["now"]["rows"] == 7
    assert again["datasets"] == planned["datasets"]
    back = json.loads(done("plan", run.root, "--keep", "1.0", "--json"))
    assert back["subsets"]["caption"]["kept"]["chosen"]["rows"] == 11
    assert back["always_kept"]["rows"] == 6


def test_a_plan_and_a_template_see_what_the_rows_took(run: RunDirectory, tmp_path: Path) -> None:
    done("decide", run.root, "--keep", "1.0", "--set", "mixture.rows=stated")
    planned = json.loads(done("plan", run.root, "--set", "mixture.rows=all", "--json"))
    ways = planned["subsets"]["caption"]["kept"]
    assert (ways["now"]["rows"], ways["chosen"]["rows"]) == (7, 11)
    assert planned["rows_out"] == 0
    assert "11 rows" in done("score-template", run.root, "--out", tmp_path / "rows.csv")


def test_what_the_rows_took_comes_back(run: RunDirectory) -> None:
    before = written(run)[0]
    done("decide", run.root, "--keep", "mixture")
    done("decide", run.root, "--keep", "1.0")
    assert written(run)[0] == before


def test_the_report_and_the_mixture_show_found_and_wanted(run: RunDirectory) -> None:
    done("decide", run.root, "--keep", "mixture")
    run.write_run(_with_report_facts(run.read_run()))
    page = render_report(report_run(run, "run"))
    assert '<th scope="row">talks</th><td>3</td><td>5</td><td>3</td><td>3</td><td>2</td>' in page
    mixture = Path(str(run.root)).parent / "mixture.yaml"
    text = done("mixture", "show", mixture, "--run", run.root)
    lines = [line.split() for line in text.splitlines()]
    assert lines[0][-4:] == ["found", "kept", "share", "kept"]
    assert lines[1] == ["films", "36.36%", "4", "8", "-", "8", "4", "44.44%"]
    assert lines[2] == ["talks", "45.45%", "5", "3", "-", "3", "3", "33.33%"]
    other = mixture.with_name("other.yaml")
    other.write_text("datasets: [{name: films, manifest: films.json, media_root: .}]")
    text = done("mixture", "show", other, "--run", run.root)
    assert "not in the mixture: talks, of which the run keeps 3 rows" in text
    assert "not in the mixture: films" not in text


def _with_report_facts(record: dict[str, Any]) -> dict[str, Any]:
    """Add what a report needs and a stored run has not."""
    numbers = ("embed_wall_s", "probe_cpu_s", "decode_cpu_s", "embed_cpu_s", "files_read",
               "clips_embedded", "wall_s", "bytes_fetched")  # fmt: skip
    facts = {"ended_at": "2026-01-01T00:00:00", "versions": {}}
    facts["timings"] = dict.fromkeys(numbers, 0)
    return record | facts | {"encoder": {**record["encoder"], "name": "thumbnail"}}


def test_verify_finds_other_rows_than_the_mixture_s(run: RunDirectory) -> None:
    done("decide", run.root, "--keep", "mixture")
    record = run.read_run()
    record["decided"]["datasets"][0]["kept"] = 5
    run.write_run(record)
    (problem,) = verify_run(run, media=False).problems
    assert "decided.datasets" in problem
    record["datasets"][0]["rows"] = "6"
    run.write_run(record)
    assert any("decisions.parquet" in p for p in verify_run(run, media=False).problems)


def test_rows_that_are_not_there_are_refused_before_a_video_is_opened(tmp_path: Path) -> None:
    mixture = write_mixture(tmp_path)  # of videos that do not exist
    with pytest.raises(UserError, match=r"talks 3 of 5"):
        run_prune(
            mixture, tmp_path / "run", thresholds__default="keep mixture", mixture__too_few="refuse"
        )
    with pytest.raises(UserError, match=r"none of the datasets of this run \(films, talks, stills"):
        run_prune(write_mixture(tmp_path, {}), tmp_path / "run", thresholds__default="keep mixture")
    assert not list((tmp_path / "run").glob("embeddings/*"))


def test_a_plan_without_stated_rows_says_what_to_do(tmp_path: Path) -> None:
    clips = {"a.mp4": StoredClip(emb_FD=np.eye(4), duration_s=4.0)}
    plain = stored_run(tmp_path, clips)
    done("decide", plain.root, "--keep", "1.0")
    with pytest.raises(UserError, match=r"--set mixture\.datasets\.rows=1000"):
        plan_choice(
            plain, measure=None, thresholds={}, weights=None, tokens_per_gpu_hour=None,
            default=load_config(None, [("thresholds.default", "keep mixture", "test")])
            .config.default_threshold(), num_points=10,
        )  # fmt: skip
