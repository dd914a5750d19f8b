"""VNBench: a sample is right when its four tries are; single tries beside it."""

import pytest

from support.benchmark_contract import SHOWN
from support.benchmark_files import vnbench_rows, write_json
from vxp_model.errors import UserError
from vxp_model.eval.benchmarks.base import Scored
from vxp_model.eval.benchmarks.vnbench import VnBench, incomplete_samples


def questions_of(root, *samples):
    """Write samples (video, type, gold) and return their questions, four each."""
    rows = [row for v, k, g in samples for row in vnbench_rows(video=v, kind=k, gold=g)]
    write_json(root / "VNBench-main-4try.json", rows)
    return list(VnBench().questions(root))


def answered(questions, wrong=(), absent=()):
    """Score the gold letters, but for the places that are wrong or without a reply."""
    return [
        Scored(
            question=one,
            parsed=None if i in {*wrong, *absent} else one.gold,
            score=float(i not in {*wrong, *absent}),
            is_answered=i not in absent,
        )
        for i, one in enumerate(questions)
    ]


def values(figures):
    return {figure.name: figure.value for figure in figures}


def test_rows_become_questions_whatever_the_answers_type(tmp_path):
    number, *_ = questions_of(tmp_path, ("a", "cnt_edit1", "4"))
    assert (number.question_id, number.video) == ("a_cnt_edit1_0", "clips/a_cnt_edit1.mp4")
    assert (number.gold, number.options) == ("C", ("3", "5", "4", "2"))
    assert number.groups == {"task": "cnt_edit1"}
    text, *_ = questions_of(tmp_path, ("a", "ret_edit1", "4"))
    assert text.gold == "C"


def test_a_sample_is_right_only_with_all_four(tmp_path):
    samples = [("a", "cnt_edit1", "4"), ("b", "cnt_edit1", "2"), ("c", "ret_edit1", "5")]
    questions = questions_of(tmp_path, *samples)
    found = values(VnBench().summarise(answered(questions, wrong=[1])))
    assert found["cnt_edit1, all four"] == 0.5
    assert found["overall"] == found["Cnt"] / 2 + found["Ret"] / 2 == 0.75  # of tasks, not samples
    assert found["single try"] == 11 / 12
    assert found["cnt_edit1, single try"] == 7 / 8
    first = VnBench().summarise(answered(questions))[0]
    assert (first.name, first.value, first.num_questions) == ("overall", 1.0, 12)


def test_samples_of_one_video_are_told_apart_by_type_and_name(tmp_path):
    questions = questions_of(tmp_path, ("a", "ret_insert1", "4"), ("a", "ret_insert2", "4"))
    found = values(VnBench().summarise(answered(questions, wrong=[0])))
    assert (found["ret_insert1, all four"], found["ret_insert2, all four"]) == (0.0, 1.0)


def test_a_sample_that_lacks_a_try_is_wrong_and_listed(tmp_path):
    questions = questions_of(tmp_path, ("a", "cnt_edit1", "4"), ("b", "cnt_edit1", "2"))
    scored = answered(questions)[:7]
    assert values(VnBench().summarise(scored))["overall"] == 0.5
    assert incomplete_samples(scored) == [("cnt_edit1", "b_cnt_edit1.mp4")]
    assert "samples that lack a try (wrong)" in values(VnBench().summarise(scored))


def test_for_the_makers_script_a_sample_without_replies_is_not_there(tmp_path):
    questions = questions_of(tmp_path, ("a", "cnt_edit1", "4"), ("b", "cnt_edit1", "2"))
    official = VnBench.conventions["official"]
    gone = answered(questions, absent=[4, 5, 6, 7])
    assert values(VnBench().summarise(gone))["overall"] == 0.5
    assert values(official.summarise(gone))["overall"] == 1.0
    part = answered(questions, absent=[4])
    assert values(official.summarise(part))["overall"] == 0.5


def test_the_prompts(tmp_path):
    first = questions_of(tmp_path, ("a", "cnt_edit1", "4"))[0]
    assert VnBench().prompt(first, SHOWN[0], "official").text == (
        "How many words appeared in the video?\nA. 3\nB. 5\nC. 4\nD. 2\n"
        "Answer with the option's letter from the given choices directly."
    )
    theirs = VnBench().prompt(first, SHOWN[0], "video-xl")
    assert theirs.text.endswith("Options:\n(A) 3\n(B) 5\n(C) 4\n(D) 2")
    assert theirs.system.startswith("Carefully watch this video")


def test_a_letter_that_is_not_the_answers_is_told(tmp_path):
    rows = vnbench_rows(video="a", kind="cnt_edit1", gold="4")
    rows[2]["gt_option"] = "A"
    write_json(tmp_path / "VNBench-main-4try.json", rows)
    with pytest.raises(UserError, match=r"row 2: 'gt_option' is 'A', wanted the letter of gt, '4'"):
        list(VnBench().questions(tmp_path))
    rows[3]["type"] = "cnt_edit9"
    write_json(tmp_path / "VNBench-main-4try.json", rows[3:])
    with pytest.raises(UserError, match="'type' is 'cnt_edit9'"):
        list(VnBench().questions(tmp_path))
