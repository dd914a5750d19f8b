"""MLVU: both layouts, the two averages, answers that are no option, options that are alike."""

import pytest

from support.benchmark_contract import SHOWN
from support.benchmark_files import (
    SHAPES,
    mlvu_row,
    write_json,
    write_mlvu,
    write_mlvu_test,
    write_parquet,
)
from vxp_model.errors import UserError
from vxp_model.eval.benchmarks.base import Question, Scored
from vxp_model.eval.benchmarks.mlvu import SYSTEM, Mlvu, MlvuTest


def one_file(root, *rows):
    """Write a development set whose first file has these rows."""
    write_mlvu(root)
    write_json(root / "MLVU/json/1_plotQA.json", list(rows))
    return [one for one in Mlvu().questions(root) if one.groups["task"] == "PQA"]


def test_questions_of_all_seven_files(tmp_path):
    write_mlvu(tmp_path)
    first, *others = Mlvu().questions(tmp_path)
    assert first == Question(
        question_id="1_plotQA-0",
        video="MLVU/video/1_plotQA/film_1.mp4",
        text="What is shown?",
        options=SHAPES,
        gold="B",
        groups={"task": "PQA"},
    )
    tasks = [one.groups["task"] for one in others]
    assert tasks == ["NQA", "NQA", "ER", "AC", "AO", "AR", "TR"]
    assert others[1].question_id == "2_needle-1"


def test_the_folder_may_be_the_one_inside(tmp_path):
    write_mlvu(tmp_path)
    first = next(Mlvu().questions(tmp_path / "MLVU"))
    assert first.video == "video/1_plotQA/film_1.mp4"


def test_an_answer_that_is_no_option_stays_and_is_never_right(tmp_path):
    write_mlvu(tmp_path)
    odd = next(one for one in Mlvu().questions(tmp_path) if one.question_id == "2_needle-1")
    assert odd.gold == "a house far away"
    for reply in ("A", "B)", "a house far away", "The answer is a house far away"):
        for convention in (Mlvu(), *Mlvu.conventions.values()):
            assert convention.score(odd, convention.parse(odd, reply)) == 0


def test_options_with_the_same_text_are_both_right_for_us_and_the_last_for_the_makers(tmp_path):
    row = mlvu_row("a.mp4", "3", "plotQA", candidates=["3", "1", "3", "2"])
    (one,) = one_file(tmp_path, row)
    official = Mlvu.conventions["official"]
    assert one.gold == "C"
    assert [Mlvu().score(one, letter) for letter in "ABCD"] == [1, 0, 1, 0]
    assert [official.score(one, letter) for letter in "ABCD"] == [0, 0, 1, 0]
    assert Mlvu().score(one, Mlvu().parse(one, "3")) == 1


def test_answers_and_options_may_be_numbers(tmp_path):
    row = mlvu_row("a.mp4", 3, "plotQA", candidates=[1, 2, 3, 4])
    (one,) = one_file(tmp_path, row)
    assert (one.options, one.gold) == (("1", "2", "3", "4"), "C")


def test_the_parquet_of_lmms_eval_gives_the_same_questions(tmp_path):
    options = "\n".join(f"({letter}) {shape}" for letter, shape in zip("ABCD", SHAPES, strict=True))
    rows = [
        {
            "video_name": "film_1.mp4",
            "duration": "246",
            "question": f"What is shown?\n{options}",
            "answer": letter,
            "task_type": kind,
        }
        for letter, kind in (("B", "plotQA"), ("C", "needle"))
    ]
    write_parquet(tmp_path / "data/test-00000.parquet", rows)
    first, second = Mlvu().questions(tmp_path)
    assert (first.text, first.options, first.gold) == ("What is shown?", SHAPES, "B")
    assert first.video == "MLVU/video/1_plotQA/film_1.mp4"
    assert second.groups == {"task": "NQA"}


def test_the_averages_over_tasks_and_over_questions_differ(tmp_path):
    write_mlvu(tmp_path)
    questions = list(Mlvu().questions(tmp_path))
    scored = [
        Scored(question=one, parsed="A", score=float(one.groups["task"] == "NQA"))
        for one in questions
    ]
    macro, micro, *tasks = Mlvu().summarise(scored)
    assert (macro.name, micro.name) == ("M-Avg", "accuracy")
    assert macro.value == pytest.approx(1 / 7)
    assert micro.value == 2 / 8
    assert len(tasks) == 7
    first = {name: c.summarise(scored)[0].name for name, c in Mlvu.conventions.items()}
    assert first == {"official": "M-Avg", "lmms-eval": "M-Avg", "vlmevalkit": "accuracy"}


def test_the_makers_prompt_begins_the_reply(tmp_path):
    write_mlvu(tmp_path)
    one = next(Mlvu().questions(tmp_path))
    prompt = Mlvu().prompt(one, SHOWN[0], "official")
    assert prompt.system == SYSTEM
    assert prompt.reply_start == "Best Option: ("
    assert prompt.text == (
        "Question: What is shown?\nOptions:\n(A) a circle\n(B) a square\n(C) a star\n(D) a cross\n"
        "Only give the best option."
    )
    theirs = Mlvu().prompt(one, SHOWN[0], "lmms-eval")
    assert theirs.text.endswith("(D) a cross\nOnly give the best option.\nBest option: (")
    assert (theirs.system, theirs.reply_start) == (None, "")


def test_the_test_set_has_six_options_and_ids_of_its_own(tmp_path):
    write_mlvu_test(tmp_path)
    questions = list(MlvuTest().questions(tmp_path))
    assert [one.question_id for one in questions] == ["TR_0", "NQA_0", "TQA_0", "SQA_0"]
    assert [one.gold for one in questions] == ["F", "C", "E", "A"]
    assert questions[0].video == "video/t_1.mp4"
    assert MlvuTest().prompt(questions[0], SHOWN[0], "official").choices == tuple("ABCDEF")
    assert MlvuTest().prompt(questions[0], SHOWN[0], "lmms-eval").text.endswith("(F) a dot")


def test_what_is_missing_or_unknown_is_told(tmp_path):
    with pytest.raises(UserError, match=r"no MLVU/json/\[1-7\]_\*\.json"):
        list(Mlvu().questions(tmp_path))
    row = mlvu_row("t.mp4", "a star", "swimming", question_id="X_1")
    write_json(tmp_path / "test-ground-truth/test_mcq_gt.json", [row])
    with pytest.raises(UserError, match="'question_type' is 'swimming', wanted one of plotQA"):
        list(MlvuTest().questions(tmp_path))


def test_the_published_counts_add_up():
    for benchmark in (Mlvu, MlvuTest):
        tasks = [n for name, n in benchmark.expected.items() if name.startswith("task=")]
        assert sum(tasks) == benchmark.expected["questions"]
