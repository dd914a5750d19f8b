"""LVBench: both layouts, and questions of several kinds."""

import pytest

from support.benchmark_contract import SHOWN
from support.benchmark_files import SHAPES, write_json, write_jsonl, write_lvbench
from vxp_model.errors import UserError
from vxp_model.eval.benchmarks.base import Scored
from vxp_model.eval.benchmarks.lvbench import LvBench


def row(number, kind="cartoon"):
    """Return a row as Video-XL-2 has them: options carry letters, the answer is its text."""
    options = [f"({letter}) {shape}" for letter, shape in zip("ABCD", SHAPES, strict=True)]
    return {
        "video": "AbC",
        "type": kind,
        "question": "What is shown last?",
        "candidates": options,
        "answer": options[number],
        "question_type": ["reasoning"],
        "time_reference": "00:15-00:19",
    }


def test_lines_of_videos_become_questions(tmp_path):
    write_lvbench(tmp_path)
    first, second, third, _ = LvBench().questions(tmp_path)
    assert (first.question_id, first.video, first.gold) == ("00", "videos/AbC.mp4", "A")
    assert (first.text, first.options) == ("What is shown last?", SHAPES)
    assert first.groups == {"type": "cartoon"}
    assert second.details["kinds"] == ["reasoning", "entity recognition"]
    assert second.details["moments_s"] == [[15.0, 3619.0]]
    assert third.groups == {"type": "sport"}


def test_rows_of_the_logs_become_the_same_questions_numbered_by_type(tmp_path):
    write_json(tmp_path / "lvbench_cartoon.json", [row(0), row(3)])
    write_json(tmp_path / "lvbench_sport.json", [row(2, "sport")])
    questions = list(LvBench().questions(tmp_path))
    assert [one.question_id for one in questions] == ["cartoon-0", "cartoon-1", "sport-0"]
    assert [one.gold for one in questions] == ["A", "D", "C"]
    assert questions[0].options == SHAPES
    assert questions[0].video == "videos/AbC.mp4"


def test_a_question_counts_in_each_of_its_kinds(tmp_path):
    write_lvbench(tmp_path)
    scored = [
        Scored(question=one, parsed="B", score=float(one.gold == "B"))
        for one in LvBench().questions(tmp_path)
    ]
    figures = {figure.name: figure for figure in LvBench().summarise(scored)}
    assert figures["accuracy"].value == 0.5
    assert figures["accuracy, kind reasoning"].num_questions == 4
    assert figures["accuracy, kind entity recognition"].num_questions == 2
    assert figures["accuracy, kind entity recognition"].value == 1.0
    assert figures["accuracy, type cartoon"].value == 0.5


def test_the_prompts(tmp_path):
    write_json(tmp_path / "lvbench_cartoon.json", [row(0)])
    (one,) = LvBench().questions(tmp_path)
    asked = "What is shown last?\n(A) a circle\n(B) a square\n(C) a star\n(D) a cross\n"
    end = "Answer with the option's letter from the given choices directly."
    assert LvBench().prompt(one, SHOWN[0], "official").text == asked + end
    assert LvBench().prompt(one, SHOWN[0], "lmms-eval").text == (
        f"{asked}Answer the question with the option letter"
    )
    assert "\nA. (A) a circle\n" in LvBench().prompt(one, SHOWN[0], "video-xl").text


def test_an_option_of_two_lines_stays_one(tmp_path):
    qa = {"uid": 7, "question_type": ["reasoning"], "answer": "B"}
    text = "Which?\n\n(A) one\n(B) two\nand more\n(C) three"
    write_jsonl(
        tmp_path / "video_info.meta.jsonl",
        [{"key": "x", "type": "tv", "qa": [{**qa, "question": text}]}],
    )
    (one,) = LvBench().questions(tmp_path)
    assert (one.question_id, one.text) == ("7", "Which?")
    assert one.options == ("one", "two\nand more", "three")


@pytest.mark.parametrize(
    ("question", "answer", "message"),
    [
        ("Which?", "A", "wanted options below it"),
        ("Which?\n(A) x\n(B) y", "C", "'answer' is 'C', wanted one of A, B"),
    ],
)
def test_a_wrong_row_is_told(tmp_path, question, answer, message):
    qa = {"uid": 7, "question_type": ["reasoning"], "question": question, "answer": answer}
    rows = [{"key": "x", "type": "tv", "qa": [qa]}]
    write_jsonl(tmp_path / "video_info.meta.jsonl", rows)
    with pytest.raises(UserError, match=message):
        list(LvBench().questions(tmp_path))
