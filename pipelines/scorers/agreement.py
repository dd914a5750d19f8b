"""How far a free reply says what a row's answer says: a number in [0, 1]."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Final

from vxp_model.eval.benchmarks.thoughts import without_thoughts

MOST_SHORT: Final = 3
"""Words of an answer that is looked for as a whole."""
_APOSTROPHE: Final = "\u2019"
_WORD: Final = re.compile(rf"[^\W_]+(?:['{_APOSTROPHE}][^\W_]+)*")
_ARTICLES: Final = frozenset({"a", "an", "the"})
_NUMBERS: Final = {
    "zero": "0",
    "one": "1",
    "two": "2",
    "three": "3",
    "four": "4",
    "five": "5",
    "six": "6",
    "seven": "7",
    "eight": "8",
    "nine": "9",
    "ten": "10",
}
_YES_NO: Final = frozenset({"yes", "no"})


def agreement(reply: str, answer: str) -> float:
    """Return how far a reply says what the answer says.

    An answer that begins with yes or no: 1 if the reply begins with the same, else 0. An answer of
    up to MOST_SHORT words: 1 if they stand in the reply one after another; otherwise, and for
    longer answers, F1 over their words (twice the words in common, by the words of both). Capitals,
    articles and punctuation do not count, 'two' is '2'; what a model thinks aloud is left out.
    """
    said, wanted = words(without_thoughts(reply)), words(answer)
    if not wanted or not said:
        return 0.0
    if wanted[0] in _YES_NO:
        return float(said[0] == wanted[0])
    if len(wanted) <= MOST_SHORT and _contains(said, wanted):
        return 1.0
    common = sum((Counter(said) & Counter(wanted)).values())
    return 2 * common / (len(said) + len(wanted))


def words(text: str) -> list[str]:
    """Return the words of a text as they are compared."""
    found = [word.replace(_APOSTROPHE, "'") for word in _WORD.findall(text.lower())]
    return [_NUMBERS.get(word, word) for word in found if word not in _ARTICLES]


def _contains(said: Sequence[str], wanted: Sequence[str]) -> bool:
    num = len(wanted)
    return any(list(said[at : at + num]) == list(wanted) for at in range(len(said) - num + 1))
