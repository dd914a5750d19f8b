"""What scorers read: options, other orders, agreement of free replies, ratings, prompt files."""

from __future__ import annotations

from collections import Counter

import pytest
from agreement import agreement
from asks import PROMPTS, Prompts
from questions import letter_order, listed, questions_of, split_options
from ratings import read_rating

from vxp_data.conversation import Role, Turn
from vxp_model.errors import UserError


def turns(*texts: str) -> tuple[Turn, ...]:
    roles = (Role.USER, Role.ASSISTANT)
    return tuple(Turn.of_text(roles[n % 2], text) for n, text in enumerate(texts))


@pytest.mark.parametrize(
    ("asked", "head", "options"),
    [
        ("Which?\nA. A cat\nB. A dog\nAnswer with the option's letter.", "Which?",
         ("A cat", "A dog")),
        ("Which?\n(A) one\n(B) two\n(C) three", "Which?", ("one", "two", "three")),
        ("Which?\nOptions:\nA) one\nB) two", "Which?", ("one", "two")),
        ("Which? (A) a red car (B) a blue car", "Which?", ("a red car", "a blue car")),
        ("Which? A. left B. right\nPlease give the letter.", "Which?", ("left", "right")),
        ("Plan A. is old. What else?", "Plan A. is old. What else?", ()),
        ("Pick.\nA. x\nC. y", "Pick.\nA. x\nC. y", ()),
        ("A. x\nB. y\nWhich of them is seen?", "Which of them is seen?", ("x", "y")),
    ],
)  # fmt: skip
def test_options_are_told_from_the_question(asked: str, head: str, options: tuple[str, ...]):
    assert split_options(asked) == (head, options)


@pytest.mark.parametrize("answer", ["B", "(B)", "B. A dog", "A dog", "The answer is B."])
def test_the_right_option_is_told_however_the_answer_names_it(answer: str):
    (question,) = questions_of(turns("Which?\nA. A cat\nB. A dog", answer))
    assert (question.kind, question.options[question.gold]) == ("choice", "A dog")


def test_a_question_whose_answer_is_none_of_its_options_is_open():
    (question,) = questions_of(turns("Which?\nA. A cat\nB. A dog", "A horse runs by."))
    assert question.kind == "open"
    assert "A. A cat" in question.text


def test_earlier_turns_are_kept_with_a_question_and_turns_without_words_are_none():
    found = questions_of(turns("Who?", "Ann.", "What then?", "She left.", "", "A caption."))
    assert [(one.text, one.answer) for one in found] == [
        ("Who?", "Ann."),
        ("What then?", "She left."),
    ]
    assert found[1].before == (("user", "Who?"), ("assistant", "Ann."))


@pytest.mark.parametrize(
    ("option", "can_turn"),
    [("A cat", True), ("All of the above", False), ("Both A and B", False), ("Neither", True),
     ("None of these", False), ("A dog and a cat", True)],
)  # fmt: skip
def test_options_that_speak_of_others_stay_where_they_are(option: str, can_turn: bool):
    (question,) = questions_of(turns(f"Which?\nA. x\nB. y\nC. {option}", "A"))
    assert question.can_turn is can_turn


@pytest.mark.parametrize("num", [2, 3, 4, 5])
def test_every_option_stands_once_at_every_letter(num: int):
    orders = [letter_order(num, turn, "a seed") for turn in range(num)]
    for letter in range(num):
        assert sorted(order[letter] for order in orders) == list(range(num))
    assert letter_order(num, 0, "a seed") == orders[0]
    firsts = Counter(letter_order(num, 0, f"seed {n}")[0] for n in range(400))
    assert min(firsts.values()) > 400 / num / 2
    assert listed(["x", "y"]) == "A. x\nB. y"


@pytest.mark.parametrize(
    ("reply", "answer", "wanted"),
    [
        ("Yes.", "Yes, he does.", 1.0),
        ("No, there is none", "Yes", 0.0),
        ("There is no way, yes", "yes", 0.0),
        ("It is a red car.", "The red car", 1.0),
        ("two", "2", 1.0),
        ("12", "2", 0.0),
        ("a car that is red", "red car", 2 * 2 / (4 + 2)),
        ("He walks to the door", "He walks to a window and opens it", 2 * 3 / (4 + 7)),
        ("<think>red car</think> a dog", "red car", 0.0),
        ("", "red", 0.0),
        ("red", "...", 0.0),
    ],
)
def test_agreement(reply: str, answer: str, wanted: float):
    assert agreement(reply, answer) == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("reply", "rating"),
    [
        ("Rating: 7", 7.0),
        ("It is good.\n**Rating:** 8/10", 8.0),
        ("Rating: 3 at first sight.\nRating: 6.5", 6.5),
        ('{"rating": 4, "why": "vague"}', 4.0),
        ("I would give it 9 out of 10.", 9.0),
        ("The score is 5.", 5.0),
        ("7", 7.0),
        (" **10** ", 10.0),
        ("Rating: 0", 0.0),
        ("<think>Rating: 9</think>Rating: 2", 2.0),
        ("Rating: 11", None),
        ("Rating: -1", None),
        ("Rating: 4/5", None),
        ("Rating: 85/100", None),
        ("I cannot rate this.", None),
        ("There are 3 people and 2 dogs.", None),
        ("", None),
        ("Rating: N", None),
    ],
)
def test_ratings(reply: str, rating: float | None):
    assert read_rating(reply) == rating


def test_prompts_are_filled_once_and_braces_in_rows_are_left_alone(tmp_path):
    path = tmp_path / "p.txt"
    path.write_text("[system]\nBe brief.\n[open]\nQ: {question} {other}\n")
    prompts = Prompts(path, ["system", "open"])
    assert prompts.fill("open", question="what is {question}?") == "Q: what is {question}? {other}"
    with pytest.raises(UserError, match=r"has no section \[choice\]"):
        Prompts(path, ["choice"])
    with pytest.raises(UserError, match="cannot be read"):
        Prompts(tmp_path / "none.txt", [])


@pytest.mark.parametrize(
    ("name", "sections"),
    [("blind", ["system", "choice", "open"]), ("caption_text", ["system", "rating"]),
     ("caption_frames", ["system", "rating"])],
)  # fmt: skip
def test_our_own_prompt_files_have_what_they_are_asked_for(name: str, sections: list[str]):
    prompts = Prompts(PROMPTS / f"{name}.txt", sections)
    words = dict.fromkeys(["question", "options", "caption"], "XX")
    assert "{" not in "".join(prompts.fill(section, **words) for section in sections)
