"""What a question asks, told by its words: whether it needs time, and of what type it is.

Rules of thumb over English words: they miss what is asked in other words, take some questions that
merely have them, and see nothing in other languages. `TIME_WORDS`, `FALSE_FRIENDS` and `TYPES` are
all there is to them. Looked at are the sentences that end with a question mark, where there are any
('Answer with a single word or phrase.' says nothing of what is asked), else all; options that a
question lists do not count, nor do answers.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final

from vxp_data.core.text_rules import Turns, without_options

TIME_WORDS: Final[Mapping[str, str]] = {
    "when": r"when|while|during|until|since|meanwhile|at what (time|point|moment)",
    "order": r"before|after(wards?)?|then|next|first|second|last|finally|initially|previous(ly)?"
    r"|subsequent(ly)?|earlier|later|order|sequence|steps?|beginning|begins?|starts?|ends?|ending",
    "counting": r"how (many times|often|long)|number of times|times|repeat(s|ed|edly)?|again",
    "change": r"chang(e|es|ed|ing)|becom(e|es|ing)|turns? into|mov(e|es|ed|ing|ement)|direction"
    r"|speed|faster|slower|forwards?|backwards?|happen(s|ed|ing)?|transition(s|ed)?",
}
"""By kind, the words (between other words, in small or large letters) that ask about time: a single
frame could answer a question without any."""

FALSE_FRIENDS: Final[Sequence[str]] = (
    r"next (to|door)",
    r"(first|last|middle|second) names?",
    r"(first|second|third)[ -](persons?|floors?|stor(y|ies)|hand|aid|class|lady|language|base)",
    r"(first|second|third|last|next)( \w+){0,2} from (the )?(left|right|top|bottom|front|back)",
    r"at first glance|in the first place|last but not least",
    r"in order (to|for|that)",
    r"order (number|form)",
    r"(new york |the )times(?= newspaper| square)|new york times|times square",
    r"times (as|more|less|larger|bigger|smaller|taller|higher)",
    r"(look|looks|looking|named?|takes?) after",
    r"(front|stone|wooden|concrete|on the|up the|down the|climb the) steps?",
    r"ends? of (the|a|his|her|their|its) (table|bench|bed|street|road|hall|hallway|room|line|rope)",
    r"end (table|zone|user)s?",
    r"(starting|ending) (line|price|lineup)s?",
    r"changing (room|table)s?",
    r"moving (van|truck|box|boxes|company)",
    r"speed[ -]?(limit|boat|bump|skater|sign)s?",
    r"happens? to (be|have)",
    r"how long (is|are) (the|his|her|their|its) (hair|beard|rope|table|tail|dress|road|bridge)",
)
"""Words of TIME_WORDS that mean something else: a place, a name, stairs. They are taken out first;
other words of the same question still count."""

_VERB: Final = (
    r"(is|are|was|were|am|do|does|did|has|have|had|can|could|will|would|should|may|might|must)"
    r"(n['\u2019]t)?"
)
_REQUEST: Final = (
    r"you\s+(please\s+|briefly\s+)?(describe|tell|explain|identify|name|list|specify|provide|give"
    r"|summari[sz]e|say|share|count|elaborate|point|show)\b"
)
_YES_NO: Final = (
    rf"(^|[?:]\s+|\b(in|at|during|after|before|from|while|when|based on|according to)\b[^,?]*,\s*)"
    rf"{_VERB}\s(?!{_REQUEST})(?![^?]*\bor\b(?!\s+not\b))|\b(yes or no|yes/no|true or false)\b"
)
TYPES: Final[Mapping[str, str]] = {
    "yes_no": _YES_NO,
    "count": r"\bhow (many|much|often)\b|\bnumber of\b|\bcount\b",
    "why": r"\bwhy\b|\bhow come\b|\bwhat (is|was|are|were|might be|could be) the (\w+ )?"
    r"(reasons?|purpose|cause|motivation)\b",
    "order": rf"\b({TIME_WORDS['order']})\b",
    "when": rf"\b({TIME_WORDS['when']}|how long|what time)\b",
    "change": rf"\b({TIME_WORDS['change']})\b",
    "where": r"\bwhere\b|\bwhat (place|location|room|city|country)\b",
    "who": r"\bwho(m|se)?\b",
    "which": rf"\bwhich\b|\b{_VERB}\s[^?]*\bor\b",
    "how": r"\bhow\b",
    "what": r"\bwhat\b",
}
"""By type, its pattern; of several that fit, the first. What the answer looks like comes first, so
'Does he sit down before she does?' is `yes_no`; whether it needs time is another fact."""

OTHER: Final = "other"
"""A question without any of these words, as all in other languages."""

NO_TYPE: Final = ""
"""Of a row that asks nothing: a caption, or no words at all."""

_TIME: Final = re.compile(rf"\b({'|'.join(TIME_WORDS.values())})\b", re.IGNORECASE)
_FALSE_FRIEND: Final = re.compile(rf"\b({'|'.join(FALSE_FRIENDS)})\b", re.IGNORECASE)
_TYPES: Final = {name: re.compile(pattern, re.IGNORECASE) for name, pattern in TYPES.items()}


_SENTENCE_END: Final = re.compile(r"(?<=[.!?])\s+|\n+")


def _asked(question: str) -> str:
    """Return the sentences that ask, without false friends; all where none has a question mark."""
    sentences = _SENTENCE_END.split(without_options(question).strip())
    asking = [sentence for sentence in sentences if sentence.rstrip(" )\"'").endswith("?")]
    return _FALSE_FRIEND.sub(" ", " ".join(asking or sentences)).strip()


@lru_cache(maxsize=4096)  # sets ask some questions a thousand times
def needs_time(question: str) -> bool:
    """Whether a question has one of TIME_WORDS, false friends and options left out."""
    return _TIME.search(_asked(question)) is not None


@lru_cache(maxsize=4096)
def question_type(question: str) -> str:
    """Return the type of a question, one of TYPES or OTHER; NO_TYPE for one without words."""
    asked = _asked(question)
    if not asked:
        return NO_TYPE
    return next((name for name, pattern in _TYPES.items() if pattern.search(asked)), OTHER)


def row_needs_time(turns: Turns) -> float:
    """Return 1.0 where one of a row's questions needs time, else 0.0; NaN without a question."""
    questions = [question for question, _ in turns if question.strip()]
    return float(any(map(needs_time, questions))) if questions else float("nan")


def row_type(turns: Turns) -> str:
    """Return the most frequent type of a row's questions; of several, the one that comes first."""
    types = Counter(filter(None, (question_type(question) for question, _ in turns)))
    return types.most_common(1)[0][0] if types else NO_TYPE
