"""What questions ask: whether they need time, and their type, by documented words alone."""

import math

import pytest

from vxp_data.core.question_words import (
    NO_TYPE,
    OTHER,
    TIME_WORDS,
    TYPES,
    needs_time,
    question_type,
    row_needs_time,
    row_type,
)

ASKS_ABOUT_TIME = [
    "What does the man do after he opens the door?",
    "How many times does the dog jump?",
    "In which direction does the car move?",
    "Arrange the steps in the correct order.\nA. 1, 2\nB. 2, 1",
    "WHEN does the light go out?",
    "Who, next to the door, sits down first?",  # a false friend beside a friend
    "How long is the video?",
]
ASKS_ABOUT_A_FRAME = [
    "What colour is the car?",
    "How many people are there?",
    "Who is wearing a hat?\nA. the one who came first\nB. nobody",
    "Which is it? (A) before (B) after",
    "Is the weekend shown? What is in the foreground?",  # 'end' is a part of a word here
    "Please describe this video in detail.",
    "Watch the sequence of events and the movement of objects. What colour is the car?",
]
FALSE_FRIENDS = [
    "What is her first name?",
    "What last names are on the list?",
    "Is this a second hand shop?",
    "Is it filmed in the first person?",
    "Who stands next to the car?",
    "Who is the second man from the left?",
    "What does he need in order to open it?",
    "Which newspaper is it, the Times newspaper?",
    "Is this Times Square?",
    "Which one is three times as large?",
    "Who sits on the steps?",
    "What lies at the end of the table?",
    "What does the speed limit sign say?",
    "How long is her hair?",
    "What is written on the moving van?",
    "Who looks after the child?",
]


@pytest.mark.parametrize("question", ASKS_ABOUT_TIME)
def test_questions_about_time_need_it(question):
    assert needs_time(question)


@pytest.mark.parametrize("question", ASKS_ABOUT_A_FRAME + FALSE_FRIENDS)
def test_questions_about_a_frame_do_not(question):
    assert not needs_time(question)


@pytest.mark.parametrize("question", FALSE_FRIENDS)
def test_false_friends_are_of_no_type_about_time(question):
    assert question_type(question) not in ("order", "when", "change")


def test_a_row_needs_time_where_one_of_its_questions_does():
    assert row_needs_time([("What colour?", "red"), ("What happens next?", "rain")]) == 1.0
    assert row_needs_time([("What colour?", "red")]) == 0.0
    assert math.isnan(row_needs_time([("", "A caption.")]))
    assert math.isnan(row_needs_time([]))
    assert set(TIME_WORDS) == {"when", "order", "counting", "change"}


@pytest.mark.parametrize(
    ("question", "wanted"),
    [
        ("Is the man sitting?", "yes_no"),
        ("Isn't he there?", "yes_no"),
        ("In the video, does the man sit down before she does?", "yes_no"),
        ("Do you see a dog?", "yes_no"),
        ("Is he alone or not?", "yes_no"),
        ("The sky is blue. True or false", "yes_no"),
        ("Is the car red or blue?", "which"),
        ("Can you tell me what he holds?", "what"),
        ("Could you please describe where it lies?", "where"),
        ("How many dogs are there?", "count"),
        ("How often does it ring?", "count"),
        ("What is the number of people in the room?", "count"),
        ("Why does he run after the dog?", "why"),
        ("What is the main reason for the crowd?", "why"),
        ("What does the girl do after she sits?", "order"),
        ("Who comes in first?", "order"),
        ("What did the boy do when the dog came?", "when"),
        ("How long does she wait?", "when"),
        ("In which direction does it go?", "change"),
        ("Where is the cup?", "where"),
        ("Whose hat is it?", "who"),
        ("Which cup is his?", "which"),
        ("How does she open it?", "how"),
        ("What is the man holding?\nAnswer the question using a single word or phrase.", "what"),
        (
            "What is on the table?\nA. How many cups\nB. Before noon\nAnswer with the letter.",
            "what",
        ),
        ("Name the object.", OTHER),
        ("\u89c6\u9891\u91cc\u6709\u51e0\u4e2a\u4eba\uff1f", OTHER),  # how many people, in Chinese
        ("Qui mange la pomme ?", OTHER),
        (" \n", NO_TYPE),
    ],
)
def test_types_of_questions(question, wanted):
    assert question_type(question) == wanted


def test_every_type_has_a_question_that_is_of_it():
    asked = ("Is it?", "How many?", "Why?", "What next?", "When?", "What moves?", "Where?", "Who?",
             "Which?", "How?", "What?")  # fmt: skip
    assert list(map(question_type, asked)) == list(TYPES)


def test_a_row_has_the_type_of_most_of_its_questions_and_answers_say_nothing():
    assert row_type([("What is it?", "How many?"), ("Who?", ""), ("Who else?", "")]) == "who"
    assert row_type([("What is it?", "x"), ("Who?", "y")]) == "what"
    assert row_type([("", "How many are there? Two.")]) == NO_TYPE
    assert row_needs_time([("Who is it?", "The one who came first, before noon.")]) == 0.0
