"""Benchmarks whose replies are letters: what they share."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from vxp_model.eval.benchmarks.base import (
    Benchmark,
    Convention,
    Figure,
    Question,
    Scored,
    accuracy_figures,
    by_group,
    units_of,
)
from vxp_model.eval.benchmarks.letters import letters_for, read_letter

_LETTERED: Final = re.compile(r"^\s*\(?([A-Z])[.):](?:\s+|(?<=\)))(.*)$", re.DOTALL)
Summary = Callable[[Sequence[Scored]], list[Figure]]

ALSO_RIGHT = "also_right"
"""In `Question.details`: letters of options that say the same as the gold one."""


class ChoiceBenchmark(Benchmark):
    """A benchmark of questions with options; its replies are read by `letters`."""

    most_options: ClassVar[int] = 4
    """Of a question; what letters there are where the options are not known."""
    splits: ClassVar[tuple[str, ...]] = ()
    """What accuracy is told by: names of `Question.groups`."""

    def letters(self, question: Question) -> str:
        """Return the letters that a question may be answered with."""
        return letters_for(len(question.options) or self.most_options)

    def parse(self, question: Question, reply: str) -> str | None:
        """Return the letter that a reply names; see `letters.read_letter`."""
        return read_letter(reply, question.options, self.letters(question))

    def score(self, question: Question, parsed: str | None) -> float:
        """Return 1 for the right letter, and for that of an option with the same text."""
        if parsed is None or not question.gold:
            return 0.0
        return float(parsed == question.gold or parsed in question.details.get(ALSO_RIGHT, ()))

    def summarise(self, scored: Sequence[Scored]) -> list[Figure]:
        """Return the accuracy over all, and by every split."""
        return accuracy_figures(with_gold(scored), self.splits)


@dataclass(frozen=True, slots=True)
class PublishedChoice(Convention):
    """How another publisher goes from replies to figures."""

    read: Callable[[Question, str], str | None]
    summary: Summary

    def parse(self, question: Question, reply: str) -> str | None:
        """Return what they read."""
        return self.read(question, reply)

    def score(self, question: Question, parsed: str | None) -> float:
        """Return 1 for exactly the gold letter; an answer that is no option has none."""
        return float(parsed == question.gold and len(question.gold) == 1)

    def summarise(self, scored: Sequence[Scored]) -> list[Figure]:
        """Return their figures."""
        return self.summary(with_gold(scored))


def with_gold(scored: Sequence[Scored]) -> list[Scored]:
    """Return the questions whose right answer is known here."""
    return [one for one in scored if one.question.gold]


def gold_letter(options: Sequence[str], answer: str) -> tuple[str, dict[str, list[str]]]:
    """Return the letter of a gold answer that is told by its text.

    Args:
        options: as they are asked.
        answer: one of them.

    Returns:
        gold: the last letter with that text, which is the one that MLVU's own script takes. Where
            no option says so, the text itself: no reply is read as it, so that none is right.
        details: the others with the same text, which are right too; for `Question.details`.
    """
    letters = letters_for(len(options))
    found = [a for a, option in zip(letters, options, strict=True) if option == answer]
    if not found:
        return answer, {}
    return found[-1], {ALSO_RIGHT: found[:-1]} if found[1:] else {}


def option_lines(options: Sequence[str], form: str) -> list[str]:
    """Return the options with their letters.

    Args:
        options: their texts.
        form: such as '({}) {}', of letter and text.
    """
    return [form.format(a, o) for a, o in zip(letters_for(len(options)), options, strict=True)]


def mean_over_parts(scored: Sequence[Scored], split: str, name: str) -> Figure:
    """Return the mean of the accuracies of a split's parts, each counting as much."""
    parts = by_group(scored, split).values()
    return Figure(name=name, parts=tuple(units_of(own) for own in parts))


def plain_accuracy(*splits: str) -> Summary:
    """Return the summary of all who count every question once."""
    return lambda scored: accuracy_figures(scored, splits)


def of_the_read(*splits: str) -> Summary:
    """Return the summary of those who leave out what they cannot read."""
    return lambda scored: accuracy_figures([s for s in scored if s.parsed is not None], splits)


def without_letters(options: Sequence[str]) -> tuple[str, ...]:
    """Return options that carry their letters ('A. One.', '(B) Two.') without them.

    Where one does not, or they are not in order, they are returned as they are.
    """
    found = [match for option in options if (match := _LETTERED.match(option))]
    if "".join(match[1] for match in found) != letters_for(len(options)):
        return tuple(options)
    return tuple(match[2].strip() for match in found)


def split_options(text: str) -> tuple[str, tuple[str, ...]]:
    """Return a question and the options that stand below it, a line each, without letters.

    Args:
        text: 'Which?' and lines that begin with '(A)', '(B)', ... or 'A.', 'B.', ...

    Returns:
        question, options: the latter empty where there are no such lines.
    """
    lines = text.strip().split("\n")
    starts = [i for i, line in enumerate(lines) if (m := _LETTERED.match(line)) and m[1] == "A"]
    if not starts:
        return text.strip(), ()
    options: list[str] = []
    for line in lines[starts[-1] :]:
        match = _LETTERED.match(line)
        if match and match[1] == letters_for(len(options) + 1)[-1]:
            options.append(match[2].strip())
        else:  # an option of two lines
            options[-1] = f"{options[-1]}\n{line}".strip()
    return "\n".join(lines[: starts[-1]]).strip(), tuple(options)
