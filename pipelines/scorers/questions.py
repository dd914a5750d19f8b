"""Questions of rows: options told from the words around them, and put in other orders."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from vxp_data.conversation import Role, Turn
from vxp_model.eval.benchmarks.letters import letters_for, read_letter

_LINE: Final = re.compile(
    r"^[ \t]*(?:[-*][ \t]*)?(?:option[ \t]+)?\(?([A-Z])[.):][ \t]*(\S.*?)[ \t]*$", re.I | re.M
)
_INLINE: Final = re.compile(
    r"(?<![\w(])\(?([A-Z])[.)]\s+(.+?)(?=\s*(?:[,;]?\s\(?[A-Z][.)]\s|$|\n))"
)
_ASKS_FOR_LETTER: Final = re.compile(r"\b(?:letter|options?|choices?)\b", re.IGNORECASE)
_REFERS: Final = re.compile(
    r"\b(?:all|none|both|neither|any|either|some)\s+(?:of\s+)?(?:the\s+)?"
    r"(?:above|these|options|others|choices|[A-H]\b)|\b[A-H]\s+(?:and|or|&)\s+[A-H]\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One question of a row, and what was said before it."""

    before: tuple[tuple[str, str], ...]
    """Earlier questions and answers, as (role, text)."""
    text: str
    """Without options, and without the lines after them that say how to answer."""
    answer: str
    """As the row has it."""
    options: tuple[str, ...] = ()
    gold: int = -1
    """Index of the right option; -1: it is open."""

    @property
    def kind(self) -> str:
        """'choice' or 'open'."""
        return "choice" if self.options else "open"

    @property
    def can_turn(self) -> bool:
        """Whether its options mean the same in another order."""
        return not any(_REFERS.search(option) for option in self.options)


def questions_of(turns: Sequence[Turn]) -> list[Question]:
    """Return the questions of a row that have words and an answer, in their order."""
    found: list[Question] = []
    before: list[tuple[str, str]] = []
    asked: str | None = None
    for turn in turns:
        if turn.role is Role.USER:
            asked = turn.text.strip()
            before.append((turn.role.value, asked))
        elif turn.role is Role.ASSISTANT:
            answer = turn.text.strip()
            if asked and answer:
                found.append(_question(asked, answer, tuple(before[:-1])))
            before.append((turn.role.value, answer))
            asked = None
    return found


def letter_order(num: int, turn: int, seed: str) -> list[int]:
    """Return which option stands at each letter in a try.

    Over `num` tries that follow on one another every option stands once at every letter.

    Args:
        num: options.
        turn: number of the try, from 0.
        seed: of the question: another one, another first order.
    """
    order = list(range(num))
    random.Random(seed).shuffle(order)
    at = turn % num
    return order[at:] + order[:at]


def listed(options: Sequence[str]) -> str:
    """Write options a line each, with letters."""
    lines = zip(letters_for(len(options)), options, strict=True)
    return "\n".join(f"{letter}. {option}" for letter, option in lines)


def _question(asked: str, answer: str, before: tuple[tuple[str, str], ...]) -> Question:
    head, options = split_options(asked)
    if options:
        letters = letters_for(len(options))
        letter = read_letter(answer, options, letters)
        if letter is not None:
            gold = letters.index(letter)
            return Question(before=before, text=head, answer=answer, options=options, gold=gold)
    return Question(before=before, text=asked, answer=answer)


def split_options(asked: str) -> tuple[str, tuple[str, ...]]:
    """Return a question without its options and what follows them, and the options.

    Options are two or more that are lettered A, B, C ..., a line each or within one. Of a text
    without such a list the text itself, and none.
    """
    for pattern in (_LINE, _INLINE):
        matches = _run_from_a(list(pattern.finditer(asked)))
        if len(matches) < 2:
            continue
        head = asked[: matches[0].start()].strip()
        tail = asked[matches[-1].end() :].strip()
        head = "\n".join([line for line in head.splitlines() if not _is_heading(line)]).strip()
        if tail and not _ASKS_FOR_LETTER.search(tail):
            head = f"{head}\n{tail}".strip()
        if head:
            return head, tuple(match[2].strip() for match in matches)
    return asked, ()


def _run_from_a(matches: Sequence[re.Match[str]]) -> list[re.Match[str]]:
    """Return the matches that are lettered A, B, C ... one after another, from the last A on."""
    run: list[re.Match[str]] = []
    for match in matches:
        letter = match[1].upper()
        if letter == "A":
            run = [match]
        elif run and letter == chr(ord("A") + len(run)):
            run.append(match)
    return run


def _is_heading(line: str) -> bool:
    return re.fullmatch(r"\s*(?:options|choices|answers?)\s*:?\s*", line, re.IGNORECASE) is not None
