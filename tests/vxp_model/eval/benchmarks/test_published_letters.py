"""How other publishers read letters: their known oddities, kept."""

import pytest

from vxp_model.eval.benchmarks.base import Question, Scored
from vxp_model.eval.benchmarks.published import (
    before_bracket,
    holds_letter,
    longvideobench_letter,
    lvbench_letter,
    mlvu_test_letter,
    ranked_letter,
    video_mme_letter,
    vlmevalkit_letter,
    vnbench_letter,
)
from vxp_model.eval.benchmarks.video_mme import VideoMme


def question(number=0, gold="A", options=()):
    return Question(
        question_id=f"00{number}-1", video="v.mp4", text="What?", gold=gold, options=options
    )


@pytest.mark.parametrize(
    ("read", "reply", "letter"),
    [
        (video_mme_letter, "A man walks", "A"),
        (video_mme_letter, "The best answer is B. A dog", "B"),
        (video_mme_letter, "Best option: C", "B"),  # the missing comma
        (video_mme_letter, "d", None),
        (vlmevalkit_letter, "Answer: C", "C"),
        (mlvu_test_letter, "B) a dog", "B"),
        (mlvu_test_letter, "(B) a dog", "(B"),
        (mlvu_test_letter, "The answer is B", "The answer is B"),
        (mlvu_test_letter, " ", None),
        (before_bracket, "(B) a dog", "B"),
        (before_bracket, "The answer is B)", "B"),
        (before_bracket, "The answer is B", "The answer is B"),
        (before_bracket, ") a dog", None),
        (before_bracket, "B", "B"),
        (before_bracket, "", None),
        (vnbench_letter, "D. A dog", "D"),
        (vnbench_letter, "C or B", "B"),
        (vnbench_letter, "d", "d"),
        (vnbench_letter, "", None),
        (lvbench_letter, "(D) 1931", "D"),
        (lvbench_letter, "The answer is (D) 1931", "D"),
        (lvbench_letter, "1931", "1"),
        (longvideobench_letter, "The best option is E", "E"),
    ],
)
def test_a_publisher_reads(read, reply, letter):
    assert read(question(), reply) == letter


@pytest.mark.parametrize(
    ("reply", "letter"),
    [
        ("The answer is B. A dog runs", "A"),
        ("The answer is (D), not A", "A"),
        ("Cannot determine", "C"),
        ("d", None),
        ("(c) cat", None),
        ("B. red", "B"),
        ("", None),
        ("I choose B", "B"),
        ("Based on it, B: red", "B"),
        ("It is C)", "C"),
        ("(B) and (C), so (B) it is", "B"),
        ("...", None),
    ],
)
def test_lmms_eval_ranks_forms_and_takes_the_last(reply, letter):
    assert ranked_letter(reply) == letter


def test_longvideobench_draws_the_same_letter_for_a_question_and_others_for_others():
    drawn = [longvideobench_letter(question(number), "?") for number in range(200)]
    assert drawn == [longvideobench_letter(question(number), "!") for number in range(200)]
    assert {letter: drawn.count(letter) > 20 for letter in "ABCDE"} == dict.fromkeys("ABCDE", True)
    three = [longvideobench_letter(question(n, options=("x", "y", "z")), "?") for n in range(99)]
    assert set(three) == set("ABC")


def test_a_needle_is_found_before_the_first_bracket():
    assert holds_letter("B) tiger", "B")
    assert holds_letter("C)Panda", "C")
    assert not holds_letter("A) B", "B")
    assert holds_letter("tiger B", "B")


def test_video_mmes_own_accuracy_leaves_out_what_it_cannot_read():
    convention = VideoMme.conventions["official"]
    asked = [question(number, gold="B") for number in range(4)]
    replies = ["B", "b", "C", "none of these"]
    scored = [
        Scored(question=one, parsed=parsed, score=convention.score(one, parsed))
        for one, parsed in zip(asked, map(convention.parse, asked, replies), strict=True)
    ]
    (figure,) = convention.summarise(scored)
    assert (figure.value, figure.num_questions) == (0.5, 2)
    ours = [
        Scored(question=one, parsed=parsed, score=VideoMme().score(one, parsed))
        for one, parsed in zip(asked, map(VideoMme().parse, asked, replies), strict=True)
    ]
    assert VideoMme().summarise(ours)[0].value == 0.5  # 'b' is right, and nothing is left out
    assert VideoMme().summarise(ours)[0].num_questions == 4
