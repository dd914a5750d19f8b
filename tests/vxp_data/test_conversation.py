"""Conversations as JSON and as question and answer pairs."""

from __future__ import annotations

import json

import pytest

from vxp_data.conversation import (
    Part,
    Role,
    Turn,
    conversation_from_json,
    conversation_json,
    question_answer_pairs,
    turns_of_pairs,
)

MESSAGES = [
    {"role": "system", "content": "Be brief. \N{GREEK SMALL LETTER ALPHA}"},
    {"role": "user", "content": [{"type": "video"}, {"type": "text", "text": "What?"}]},
    {"role": "assistant", "content": "A <video>."},
    {"role": "tool", "content": ""},
    {"role": "user", "content": [{"type": "text", "text": "And "}, {"type": "image"}]},
]


def test_json_is_a_list_of_messages_and_comes_back() -> None:
    text = json.dumps(MESSAGES, ensure_ascii=False, separators=(",", ":"))
    turns = conversation_from_json(text)
    assert conversation_json(turns) == text
    assert turns[1] == Turn(Role.USER, (Part("video"), Part("text", "What?")))
    assert [turn.num_media for turn in turns] == [0, 1, 0, 0, 1]
    assert [turn.is_blank for turn in turns] == [False, False, False, True, False]
    assert turns[4].text == "And "
    assert conversation_json([Turn.of_text(Role.USER, "\ud800?")]) == (
        '[{"role":"user","content":"??"}]'
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "a conversation is dict, wanted a list"),
        ('[["question", "answer"]]', r"turn 1 is \['question', 'answer'\], wanted an object"),
        ('[{"role": "user"}]', "turn 1 is"),
        ('[{"role": "human", "content": "?"}]', "turn 1: role is 'human', wanted system, user"),
        ('[{"role": ["user"], "content": "?"}]', "turn 1: role is"),
        ('[{"role": "user", "content": null}]', "turn 1: content is None, wanted text or parts"),
        ('[{"role": "user", "content": [{"type": "audio"}]}]', "turn 1: a part is"),
        ('[{"role": "user", "content": [{"type": "text", "text": 1}]}]', "turn 1: a part is"),
        ('[{"role": "user", "content": [{"type": "video", "text": ""}]}]', "turn 1: a part is"),
        ("nothing", "Expecting value"),
    ],
)
def test_what_is_no_conversation_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        conversation_from_json(text)


def test_rules_see_questions_and_their_answers_alone() -> None:
    turns = [
        Turn.of_text(Role.SYSTEM, "Be brief."),
        Turn(Role.USER, (Part("text", "What?\n"), Part("video"))),
        Turn.of_text(Role.TOOL, "4"),
        Turn.of_text(Role.ASSISTANT, "One"),
        Turn.of_text(Role.ASSISTANT, "Two"),
        Turn.of_text(Role.USER, " Why?"),
        Turn.of_text(Role.USER, "Why not?"),
        Turn.of_text(Role.ASSISTANT, ""),
    ]
    assert question_answer_pairs(turns) == [
        ("What?", "One"), ("", "Two"), (" Why?", ""), ("Why not?", ""),
    ]  # fmt: skip
    assert question_answer_pairs(()) == []


def test_pairs_become_turns_without_what_was_not_said() -> None:
    turns = turns_of_pairs([("Why?", "So."), ("", "A cat."), ("And?", "")])
    assert [(turn.role.value, turn.text) for turn in turns] == [
        ("user", "Why?"), ("assistant", "So."), ("assistant", "A cat."), ("user", "And?"),
    ]  # fmt: skip
