"""Which turns go to trainers that want questions and answers by turns."""

from __future__ import annotations

from collections import Counter

import pytest

from vxp_data.conversation import Part, Role, Turn
from vxp_data.pipeline.shard.trained_turns import LeftOut, trained_turns

ROLES = {"S": Role.SYSTEM, "U": Role.USER, "A": Role.ASSISTANT, "T": Role.TOOL}


def turn(text: str) -> Turn:
    """A turn written as 'U what the user says'; '@' shows a video."""
    parts = [Part("video") if part == "@" else Part("text", part) for part in text[2:].split("|")]
    return Turn(ROLES[text[0]], tuple(part for part in parts if part != Part("text")))


@pytest.mark.parametrize(
    ("said", "wanted", "left_out"),
    [
        (["U 1", "A 2"], ["U 1", "A 2"], {}),
        (["S 0", "U 1", "A 2", "T 3", "T 4", "A 5"], ["S 0", "U 1", "A 2", "T 3", "T 4", "A 5"],
         {}),
        (["U 1", "A 2", "A 3"], ["U 1", "A 2"], {LeftOut.SECOND: 1}),
        (["U 1", "A 2", "S 0", "A 3"], ["U 1", "A 2"], {LeftOut.SECOND: 1, LeftOut.UNANSWERED: 1}),
        (["A 1", "U 2", "A 3"], ["U 2", "A 3"], {LeftOut.UNASKED: 1}),
        (["S 0", "A 1", "U 2", "A 3"], ["S 0", "U 2", "A 3"], {LeftOut.UNASKED: 1}),
        (["U 1", "A  ", "U 2", "A 3"], ["U 1\n2", "A 3"], {LeftOut.BLANK: 1}),
        (["U @", "U 1", "A 2"], ["U @|1", "A 2"], {}),
        (["U 1|@", "U 2", "A 3"], ["U 1|@|\n2", "A 3"], {}),
        (["U 1", "A 2", "U 3", "T 4"], ["U 1", "A 2"], {LeftOut.UNANSWERED: 2}),
        (["U 1", "A 2", "U @"], [], {LeftOut.ROW_OF_MEDIA: 1}),
        (["S 0", "U 1", "A "], [], {LeftOut.ROW: 1}),
        (["A 1"], [], {LeftOut.ROW: 1}),
        ([], [], {LeftOut.ROW: 1}),
    ],
)  # fmt: skip
def test_questions_and_answers_alternate_and_the_rest_is_counted(
    said: list[str], wanted: list[str], left_out: dict[LeftOut, int]
) -> None:
    counted: Counter[LeftOut] = Counter()
    assert trained_turns([*map(turn, said)], counted) == [*map(turn, wanted)]
    assert counted == left_out
