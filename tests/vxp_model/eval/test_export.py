"""A run in others' layouts: read back as theirs are read."""

from __future__ import annotations

import json

import pytest

from support.eval_runs import LETTERS, shape_questions, write_run
from vxp_model.cli import app
from vxp_model.errors import UserError
from vxp_model.eval.benchmarks.base import Question
from vxp_model.eval.export import export_run, submission

QUESTIONS = shape_questions()


def lines_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def run(tmp_path, invented):  # noqa: ARG001 - whose benchmark it is of
    def reply(one):
        return {"0-0": None, "0-1": "no idea"}.get(one.question_id, one.gold)

    return write_run(tmp_path / "run", QUESTIONS, reply)


def test_lmms_evals_files_have_its_names_and_keys(run, tmp_path):
    results, samples = export_run(run, tmp_path / "out")
    assert results.name.endswith("_results.json")
    assert samples.name == results.name.replace("_results.json", "_samples_shapes.jsonl")
    content = json.loads(results.read_text(encoding="utf-8"))
    own = content["results"]["shapes"]
    assert own["accuracy,none"] == pytest.approx(10 / 12)
    assert 0 < own["accuracy_stderr,none"] < 0.3
    assert own["accuracy/task order,none"] == pytest.approx(3 / 4)
    assert content["n-samples"] == {"shapes": {"original": 12, "effective": 11}}
    assert content["n-shot"] == {"shapes": 0}
    assert set(content["higher_is_better"]["shapes"]) >= {"accuracy", "M-Avg"}
    rows = lines_of(samples)
    assert [row["doc_id"] for row in rows] == list(range(12))
    assert rows[1]["filtered_resps"] == ["no idea"]
    assert rows[1]["target"] == "B"
    assert rows[1]["input"].splitlines()[1:] == ["A. circle", "B. square", "C. star", "D. line"]
    assert (rows[0]["score"]["answered"], rows[0]["score"]["score"]) == (False, 0.0)
    assert (rows[2]["score"]["parsed"], rows[2]["score"]["score"]) == ("C", 1.0)


def test_the_same_answers_are_the_same_files(run, tmp_path):
    first, second = (export_run(run, tmp_path / name) for name in "ab")
    assert [path.name for path in first] == [path.name for path in second]
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()


def question(name, task, *, video, num_options=4, gold="A"):
    return Question(
        question_id=name,
        video=video,
        text="Which?",
        options=tuple(f"option {letter}" for letter in LETTERS[:num_options]),
        gold=gold,
        groups={"task": task},
    )


def said(replies):
    return lambda one: replies[one.question_id]


def test_mlvu_test_gets_a_list_of_letters(tmp_path):
    questions = [
        question("TR_0", "TR", video="video/a.mp4", num_options=6, gold="F"),
        question("AR_1", "AR", video="video/b.mp4", num_options=6),
        question("NQA_2", "NQA", video="video/c.mp4", num_options=6),
    ]
    replies = {"TR_0": "F)", "AR_1": "nobody can tell", "NQA_2": None}
    run = write_run(tmp_path / "run", questions, said(replies), benchmark="mlvu_test")
    (path,) = export_run(run, tmp_path, form="submission")
    assert json.loads(path.read_text(encoding="utf-8")) == [
        {"question_id": "TR_0", "question_type": "topic_reasoning", "option": "F"},
        {"question_id": "AR_1", "question_type": "anomaly_reco", "option": ""},
        {"question_id": "NQA_2", "question_type": "needleQA", "option": ""},
    ]


def official_vnbench(rows):
    """VideoNIAH's evaluation/eval.py, told again: share of samples with four right tries."""
    right = {}
    for row in rows:
        if row["pred"] is None:
            continue
        said = row["pred"].split(".")[0]
        letter = next((letter for letter in "ABCD" if letter in said), said)
        key = (row["type"], row["question_id"][:-2])
        right[key] = right.get(key, 0) + (letter == row["gt"])
    return sum(number == 4 for number in right.values()) / len(right)


def test_vnbenchs_own_script_counts_what_was_not_answered_as_wrong(tmp_path):
    questions = [
        question(f"clip{at}_cnt_edit1_{i}", "cnt_edit1", video=f"v/clip{at}_cnt_edit1.mp4",
                 gold="ABCD"[i])
        for at in range(3) for i in range(4)
    ]  # fmt: skip
    replies = {one.question_id: one.gold for one in questions}
    replies |= dict.fromkeys([f"clip1_cnt_edit1_{i}" for i in range(4)])  # its video is missing
    run = write_run(tmp_path / "run", questions, said(replies), benchmark="vnbench")
    rows = lines_of(submission(run, "vnbench", tmp_path))
    assert rows[1] == {
        "question_id": "clip0_cnt_edit1_1",
        "pred": "B",
        "gt": "B",
        "type": "cnt_edit1",
        "try": 1,
    }
    assert official_vnbench(rows) == 2 / 3


def test_longvideobenchs_server_gets_letters_by_id(tmp_path):
    questions = [question(f"aa_{at}", "TOS", video="videos/aa.mp4", gold="") for at in range(3)]
    replies = {"aa_0": "B. option B", "aa_1": "(D)", "aa_2": None}
    name = "longvideobench_test"
    run = write_run(tmp_path / "run", questions, said(replies), benchmark=name)
    path = submission(run, name, tmp_path)
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content == {"aa_0": "B", "aa_1": "D", "aa_2": ""}


@pytest.mark.usefixtures("invented")
def test_answers_that_are_missing_or_cannot_be_read_are_counted(tmp_path, capsys):
    questions = shape_questions(2)
    said = dict(zip((one.question_id for one in questions), ["A", None, "?", *"ABC"], strict=True))
    run = write_run(tmp_path / "run", questions, lambda one: said[one.question_id])
    app(["export", str(run), "--out", str(tmp_path)], standalone_mode=False)
    assert "of 6 questions 1 have no answer, and the replies to 1 cannot" in capsys.readouterr().err
    run = write_run(tmp_path / "whole", questions, lambda one: one.gold)
    app(["export", str(run), "--out", str(tmp_path)], standalone_mode=False)
    assert capsys.readouterr().err == ""


def test_what_cannot_be_written_is_said(run, tmp_path):
    with pytest.raises(UserError, match="shapes has no form of submission"):
        export_run(run, tmp_path, form="submission")
    with pytest.raises(UserError, match=r"--form csv: no such layout\. Known: lmms-eval"):
        export_run(run, tmp_path, form="csv")
    with pytest.raises(UserError, match=r"no answers to 'mlvu'\. It has: shapes"):
        export_run(run, tmp_path, benchmark="mlvu")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        export_run(run, tmp_path / "file")
