"""Which questions need time: by documented words, without their options."""

import math

import pytest

from vxp_data.core.question_words import TIME_WORDS, needs_time, row_needs_time

ASKS_ABOUT_TIME = [
    "What does the man do after he opens the door?",
    "How many times does the dog jump?",
    "In which direction does the car move?",
    "Arrange the steps in the correct order.\nA. 1, 2\nB. 2, 1",
    "WHEN does the light go out?",
]
ASKS_ABOUT_A_FRAME = [
    "What colour is the car?",
    "How many people are there?",
    "Who is wearing a hat?\nA. the one who came first\nB. nobody",
    "Is the weekend shown? What is in the foreground?",  # 'end' is a part of a word here
    "Please describe this video in detail.",
]


@pytest.mark.parametrize("question", ASKS_ABOUT_TIME)
def test_questions_about_time_need_it(question):
    assert needs_time(question)


@pytest.mark.parametrize("question", ASKS_ABOUT_A_FRAME)
def test_questions_about_a_frame_do_not(question):
    assert not needs_time(question)


def test_a_row_needs_time_where_one_of_its_questions_does():
    assert row_needs_time([("What colour?", "red"), ("What happens next?", "rain")]) == 1.0
    assert row_needs_time([("What colour?", "red")]) == 0.0
    assert math.isnan(row_needs_time([("", "A caption.")]))
    assert math.isnan(row_needs_time([]))
    assert set(TIME_WORDS) == {"when", "order", "counting", "change"}
