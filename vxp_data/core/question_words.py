"""Whether a question needs time, told by its words: one that a single frame could answer does not.

A rule of thumb over English words: it misses what is asked in other words, and takes some questions
that merely have them. `TIME_WORDS` is all there is to it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

TIME_WORDS: Final[Mapping[str, str]] = {
    "when": r"when|while|during|until|since|meanwhile|at what (time|point|moment)",
    "order": r"before|after(wards?)?|then|next|first|second|last|finally|initially|previous(ly)?"
    r"|subsequent(ly)?|earlier|later|order|sequence|steps?|beginning|begins?|starts?|ends?|ending",
    "counting": r"how (many times|often|long)|number of times|times|repeat(s|ed|edly)?|again",
    "change": r"chang(e|es|ed|ing)|becom(e|es|ing)|turns? into|mov(e|es|ed|ing|ement)|direction"
    r"|speed|faster|slower|forwards?|backwards?|happen(s|ed|ing)?|transition(s|ed)?",
}
"""By kind, the words (between other words, in small or large letters) that ask about time."""

_ANY: Final = re.compile(rf"\b({'|'.join(TIME_WORDS.values())})\b", re.IGNORECASE)
_OPTION: Final = re.compile(r"^\s*\(?[A-Z][.):]\s.*$", re.MULTILINE)


def needs_time(question: str) -> bool:
    """Whether a question has one of TIME_WORDS; its options do not count."""
    return _ANY.search(_OPTION.sub("", question)) is not None


def row_needs_time(turns: Sequence[tuple[str, str]]) -> float:
    """Return 1.0 where one of a row's questions needs time, else 0.0; NaN without a question."""
    questions = [question for question, _ in turns if question.strip()]
    return float(any(map(needs_time, questions))) if questions else float("nan")
