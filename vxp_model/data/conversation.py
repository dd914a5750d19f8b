"""The turns of a conversation, from the question-and-answer pairs that a shard holds."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Turn:
    """What one side says; a media's place in it is written as `<image>` or `<video>`."""

    speaker: Literal["human", "model"]
    text: str


def read_turns(exchanges: str) -> tuple[Turn, ...]:
    """Read `RowRecord.exchanges`: what is '' was not said, as a caption's question.

    Raises:
        ValueError: it is not a JSON list of [question, answer].
    """
    turns: list[Turn] = []
    pairs = json.loads(exchanges)
    if not isinstance(pairs, list):
        raise ValueError(f"exchanges is {type(pairs).__name__}, wanted a list")
    for pair in pairs:
        if not isinstance(pair, list) or [type(text) for text in pair] != [str, str]:
            raise ValueError(f"exchanges has {pair!r:.80}, wanted [question, answer]")
        question, answer = pair
        turns += [Turn("human", question)] * bool(question) + [Turn("model", answer)] * bool(answer)
    return tuple(turns)
