"""Runs decided by selectors: who is seen, what is written, and what verify says of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from support.commands import vxp_data_here
from support.duplicate_clips import clip, film
from support.runs import by_sample, caption_row, table
from support.selector_contract import candidates_of
from support.stored_runs import StoredClip, decide, stored_run
from vxp_data.core.selectors.base import load_selector, select
from vxp_data.core.thresholds import parse_keep
from vxp_data.errors import UserError
from vxp_data.pipeline.curate.selection import inputs_of
from vxp_data.pipeline.inspect.compare import compare_runs
from vxp_data.pipeline.inspect.plan import plan_choice
from vxp_data.pipeline.inspect.report import report_run
from vxp_data.pipeline.redecide import redecide
from vxp_data.pipeline.run_dir.directory import RunDirectory
from vxp_data.pipeline.verify.run import verify_run

NUM = 12


def shown(seed: int, **more: Any) -> StoredClip:
    return StoredClip(emb_FD=clip(film(seed, 10.0))[0], duration_s=10.0 + seed, **more)


def question_row(row_id: str, video: str, question: str) -> dict[str, Any]:
    row = caption_row(row_id, video)
    row["conversations"][0]["value"] = f"<image>\n{question}\nA. one\nB. two"
    row["conversations"][1]["value"] = "A"
    return row


def run_of(folder: Path, **more: Any) -> RunDirectory:
    """A caption of each clip, and two questions about every second one."""
    clips = {f"{n:02d}.mp4": shown(n, **more) for n in range(NUM)}
    rows = [caption_row(f"c{n:02d}", name) for n, name in enumerate(clips)]
    for n, name in enumerate(clips):
        if n % 2 == 0:
            rows.append(question_row(f"q{n:02d}", name, "What colour is it?"))
            rows.append(question_row(f"r{n:02d}", name, "What happens after that?"))
    return stored_run(folder, clips, rows)


def chosen(run: RunDirectory, keep: str = "0.5", **select: str) -> Any:
    return redecide(
        str(run.root), measure=None, thresholds={}, default=parse_keep(keep), select=select
    )[0]


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return run_of(tmp_path)


def verified(run: RunDirectory, *, selection: bool = True) -> list[str]:
    return verify_run(run, media=False, selection=selection).problems


def expected(run: RunDirectory, name: str, prefix: str) -> dict[str, float]:
    """Select with what the run was made of, without reading its files."""
    of = [n for n in range(NUM) if prefix == "c" or n % 2 == 0]
    mean_CD = []
    for n in of:
        emb_FD = shown(n).emb_FD.astype(np.float16).astype(np.float64)
        mean_D = emb_FD.mean(axis=0)
        mean_CD.append((mean_D / np.linalg.norm(mean_D)).astype(np.float16))
    scores = {row["uri"][-6:]: row["mean_pairwise"] for row in table(Path(str(run.root)), "scores")}
    candidates = candidates_of(
        len(of), 1,
        sample_id_N=np.array([f"{prefix}{n:02d}" for n in of], object),
        clip_name_C=np.array([f"id-of-{n:02d}.mp4#t=0.0,inf" for n in of], object),
        redundancy_C=np.array([scores[f"{n:02d}.mp4"] for n in of]),
        duration_s_C=np.array([10.0 + n for n in of]),
        mean_CD=np.stack(mean_CD),
    )  # fmt: skip
    ids = candidates.sample_id_N.tolist()
    return dict(zip(ids, select(load_selector(name), candidates).tolist(), strict=True))


@pytest.mark.parametrize(
    "name",
    ["intra", "intra_by_duration", "random", "decorrelate", "cluster_quota", "coverage"],
)
def test_a_run_is_cut_by_what_the_selector_gives_for_its_clips(run: RunDirectory, name: str):
    chosen(run, default=name)
    score = by_sample(Path(str(run.root)), "score")
    wanted = expected(run, name, "c")
    assert {row: score[row] for row in wanted} == wanted
    decision = by_sample(Path(str(run.root)), "decision")
    first = sorted(wanted, key=lambda row: (-wanted[row], row))[: NUM // 2]
    assert {row for row in wanted if decision[row] == "keep"} == set(first)
    assert verified(run) == []


def test_what_is_written_says_by_what_and_why(run: RunDirectory):
    decided = chosen(run, keep="3", default="coverage")
    out = Path(str(run.root))
    assert decided.reasons == {"not_selected": 24 - 6, "within_threshold": 6}
    assert decided.decided_by == "select:coverage@1"
    assert set(by_sample(out, "measure").values()) == {"select:coverage@1"}
    rows = table(out, "selection")
    assert [row["task"] for row in rows] == ["caption"] * 12 + ["multiple_choice"] * 12
    assert [row["position"] for row in rows] == [*range(12), *range(12)]
    score = by_sample(out, "score")
    assert all(score[row["sample_id"].split("/", 1)[1]] == row["score"] for row in rows)
    told = inputs_of(pq.read_table(out / "selection.parquet"))
    assert (told["across"], told["seed"]) == ("subset", 0)
    assert sorted(told["inputs"]) == [
        "caption: select:coverage@1", "multiple_choice: select:coverage@1",
    ]  # fmt: skip
    assert json.loads((out / "run.json").read_text())["config"]["select"] == {"default": "coverage"}


def test_rows_of_one_clip_are_taken_together(run: RunDirectory):
    chosen(run, keep="4", default="coverage")
    kept = [row for row, d in by_sample(Path(str(run.root)), "decision").items() if d == "keep"]
    questions = sorted(row for row in kept if row[0] in "qr")
    assert [row[1:] for row in questions[:2]] == [row[1:] for row in questions[2:]]


def test_each_subset_may_have_its_own_and_none_goes_back(run: RunDirectory):
    out = Path(str(run.root))
    chosen(run, caption="random")
    measure = by_sample(out, "measure")
    assert (measure["c00"], measure["q00"]) == ("select:random@1", "mean_pairwise")
    reasons = by_sample(out, "reason")
    of_captions = {reasons[row] for row in reasons if row[0] == "c"}
    assert of_captions == {"not_selected", "within_threshold"}
    assert {reasons[row] for row in reasons if row[0] != "c"} == {"redundant", "within_threshold"}
    assert len(table(out, "selection")) == NUM
    assert verified(run) == []
    before = by_sample(out, "decision")
    chosen(run, default="none")
    assert set(by_sample(out, "measure").values()) == {"mean_pairwise"}
    assert not (out / "selection.parquet").exists()
    assert by_sample(out, "decision") != before
    assert verified(run) == []


def test_a_measure_that_is_named_decides_again(run: RunDirectory):
    chosen(run, default="coverage")
    changes: dict[str, Any] = {"thresholds": {}, "default": None}
    redecide(str(run.root), measure="mean_adjacent", **changes)
    assert set(by_sample(Path(str(run.root)), "measure").values()) == {"mean_adjacent"}
    redecide(str(run.root), measure="centroid", select={"default": "intra"}, **changes)
    rows = by_sample(Path(str(run.root)), "score")
    clips = {row["uri"][-6:]: row["centroid"] for row in table(Path(str(run.root)), "scores")}
    assert rows["c03"] == -clips["03.mp4"]


def test_across_all_a_clip_has_one_score_in_every_subset(run: RunDirectory):
    out = Path(str(run.root))
    decide(run, selection__across="all")
    chosen(run, default="decorrelate")
    together = by_sample(out, "score")
    assert all(together[f"q{n:02d}"] == together[f"c{n:02d}"] for n in range(0, NUM, 2))
    told = inputs_of(pq.read_table(out / "selection.parquet"))
    assert list(told["inputs"]) == ["all: select:decorrelate@1"]
    decision = by_sample(out, "decision")
    assert sum(decision[row] == "keep" for row in decision if row[0] == "c") == NUM // 2
    assert verified(run) == []
    decide(run, selection__across="subset")
    apart = by_sample(out, "score")
    assert apart["q00"] != apart["c00"]


def test_rows_that_filters_take_are_not_seen(run: RunDirectory):
    out = Path(str(run.root))
    decide(run, filters__duration_s__max=15)
    chosen(run, default="random", keep="1.0")
    ids = [row["sample_id"].split("/", 1)[1] for row in table(out, "selection")]
    assert sorted(row for row in ids if row[0] == "c") == [f"c{n:02d}" for n in range(6)]
    assert np.isnan(by_sample(out, "score")["c11"])
    assert verified(run) == []


def test_gdo_lite_reads_words_and_changes(tmp_path: Path):
    run = run_of(tmp_path, facts={"content_change": [3.0] * 19, "contrast": [9.0] * 20})
    chosen(run, default="gdo_lite")
    score = by_sample(Path(str(run.root)), "score")
    assert all(score[f"r{n:02d}"] > score[f"q{n:02d}"] for n in range(0, NUM, 2))
    assert verified(run) == []


def test_a_budget_is_cut_in_the_order_of_the_selector(run: RunDirectory):
    out = Path(str(run.root))
    redecide(
        str(run.root), measure=None, thresholds={}, select={"default": "coverage"},
        default=None, overrides=[],
    )  # fmt: skip
    done = vxp_data_here("decide", str(out), "--budget", "rows=9", "--select", "coverage")
    assert done.returncode == 0, done.stderr
    assert "Thresholds are on select:coverage@1." in done.stdout
    decision = by_sample(out, "decision")
    kept = {row for row, outcome in decision.items() if outcome == "keep"}
    assert 7 <= len(kept) <= 9
    wanted = expected(run, "coverage", "c")
    order = sorted(wanted, key=lambda row: (-wanted[row], row))
    num = len([row for row in kept if row[0] == "c"])
    assert {row for row in kept if row[0] == "c"} == set(order[:num])
    assert verified(run) == []


@pytest.mark.parametrize("threshold", ["0.8", "q0.5", "knee"])
def test_thresholds_on_scores_are_refused_with_a_selector(run: RunDirectory, threshold: str):
    out = Path(str(run.root))
    before = (out / "run.json").read_bytes()
    words = ("decide", str(out), "--select", "coverage", "--threshold", threshold)
    done = vxp_data_here(*words)
    assert done.returncode == 2
    assert "puts rows in an order" in done.stderr
    assert "--keep 0.5" in done.stderr
    assert (out / "run.json").read_bytes() == before
    recipe = out.parent / "recipe.yaml"
    recipe.write_text(f"select: {{default: coverage}}\nthresholds: {{default: '{threshold}'}}\n")
    shown = vxp_data_here("show-config", str(recipe))
    assert shown.returncode == 2
    assert "puts rows in an order" in shown.stderr


def test_names_that_are_not_there_are_told(run: RunDirectory):
    done = vxp_data_here("decide", str(run.root), "--select", "covrage")
    assert done.returncode == 2
    assert "Did you mean 'coverage'?" in done.stderr
    with pytest.raises(UserError, match="unknown task in select 'capton'"):
        chosen(run, capton="coverage")
    with pytest.raises(UserError, match="--scores FILE"):
        chosen(run, default="text_blind")


def test_plan_report_and_compare_show_the_order(run: RunDirectory, tmp_path: Path):
    other = run_of(tmp_path / "other")
    for each in (run, other):
        decide(each)
        record = each.read_run()
        more = {"ended_at": "", "timings": {}, "versions": {}}
        each.write_run({**record, **more, "encoder": {**record["encoder"], "name": "x"}})
    planned = plan_choice(
        run, measure=None, thresholds={}, default=parse_keep("0.5"), weights=None,
        tokens_per_gpu_hour=None, num_points=5, select={"default": "coverage"},
    )  # fmt: skip
    assert planned.measure == "select:coverage@1"
    assert not (Path(str(run.root)) / "selection.parquet").exists()
    (caption, _) = planned.subsets
    assert [kept.name for kept in caption.kept] == ["now", "chosen"]
    wanted = sorted(expected(run, "coverage", "c").values(), reverse=True)
    assert caption.kept[1].threshold == wanted[NUM // 2 - 1]
    assert caption.curve.threshold_P[-1] == wanted[-1]
    chosen(run, default="coverage")
    again = plan_choice(
        run, measure=None, thresholds={}, default=None, weights=None, tokens_per_gpu_hour=None,
        num_points=5,
    )  # fmt: skip
    assert again.subsets[0].kept[0].threshold == caption.kept[1].threshold
    assert report_run(run, "r").measure == "select:coverage@1"
    compared = compare_runs(run, other, num_examples=0)
    assert (compared.measure_a, compared.measure_b) == ("select:coverage@1", "mean_pairwise")
    reasons = {(change.reason_a, change.reason_b) for change in compared.changes}
    assert ("not_selected", "redundant") in reasons or (
        "not_selected",
        "within_threshold",
    ) in reasons


def spoil(run: RunDirectory, change: Any, *, about: dict[bytes, bytes] | None = None) -> None:
    path = Path(str(run.root)) / "selection.parquet"
    stored = pq.read_table(path)
    changed = pa.Table.from_pylist(change(stored.to_pylist()), stored.schema)
    if about is not None:
        changed = changed.replace_schema_metadata(about)
    pq.write_table(changed, path)


def test_verify_finds_an_order_that_is_not_the_selector_s(run: RunDirectory):
    chosen(run, default="decorrelate")

    def other_score(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        rows[0]["score"] += 1.0  # still the first
        return rows

    spoil(run, other_score)
    problems = verified(run, selection=False)
    assert any("its score and threshold give" in problem for problem in problems)
    assert any("selecting anew gives another order" in problem for problem in verified(run))


def test_verify_finds_other_inputs_only_when_asked(run: RunDirectory):
    chosen(run, default="decorrelate")
    told = inputs_of(pq.read_table(Path(str(run.root)) / "selection.parquet"))
    told["inputs"]["caption: select:decorrelate@1"] = "0" * 64
    spoil(run, lambda rows: rows, about={b"selection": json.dumps(told, sort_keys=True).encode()})
    assert verified(run, selection=False) == []
    assert verified(run) == ["selection.parquet: was made of other inputs than the run has now"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda rows: rows[1:], "its rows are not those about which selectors decide"),
        (lambda rows: [*rows[1:12], rows[0], *rows[12:]], "do not stand in the order"),
        (lambda rows: [*rows, rows[0]], "its rows are not those about which selectors decide"),
    ],
)
def test_verify_finds_rows_that_are_missing_doubled_or_moved(run: RunDirectory, change, told):
    chosen(run, default="decorrelate")
    spoil(run, change)
    assert any(told in problem for problem in verified(run, selection=False))


def test_verify_finds_a_selection_that_is_missing(run: RunDirectory):
    chosen(run, default="decorrelate")
    (Path(str(run.root)) / "selection.parquet").unlink()
    assert verified(run, selection=False) == ["selection.parquet: missing"]


def test_verify_finds_means_that_are_not_those_of_the_frames(run: RunDirectory):
    decide(run)
    path = Path(str(run.root)) / "means.parquet"
    stored = pq.read_table(path)
    rows = stored.to_pylist()
    rows[0]["mean"], rows[1]["mean"] = rows[1]["mean"], rows[0]["mean"]
    pq.write_table(pa.Table.from_pylist(rows, stored.schema), path)
    problems = verified(run)
    assert len(problems) == 2
    assert "00.mp4: its mean is not that of its frames" in problems[0]


def test_decided_twice_it_is_the_same_bytes(run: RunDirectory):
    out = Path(str(run.root))
    names = ("selection.parquet", "decisions.parquet", "kept.json")
    chosen(run, default="cluster_quota")
    first = [(out / name).read_bytes() for name in names]
    (out / "means.parquet").unlink()  # a run of an older version has none
    chosen(run, default="cluster_quota")
    assert [(out / name).read_bytes() for name in names] == first
    assert verified(run) == []
