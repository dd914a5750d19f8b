"""Runs decided by quality per cost: whoever gives the order; what is refused; what verify says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from support.commands import vxp_data_here
from support.duplicate_clips import clip, film
from support.runs import by_sample, caption_row, table
from support.stored_runs import StoredClip, decide, stored_run
from vxp_data.core.cost_model import expected_frames
from vxp_data.core.sampling_plans import SamplingRule
from vxp_data.pipeline.run_dir.directory import RunDirectory, open_run
from vxp_data.pipeline.verify.run import verify_run

NUM = 10
TOKENS_PER_FRAME = 36
LENGTHS_S = [4.0, 90.0, 8.0, 60.0, 2.0, 30.0, 120.0, 5.0, 45.0, 10.0]


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    clips = {
        f"{n}.mp4": StoredClip(
            emb_FD=clip(film(n, 10.0))[0],
            duration_s=LENGTHS_S[n],
            facts={"num_frames": round(LENGTHS_S[n] * 25)},
        )
        for n in range(NUM)
    }
    made = stored_run(tmp_path, clips, [caption_row(f"{n}", f"{n}.mp4") for n in range(NUM)])
    decide(made)
    return made


def out_of(run: RunDirectory) -> Path:
    return Path(str(run.root))


def problems(run: RunDirectory) -> list[str]:
    return verify_run(run, media=False, selection=True).problems


def done(*words: object) -> str:
    ended = vxp_data_here(*map(str, words))
    assert ended.returncode == 0, ended.stderr
    return str(ended.stdout)


def frames() -> dict[str, float]:
    lengths = np.array(LENGTHS_S)
    got = expected_frames(SamplingRule(), lengths, lengths * 25)
    return {str(n): float(got[n]) for n in range(NUM)}


def order_per_cost(first_to_last: list[str]) -> tuple[list[str], dict[str, float]]:
    """Return ids in the order of rank share per frame, and these; no two rows are alike."""
    cost = frames()
    value = {
        name: (NUM - place) / NUM / (cost[name] * TOKENS_PER_FRAME) * 1e6
        for place, name in enumerate(first_to_last)
    }
    return sorted(value, key=lambda name: -value[name]), value


def kept(run: RunDirectory) -> set[str]:
    return {name for name, d in by_sample(out_of(run), "decision").items() if d == "keep"}


def by_measure(run: RunDirectory, column: str = "mean_pairwise") -> list[str]:
    scores = {
        row["uri"].rsplit("/", 1)[1][:-4]: row[column] for row in table(out_of(run), "scores")
    }
    return sorted(scores, key=lambda name: scores[name])


@pytest.mark.parametrize("keep", [1, 4, 9])
def test_the_measure_s_ranks_are_divided_by_what_rows_cost(run: RunDirectory, keep: int) -> None:
    text = done("decide", run.root, "--per", "cost", "--keep", keep)
    assert "Thresholds are on mean_pairwise/tokens." in text
    order, value = order_per_cost(by_measure(run))
    assert kept(run) == set(order[:keep])
    score = by_sample(out_of(run), "score")
    assert {name: score[name] for name in value} == pytest.approx(value)
    assert set(by_sample(out_of(run), "measure").values()) == {"mean_pairwise/tokens"}
    assert set(by_sample(out_of(run), "reason").values()) == {"not_selected", "within_threshold"}
    assert by_sample(out_of(run), "threshold")["0"] == pytest.approx(value[order[keep - 1]])
    assert problems(run) == []
    done("decide", run.root, "--keep", 0.5)  # what is not said stays
    assert set(by_sample(out_of(run), "measure").values()) == {"mean_pairwise/tokens"}
    done("decide", run.root, "--per", "row")
    assert set(by_sample(out_of(run), "measure").values()) == {"mean_pairwise"}
    assert kept(run) == set(by_measure(run)[:5])
    assert problems(run) == []


def test_a_selector_s_order_is(run: RunDirectory) -> None:
    done("decide", run.root, "--select", "decorrelate", "--keep", "0.5")
    rows = sorted(table(out_of(run), "selection"), key=lambda row: row["position"])
    first_to_last = [row["sample_id"].split("/", 1)[1] for row in rows]
    done("decide", run.root, "--per", "cost", "--keep", "0.5")
    order, _ = order_per_cost(first_to_last)
    assert kept(run) == set(order[:5])
    measure = set(by_sample(out_of(run), "measure").values())
    assert measure == {"select:decorrelate@1/tokens"}
    stored = sorted(table(out_of(run), "selection"), key=lambda row: row["position"])
    assert stored == rows  # the selector's own order, whatever rows cost
    assert problems(run) == []


def test_the_user_s_scores_are_and_rows_without_one_are_paid_for_first(run: RunDirectory) -> None:
    ids = {
        row["sample_id"].split("/", 1)[1]: row["sample_id"] for row in table(out_of(run), "samples")
    }
    path = out_of(run).parent / "judge.csv"
    scores = {str(n): -(n**3) for n in range(NUM)}  # far apart: only the order counts
    lines = [f"{ids[name]},{score}\n" for name, score in scores.items()]
    path.write_text("sample_id,score\n" + "".join(lines))
    done("decide", run.root, "--scores", path, "--scorer", "j@1", "--per", "cost", "--keep", "4")
    order, _ = order_per_cost([str(n) for n in range(NUM)])
    assert kept(run) == set(order[:4])
    assert set(by_sample(out_of(run), "measure").values()) == {"scores:j@1:score/tokens"}
    assert problems(run) == []
    path.write_text("sample_id,score\n" + "".join(lines[:-1]))
    words = ["--missing", "keep", "--per", "cost", "--budget", "videos=3"]
    done("decide", run.root, "--scores", path, *words)
    assert len(kept(run)) == 3
    assert "9" in kept(run)
    assert problems(run) == []


def test_a_budget_buys_the_first_of_the_order_and_plan_tells_how_much(run: RunDirectory) -> None:
    cost = frames()
    amount = sum(cost.values()) * 0.3
    words = ["--budget", f"frames={amount}"]
    shown = json.loads(done("plan", run.root, *words, "--per", "cost", "--json"))
    quality = {name: (NUM - place) / NUM for place, name in enumerate(by_measure(run))}
    for per, order in (("row", by_measure(run)), ("cost", order_per_cost(by_measure(run))[0])):
        spent = np.cumsum([cost[name] for name in order])
        wanted = order[: int((spent <= amount * (1 + 1e-9)).sum())]
        bought = shown["bought"][per]
        assert bought["rows"] == len(wanted)
        assert bought["quality"] == pytest.approx(sum(quality[name] for name in wanted))
        done("decide", run.root, *words, "--per", per)
        assert kept(run) == set(wanted)
        assert problems(run) == []
    assert shown["bought"]["cost"]["quality"] > shown["bought"]["row"]["quality"]
    text = done("plan", run.root, *words)
    assert "per cost" in text
    assert "per cost" not in done("plan", run.root, "--keep", "0.5", "--per", "row")


def test_what_plan_shows_per_cost_is_what_decide_then_keeps(run: RunDirectory) -> None:
    shown = json.loads(done("plan", run.root, "--per", "cost", "--keep", "0.4", "--json"))
    assert shown["measure"] == "mean_pairwise/tokens"
    assert list(shown["subsets"]["caption"]["kept"]) == ["now", "chosen"]
    done("decide", run.root, "--per", "cost", "--keep", "0.4")
    now = json.loads(done("plan", run.root, "--json"))
    kept_now, kept_then = (
        {k: v for k, v in each["subsets"]["caption"]["kept"][name].items() if k != "text"}
        for each, name in ((now, "now"), (shown, "chosen"))
    )
    assert kept_now == kept_then


@pytest.mark.parametrize("threshold", ["0.8", "q0.5", "knee", "caption=0.8"])
def test_thresholds_on_scores_are_refused(run: RunDirectory, threshold: str) -> None:
    before = (out_of(run) / "run.json").read_bytes()
    for command in ("decide", "plan"):
        ended = vxp_data_here(command, str(run.root), "--per", "cost", "--threshold", threshold)
        assert ended.returncode == 2
        assert "is one on scores. Say how much to keep: --keep 0.5" in ended.stderr
    assert (out_of(run) / "run.json").read_bytes() == before
    recipe = out_of(run).parent / "recipe.yaml"
    task, _, value = threshold.rpartition("=")
    told = json.dumps({"selection": {"per": "cost"}, "thresholds": {task or "default": value}})
    recipe.write_text(told)
    shown = vxp_data_here("show-config", str(recipe))
    assert shown.returncode == 2
    assert "'cost' puts rows in an order by rank and cost" in shown.stderr


def test_a_word_that_is_none_is_refused_and_a_threshold_gives_way(run: RunDirectory) -> None:
    ended = vxp_data_here("decide", str(run.root), "--per", "costs")
    assert ended.returncode == 2
    assert "Did you mean 'cost'?" in ended.stderr
    done("decide", run.root, "--threshold", "0.8")
    done("decide", run.root, "--per", "cost", "--keep", "3")
    assert len(kept(run)) == 3


def test_verify_works_the_cut_out_anew_also_after_another_sampling(run: RunDirectory) -> None:
    done("decide", run.root, "--per", "cost", "--keep", "0.5")
    record = json.loads((out_of(run) / "run.json").read_text())
    assert record["decided"]["counted_by"] == SamplingRule().to_dict()
    copy = Path(shutil.copytree(out_of(run), out_of(run).parent / "copy"))
    record["config"]["sampling"]["policy"] = "uniform_n"  # as `sample` leaves it
    (copy / "run.json").write_text(json.dumps(record))
    assert verify_run(open_run(copy), media=False).problems == []
    stored = pq.read_table(copy / "decisions.parquet")
    rows = stored.to_pylist()
    rows[0]["score"] *= 1.01
    pq.write_table(pa.Table.from_pylist(rows, stored.schema), copy / "decisions.parquet")
    assert any(
        "its score and threshold give" in p
        for p in verify_run(open_run(copy), media=False).problems
    )


def test_recipes_have_it_as_a_setting(run: RunDirectory) -> None:
    changes: dict[str, Any] = {"selection__per": "cost"}
    decide(run, **changes, thresholds__default="keep 2")
    assert len(kept(run)) == 2
    assert set(by_sample(out_of(run), "measure").values()) == {"mean_pairwise/tokens"}
