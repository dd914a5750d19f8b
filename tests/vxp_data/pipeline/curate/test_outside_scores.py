"""Scores that a user brings: read, kept, cut, and refused where they do not say what they must."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from support.commands import vxp_data_here
from support.duplicate_clips import clip, film
from support.runs import by_sample, caption_row, table
from support.stored_runs import StoredClip, decide, stored_run
from vxp_data.errors import UserError
from vxp_data.pipeline.curate.outside_scores import ScoreFile
from vxp_data.pipeline.redecide import redecide
from vxp_data.pipeline.run_dir.directory import RunDirectory
from vxp_data.pipeline.verify.run import verify_run
from vxp_data.settings.prune import threshold_spec

SCORES = {f"{n}": float(n) / 10 for n in range(6)}


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    clips = {
        f"{n}.mp4": StoredClip(emb_FD=clip(film(n, 10.0))[0], duration_s=10.0) for n in range(6)
    }
    rows = [caption_row(f"{n}", f"{n}.mp4") for n in range(6)]
    text = caption_row("text", "")
    del text["video"]
    text["conversations"][0]["value"] = "Say something."
    return stored_run(tmp_path, clips, [*rows, text])


def id_of(run: RunDirectory, name: str) -> str:
    ids = pq.read_table(Path(str(run.root)) / "samples.parquet")["sample_id"].to_pylist()
    (found,) = (i for i in ids if i.rpartition("/")[2] == name)
    return str(found)


def file_of(run: RunDirectory, suffix: str, scores: Any = None, **columns: Any) -> Path:
    scores = SCORES if scores is None else scores
    names = [id_of(run, name) for name in scores]
    values = {"sample_id": names, "score": list(scores.values()), **columns}
    path = Path(str(run.root)).parent / f"judge{suffix}"
    made = pa.table(values)
    if suffix == ".parquet":
        pq.write_table(made, path)
    elif suffix == ".csv":
        lines = [",".join("" if v is None else str(v) for v in row.values()) for row in
                 made.to_pylist()]  # fmt: skip
        path.write_text("\n".join([",".join(values), *lines]) + "\n")
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in made.to_pylist()))
    return path


def by_scores(run: RunDirectory, path: Path, threshold: str = "keep 0.5", **more: Any) -> Any:
    select = more.pop("select", None)
    return redecide(
        str(run.root), measure=None, thresholds={}, default=threshold_spec(threshold),
        scores=ScoreFile(path=str(path), **more), select=select,
    )[0]  # fmt: skip


def decided(run: RunDirectory, column: str = "decision") -> dict[str, Any]:
    return by_sample(Path(str(run.root)), column)


def problems(run: RunDirectory) -> list[str]:
    return verify_run(run, media=False, selection=True).problems


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_the_highest_scores_stay_whatever_the_file(run: RunDirectory, suffix: str):
    path = file_of(run, suffix)
    done = by_scores(run, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert decided(run) == {
        "0": "prune", "1": "prune", "2": "prune", "3": "keep", "4": "keep", "5": "keep",
        "text": "keep",
    }  # fmt: skip
    assert done.reasons == {"not_selected": 3, "text_only": 1, "within_threshold": 3}
    assert decided(run, "score")["4"] == 0.4
    assert done.decided_by == f"scores:judge@{digest[:8]}:score"
    assert set(decided(run, "measure").values()) == {done.decided_by}
    kept = table(Path(str(run.root)), f"outside_scores-{digest}")
    assert [row["score"] for row in kept] == list(SCORES.values())
    assert problems(run) == []


def test_a_threshold_in_the_scores_own_unit_keeps_what_has_as_much(run: RunDirectory):
    by_scores(run, file_of(run, ".jsonl"), "0.4")
    assert [name for name, d in decided(run).items() if d == "keep"] == ["4", "5", "text"]
    assert decided(run, "threshold")["0"] == 0.4
    by_scores(run, file_of(run, ".jsonl"), "q0.5")
    assert decided(run, "threshold")["0"] == 0.25
    assert problems(run) == []


def test_name_version_and_column_are_the_file_s_or_the_user_s(run: RunDirectory):
    path = file_of(run, ".csv", scorer=["blind"] * 6, scorer_version=["3"] * 6)
    assert by_scores(run, path).decided_by == "scores:blind@3:score"
    assert by_scores(run, path, scorer="mine@7").decided_by == "scores:mine@7:score"
    path = file_of(run, ".csv", other=[5, 4, 3, 2, 1, 0])
    with pytest.raises(UserError, match=r"got score, other\. Say which: --scores-column"):
        by_scores(run, path)
    by_scores(run, path, column="other")
    assert [name for name, d in decided(run).items() if d == "keep"] == ["0", "1", "2", "text"]
    with pytest.raises(UserError, match=r"unknown column of numbers.*'othr'"):
        by_scores(run, path, column="othr")
    path = file_of(run, ".csv", scorer=["a"] * 5 + ["b"])
    with pytest.raises(UserError, match="scorer is 'a' and 'b'"):
        by_scores(run, path)


def test_ids_that_are_there_twice_are_refused(run: RunDirectory):
    path = file_of(run, ".jsonl")
    path.write_text(path.read_text() + path.read_text().splitlines()[2] + "\n")
    with pytest.raises(UserError, match=r"'.*2' is there more than once"):
        by_scores(run, path)


def test_ids_that_the_run_has_not_are_counted(run: RunDirectory):
    path = file_of(run, ".csv")
    path.write_text(path.read_text() + "nobody,0.5\nnobody-else,0.5\n")
    done = vxp_data_here("decide", str(run.root), "--scores", str(path))
    assert done.returncode == 0, done.stderr
    assert "2  scores are of rows that this run has not" in done.stdout
    assert problems(run) == []


@pytest.mark.parametrize("lack", ["absent", "nan", "null"])
def test_a_row_without_a_score_is_refused_kept_or_dropped(run: RunDirectory, lack: str):
    scores: dict[str, float | None] = dict(SCORES)
    if lack == "absent":
        del scores["5"]
    else:
        scores["5"] = math.nan if lack == "nan" else None
    path = file_of(run, ".parquet", scores)
    before = (Path(str(run.root)) / "run.json").read_bytes()
    with pytest.raises(UserError, match=r"1 of 6 rows have no score, such as '.*5'.*--missing"):
        by_scores(run, path)
    assert (Path(str(run.root)) / "run.json").read_bytes() == before
    assert not list(Path(str(run.root)).glob("outside_scores-*"))
    done = by_scores(run, path, "keep 2", missing="drop")
    assert done.reasons["unscored"] == 1
    assert decided(run)["5"] == "prune"
    assert [name for name, d in decided(run).items() if d == "keep"] == ["3", "4", "text"]
    assert problems(run) == []
    done = by_scores(run, path, "keep 2", missing="keep")
    assert done.reasons["kept_unscored"] == 1
    assert [name for name, d in decided(run).items() if d == "keep"] == ["3", "4", "5", "text"]
    assert problems(run) == []


def test_rows_that_are_kept_without_a_score_are_paid_for_first(run: RunDirectory):
    path = file_of(run, ".csv", {name: s for name, s in SCORES.items() if name != "0"})
    by_scores(run, path, "budget videos=3", missing="keep")
    assert [name for name, d in decided(run).items() if d == "keep"] == ["0", "4", "5", "text"]
    assert problems(run) == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("id,score\na,1\n", "has no column 'sample_id', its columns are id, score"),
        ("sample_id,score\na,good\n", "wanted one column of numbers, got none"),
        ("sample_id,score\na,inf\n", "score of 'a' is inf, wanted a number"),
        ("sample_id,score\na\n", "cannot be read"),
    ],
)
def test_files_that_are_no_scores_are_refused(run: RunDirectory, text: str, told: str):
    path = Path(str(run.root)).parent / "scores.csv"
    path.write_text(text)
    done = vxp_data_here("decide", str(run.root), "--scores", str(path))
    assert done.returncode == 2
    assert told in done.stderr.replace("\n", " ")


def test_a_file_that_is_not_there_or_of_another_kind_is_told(run: RunDirectory, tmp_path: Path):
    for name, told in (("none.csv", "No such file"), ("scores.txt", "wanted a file that ends in")):
        done = vxp_data_here("decide", str(run.root), "--scores", str(tmp_path / name))
        assert done.returncode == 2
        assert told in done.stderr
    done = vxp_data_here("decide", str(run.root), "--missing", "keep")
    assert done.returncode == 2
    assert "give --scores FILE" in done.stderr


def test_text_blind_takes_the_file_and_breaks_ties_by_redundancy(run: RunDirectory):
    path = file_of(run, ".jsonl", {f"{n}": float(n >= 3) for n in range(6)})
    by_scores(run, path, "keep 4", select={"default": "text_blind"})
    assert set(decided(run, "measure").values()) == {"select:text_blind@1"}
    redundancy = {row["uri"][-5]: row["mean_pairwise"] for row in table(
        Path(str(run.root)), "scores")}  # fmt: skip
    best = min("012", key=redundancy.__getitem__)
    kept = [name for name, d in decided(run).items() if d == "keep"]
    assert kept == [*sorted(["3", "4", "5", best]), "text"]
    assert problems(run) == []


def test_a_measure_or_another_file_takes_their_place(run: RunDirectory):
    out = Path(str(run.root))
    by_scores(run, file_of(run, ".csv"))
    by_scores(run, file_of(run, ".parquet"))
    assert len(list(out.glob("outside_scores-*"))) == 1
    decide(run)  # what has been decided by stays
    assert set(decided(run, "measure").values()) != {"mean_pairwise"}
    redecide(str(run.root), measure="mean_pairwise", thresholds={}, default=None)
    assert set(decided(run, "measure").values()) == {"mean_pairwise"}
    assert not list(out.glob("outside_scores-*"))


def test_verify_finds_scores_that_were_changed(run: RunDirectory):
    by_scores(run, file_of(run, ".csv"))
    (path,) = Path(str(run.root)).glob("outside_scores-*")
    rows = pq.read_table(path)
    pq.write_table(rows.set_column(1, "score", pa.array(list(SCORES.values())[::-1])), path)
    assert any("its score and threshold give" in problem for problem in problems(run))
    path.unlink()
    assert any("outside_scores-" in problem for problem in problems(run))


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_the_template_lists_what_a_score_decides_about_and_comes_back_filled(
    run: RunDirectory, tmp_path: Path, suffix: str
):
    decide(run, filters__duration_s__max=10)
    path = tmp_path / f"rows{suffix}"
    done = vxp_data_here("score-template", str(run.root), "--out", str(path))
    assert done.returncode == 0, done.stderr
    assert "6 rows" in done.stdout
    if suffix == ".jsonl":
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        assert [row["sample_id"].rpartition("/")[2] for row in rows] == list("012345")
        assert rows[0]["score"] is None
        assert rows[0]["clip_end_s"] is None
        assert "Please describe this video" in rows[0]["turns"]
        assert rows[0]["media_uri"].endswith("0.mp4")
        filled = [row | {"score": SCORES[row["sample_id"][-1]]} for row in rows]
        path.write_text("".join(json.dumps(row) + "\n" for row in filled))
        by_scores(run, path)
        assert [name for name, d in decided(run).items() if d == "keep"] == ["3", "4", "5", "text"]


def test_a_template_with_another_ending_is_refused(run: RunDirectory, tmp_path: Path):
    decide(run)
    done = vxp_data_here("score-template", str(run.root), "--out", str(tmp_path / "rows.xlsx"))
    assert done.returncode == 2
    assert "wanted .jsonl, .csv, .parquet" in done.stderr


def test_scores_that_are_named_last_decide_instead_of_a_selector(run: RunDirectory):
    redecide(
        str(run.root), measure=None, thresholds={}, default=threshold_spec("keep 0.5"),
        select={"default": "random"},
    )  # fmt: skip
    by_scores(run, file_of(run, ".csv"))
    assert decided(run)["5"] == "keep"
    assert all(name.startswith("scores:judge@") for name in decided(run, "measure").values())
    assert not (Path(str(run.root)) / "selection.parquet").exists()


def files_of(run: RunDirectory) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(str(run.root)).glob("*.*")}


@pytest.mark.parametrize(
    ("threshold", "missing"),
    [("--keep=0.5", "keep"), ("--threshold=0.25", "drop"), ("--budget=videos=3", "keep"),
     ("--threshold=knee", "drop"), ("--keep=2", "drop")],
)  # fmt: skip
def test_plan_shows_what_scores_would_do_and_changes_nothing(
    run: RunDirectory, threshold: str, missing: str
):
    decide(run, thresholds__default="keep 0.5")
    path = file_of(run, ".csv", {name: s for name, s in SCORES.items() if name != "1"})
    words = ["--scores", str(path), "--scorer", "judge@2", "--missing", missing, threshold]
    before = files_of(run)
    done = vxp_data_here("plan", str(run.root), *words, "--json")
    assert done.returncode == 0, done.stderr
    assert files_of(run) == before
    shown = json.loads(done.stdout)
    assert shown["measure"] == "scores:judge@2:score"
    assert shown["rows_out"] == int(missing == "drop")
    assert shown["always_kept"]["rows"] == 1 + int(missing == "keep")
    assert vxp_data_here("decide", str(run.root), *words).returncode == 0
    now = json.loads(vxp_data_here("plan", str(run.root), "--json").stdout)
    assert now["all"]["kept"]["now"] == shown["all"]["kept"]["chosen"]
    of_captions = [each["subsets"]["caption"] for each in (now, shown)]
    assert of_captions[0]["curve"] == of_captions[1]["curve"]
    assert (
        of_captions[0]["kept"]["now"]["threshold"] == of_captions[1]["kept"]["chosen"]["threshold"]
    )
    # Another file, or the measure, brings rows back that the first had no score for.
    whole = vxp_data_here("plan", str(run.root), "--measure", "centroid", "--json")
    shown = json.loads(whole.stdout)
    assert (shown["rows_out"], shown["always_kept"]["rows"]) == (0, 1)
    assert shown["all"]["curve"][-1]["rows"] == 6


def test_plan_refuses_what_decide_refuses(run: RunDirectory):
    decide(run)
    path = file_of(run, ".csv", {"0": 1.0})
    for words in (["--scores", str(path)], ["--scorer", "a@1"]):
        done = vxp_data_here("plan", str(run.root), *words)
        assert done.returncode == 2
        assert "5 of 6 rows have no score" in done.stderr or "give --scores" in done.stderr


def test_scores_take_the_place_of_a_selector_that_has_no_thresholds(run: RunDirectory):
    redecide(str(run.root), measure=None, thresholds={}, default=threshold_spec("keep 0.5"),
             select={"default": "random"})  # fmt: skip
    by_scores(run, file_of(run, ".csv"), "0.4")
    assert [name for name, d in decided(run).items() if d == "keep"] == ["4", "5", "text"]
