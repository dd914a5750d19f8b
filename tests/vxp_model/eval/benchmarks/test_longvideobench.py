"""LongVideoBench: both layouts, subtitles between frames, hidden answers."""

import math

import pytest

from support.benchmark_contract import SHOWN
from support.benchmark_files import (
    SHAPES,
    long_video_row,
    write_json,
    write_longvideobench,
    write_longvideobench_test,
    write_parquet,
)
from vxp_model.errors import UserError
from vxp_model.eval.benchmarks.base import Scored, Shown, Subtitles
from vxp_model.eval.benchmarks.longvideobench import (
    LongVideoBench,
    LongVideoBenchSubtitles,
    LongVideoBenchTest,
)
from vxp_model.eval.benchmarks.subtitles import read_subtitles


def test_rows_become_questions(tmp_path):
    write_longvideobench(tmp_path)
    first, second, *_ = LongVideoBenchSubtitles().questions(tmp_path)
    assert (first.question_id, first.video, first.gold) == ("aa_0", "videos/aa.mp4", "A")
    assert first.options == (*SHAPES, "a line")
    assert second.options == SHAPES
    assert first.groups == {"duration_group": "15", "level": "L2", "category": "TOS"}
    assert second.groups == {"duration_group": "600", "level": "L1", "category": "S2E"}
    assert second.subtitles == Subtitles(path="subtitles/bb_en.json", offset_s=30.0)
    assert first.details["position"] == [8, 16]
    assert {one.subtitles for one in LongVideoBench().questions(tmp_path)} == {None}


def test_the_parquet_form_gives_the_same_questions(tmp_path):
    rows = [long_video_row(number) for number in range(3)]
    write_json(tmp_path / "json/lvb_val.json", rows)
    for row in rows:
        options = row.pop("candidates")
        row |= {f"option{i}": (options + ["N/A"] * 5)[i] for i in range(5)}
        del row["position"]
    write_parquet(tmp_path / "parquet/validation-00000-of-00001.parquet", rows)
    ours, theirs = (
        [(q.question_id, q.options, q.gold, q.groups, q.video) for q in questions]
        for questions in (
            LongVideoBench().questions(tmp_path / "json"),
            LongVideoBench().questions(tmp_path / "parquet"),
        )
    )
    assert ours == theirs


def test_the_prompt_asks_for_a_letter_alone(tmp_path):
    write_longvideobench(tmp_path)
    _, second, *_ = LongVideoBench().questions(tmp_path)
    text = LongVideoBench().prompt(second, SHOWN[1], "official")
    assert text.text == (
        "Question: When the words 'here it is' appear, what is shown?\nA. a circle\nB. a square\n"
        "C. a star\nD. a cross\nAnswer with the option's letter from the given choices directly."
    )
    assert text.timed_texts == ()
    assert LongVideoBench().prompt(second, SHOWN[0], "lmms-eval").text.startswith("When the")


def test_subtitles_stand_between_the_frames(tmp_path):
    write_longvideobench(tmp_path)
    for question, expected in zip(
        LongVideoBenchSubtitles().questions(tmp_path),
        [((2.05, "Here it is."),), ((2.5, "It stays to the end."),)],
        strict=False,
    ):
        where = question.subtitles
        lines = read_subtitles(tmp_path / where.path, where.offset_s, 4.0)
        shown = Shown(time_s=(0, 1, 2, 3), duration_s=4, width_px=1, height_px=1, subtitles=lines)
        prompt = LongVideoBenchSubtitles().prompt(question, shown, "official")
        assert [text for _, text in prompt.timed_texts] == [text for _, text in expected]
        assert [t for t, _ in prompt.timed_texts] == pytest.approx([t for t, _ in expected])


def test_hidden_answers_are_empty_and_give_no_figure(tmp_path):
    write_longvideobench_test(tmp_path)
    questions = list(LongVideoBenchTest().questions(tmp_path))
    assert {one.gold for one in questions} == {""}
    scored = [Scored(question=one, parsed="A", score=0.0) for one in questions]
    (figure,) = LongVideoBenchTest().summarise(scored)
    assert math.isnan(figure.value)
    assert LongVideoBenchTest().score(questions[0], "") == 0


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ({"correct_choice": -1}, "'correct_choice' is -1, wanted a place among 5 options"),
        ({"correct_choice": 5}, "'correct_choice' is 5"),
        ({"candidates": None}, r"'option0' is \[\], wanted two options or more"),
        ({"duration_group": "long"}, "'duration_group' is 'long', wanted a number"),
    ],
)
def test_a_wrong_row_is_told(tmp_path, others, message):
    write_json(tmp_path / "lvb_val.json", [long_video_row(0, **others)])
    with pytest.raises(UserError, match=message):
        list(LongVideoBench().questions(tmp_path))


def test_the_published_counts_add_up():
    for split in ("duration_group", "level"):
        parts = [n for name, n in LongVideoBench.expected.items() if name.startswith(split)]
        assert sum(parts) == LongVideoBench.expected["questions"]
