"""From answers to scores: what counts, what is left out, what is listed, and how it reads."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import ClassVar

import pytest

from support.eval_runs import Shapes, Spans, answer, shape_questions
from vxp_model.errors import UserError
from vxp_model.eval.benchmarks.base import Figure, Question, by_group, units_of
from vxp_model.eval.score_tables import describe, split_figures
from vxp_model.eval.scores import score_answers
from vxp_model.eval.statistics import wilson

QUESTIONS = shape_questions()  # 12: golds ABC BCD CDA DAB; tasks counting, order, counting


def replies(*texts, **more):
    pairs = zip(QUESTIONS, texts, strict=True)
    return {one.question_id: answer(one, text, **more) for one, text in pairs}


def figures(scores):
    return {one.name: one for one in scores.figures}


def test_every_figure_is_over_what_was_asked_and_over_all():
    #                 A    B    C    B    C     D     C    D    A    D    A      B
    rows = replies("A", "B", "x", "B", "A", None, "C", "A", "A", "D", None, "zzz?")
    scores = score_answers(Shapes(), QUESTIONS, rows)
    accuracy = figures(scores)["accuracy"]
    assert (accuracy.asked.value, accuracy.asked.figure.num_questions) == (6 / 10, 10)
    assert (accuracy.all.value, accuracy.all.figure.num_questions) == (6 / 12, 12)
    assert accuracy.asked.interval[:2] == wilson(6, 10)
    assert figures(scores)["M-Avg"].asked.value == pytest.approx((5 / 7 + 1 / 3) / 2)
    assert figures(scores)["M-Avg"].all.value == pytest.approx((5 / 8 + 1 / 4) / 2)
    assert scores.missing == {"missing": ("1-2", "3-1")}
    assert scores.unparsed == (("0-2", "x"), ("3-2", "zzz?"))
    assert (scores.num_questions, scores.num_answered, scores.num_videos) == (12, 10, 4)


def test_a_question_that_the_run_has_not_come_to_is_missing_too():
    rows = replies(*"ABCBCDCDADAB")
    del rows["0-0"]
    scores = score_answers(Shapes(), QUESTIONS, rows)
    assert scores.missing == {"unanswered": ("0-0",)}
    assert figures(scores)["accuracy"].asked.value == 1
    assert figures(scores)["accuracy"].all.value == 11 / 12


def test_replies_that_were_cut_off_are_listed_and_scored():
    scores = score_answers(Shapes(), QUESTIONS, replies(*"ABCBCDCDADAB", finish="length"))
    assert len(scores.cut) == 12
    assert figures(scores)["accuracy"].asked.value == 1


def test_another_convention_reads_and_counts_its_own_way():
    rows = replies("A", "(B)", "C", "B", "C", "D", "C", "D", "A", "D", "A", "A")
    own = score_answers(Shapes(), QUESTIONS, rows)
    theirs = score_answers(Shapes(), QUESTIONS, rows, compat="official")
    assert figures(own)["accuracy"].asked.value == 11 / 12
    assert figures(theirs)["accuracy"].asked.value == 10 / 11  # what it cannot read is left out
    assert (own.convention, theirs.convention) == ("ours", "official")
    assert theirs.unparsed == (("0-1", "(B)"),)


def test_an_unknown_convention_is_refused_with_those_there_are():
    with pytest.raises(UserError, match=r"--compat lmms: shapes has .* Known: ours, official\."):
        score_answers(Shapes(), QUESTIONS, {}, compat="lmms")
    assert score_answers(Shapes(), QUESTIONS, {}, compat="ours").convention == "ours"


FREE = Question(question_id="free", video="v.mp4", text="Describe it.", gold="good")


@pytest.mark.parametrize("judgments", [None, {}])
def test_without_a_judge_what_needs_one_is_in_no_figure(judgments):
    other = Question(question_id="free-2", video="w.mp4", text="And it?", gold="good")
    rows = replies(*"ABCBCDCDADAB")
    rows |= {"free": answer(FREE, "a cat"), "free-2": answer(other, None)}
    scores = score_answers(Shapes(), [*QUESTIONS, FREE, other], rows, judgments=judgments)
    assert scores.unjudged == ("free",)
    assert figures(scores)["accuracy"].all.figure.num_questions == 12
    assert scores.missing == {"missing": ("free-2",)}


@pytest.mark.parametrize(("judgment", "right"), [("good", 13), ("bad", 12), ("hm", 12)])
def test_a_judgment_counts_in_the_benchmarks_words(judgment, right):
    rows = replies(*"ABCBCDCDADAB") | {"free": answer(FREE, "a cat")}
    scores = score_answers(Shapes(), [*QUESTIONS, FREE], rows, judgments={"free": judgment})
    assert figures(scores)["accuracy"].asked.value == right / 13
    assert scores.unparsed == ((("free", "a cat"),) if judgment == "hm" else ())


def test_answers_that_the_makers_keep_are_in_no_figure():
    kept = [Question.from_dict(one.to_dict() | {"gold": ""}) for one in QUESTIONS]
    scores = score_answers(Shapes(), kept, replies(*"ABCBCDCDADA", "?"))
    assert scores.num_withheld == 12
    assert math.isnan(figures(scores)["accuracy"].asked.value)
    assert scores.unparsed == (("3-2", "?"),)
    assert json.dumps(scores.to_dict(), allow_nan=False)
    assert "right answers kept by the makers, in no figure: 12" in describe(scores)


def test_the_same_answers_are_the_same_record():
    rows = replies("A", None, "\ud800?", *"BCDCDADAB")
    first = score_answers(Shapes(), QUESTIONS, rows).to_dict()
    second = score_answers(Shapes(), QUESTIONS, dict(reversed(rows.items()))).to_dict()
    assert json.dumps(first, allow_nan=False) == json.dumps(second, allow_nan=False)
    assert first["counts"] == {
        "questions": 12,
        "videos": 4,
        "answered": 11,
        "missing": {"missing": 1},
        "unparsed": 1,
        "cut": 0,
        "unjudged": 0,
        "gold_withheld": 0,
    }
    (accuracy,) = (one for one in first["figures"] if one["name"] == "accuracy")
    assert (accuracy["value"], accuracy["questions"]) == (10 / 11, 11)
    assert accuracy["over_all"]["value"] == 10 / 12
    assert accuracy["interval"] == "wilson"


def test_figures_of_the_parts_of_a_split_are_a_table_with_both_averages():
    scores = score_answers(Shapes(), QUESTIONS, replies(*"ABCBCDCDAAAA"))
    alone, tables = split_figures(scores)
    assert [one.name for one in alone] == ["M-Avg", "accuracy"]
    assert [(one.figure, one.split) for one in tables] == [
        ("accuracy", "task"),
        ("accuracy", "length"),
    ]
    by_task = tables[0]
    assert [(part, one.asked.figure.num_questions) for part, one in by_task.rows] == [
        ("counting", 8),
        ("order", 4),
    ]
    assert by_task.mean == pytest.approx((6 / 8 + 4 / 4) / 2)
    assert by_task.whole is not None
    assert by_task.whole.asked.value == 10 / 12


class Chains(Shapes):
    """Known by a figure of one part, with figures of that part by another split."""

    expected: ClassVar[Mapping[str, int]] = {"questions": 9000}

    def summarise(self, scored):
        figures = []
        for task, own in by_group(scored, "task").items():
            figures.append(Figure.of(f"IoU, task {task}", units_of(own)))
            for length, some in by_group(own, "length").items():
                figures.append(Figure.of(f"IoU, task {task}, length {length}", units_of(some)))
        return figures


def test_the_figure_that_a_benchmark_is_known_by_stands_first_though_it_is_of_a_part():
    scores = score_answers(Chains(), QUESTIONS, replies(*"ABCBCDCDAAAA"))
    alone, tables = split_figures(scores)
    assert [one.name for one in alone] == ["IoU, task counting", "IoU, task order"]
    assert [(one.figure, one.split) for one in tables] == [
        ("IoU, task counting", "length"),
        ("IoU, task order", "length"),
    ]
    assert tables[0].whole == alone[0]


def test_a_part_of_a_benchmark_is_not_taken_for_it():
    text = describe(score_answers(Chains(), QUESTIONS, replies(*"ABCBCDCDAAAA")))
    assert "not the whole benchmark of 9,000 questions" in text
    assert max(map(len, text.splitlines())) <= 100


def test_a_part_without_an_answer_is_not_in_the_mean_of_the_parts():
    missing = {at for at, one in enumerate(QUESTIONS) if one.groups["task"] == "order"}
    scores = score_answers(
        Shapes(), QUESTIONS, replies(*(None if at in missing else "A" for at in range(12)))
    )
    assert split_figures(scores)[1][0].num_parts == 1
    assert "mean of the 1" in describe(scores)


def test_what_is_printed():
    rows = replies("A", "B", "x" * 200, "B", "A", None, "C", "A", "A", "D", "A", "ba\nd?")
    lines = describe(score_answers(Shapes(), QUESTIONS, rows)).splitlines()
    assert max(map(len, lines)) <= 100
    text = "\n".join(lines)
    assert lines[:3] == [
        "shapes, counted by convention 'ours'",
        "12 questions about 4 videos; 11 answered, 1 without an answer (missing 1)",
        "cannot be read, counted as wrong: 1",
    ]
    assert lines[4:7] == [
        "figure    questions    value  95 % interval  over all",
        "M-Avg            11  67.86 %   50.0 to 87.5   62.50 %",
        "accuracy         11  72.73 %   43.4 to 90.3   66.67 %",
    ]
    assert "mean of the 2                67.86 %" in text
    assert "over questions           11  72.73 %" in text
    assert "  0-2: 'xxx" in text


def test_a_score_between_right_and_wrong_has_a_bootstrap():
    questions = [
        Question(question_id=str(at), video=f"{at}.mp4", text="When?", gold="0-10")
        for at in range(6)
    ]
    rows = {one.question_id: answer(one, "0-5") for one in questions[:5]}
    rows["5"] = answer(questions[5], "0-10")
    scores = score_answers(Spans(), questions, rows)
    assert scores.figures[0].asked.value == 3.5 / 6
    assert scores.figures[0].asked.interval.how == "bootstrap over videos"
    assert "58.33 %" in describe(scores)


def test_a_run_without_questions_is_described():
    assert "0 questions about 0 videos" in describe(score_answers(Shapes(), [], {}))
