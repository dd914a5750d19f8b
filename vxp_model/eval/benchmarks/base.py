"""What every benchmark gives: questions, prompts, what a reply means, and what it is worth.

A benchmark asks no model and opens no video. Answers are kept, so that scores are a pure function
of annotations and replies, and may be worked out again with another rule in a moment.

A reply that says nothing readable is a wrong answer, counted and listed; a question whose media
are not there is no answer at all. A summary states what it is over.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One question about one video, as its benchmark asks it."""

    question_id: str
    """Unique in the benchmark, and the same on every machine: answers are found again by it."""
    video: str
    """Path below the benchmark's folder, with '/'; questions about one video have one text here."""
    text: str
    """The question alone, without options and instructions."""
    options: tuple[str, ...] = ()
    """What may be chosen of, without letters, in the benchmark's order; none: any words."""
    gold: str
    """The right answer as `parse` gives one, such as 'B'."""
    groups: Mapping[str, str] = field(default_factory=dict)
    """What summaries are split by: name of the split -> this question's part of it, such as
    'task' -> 'counting'."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """What a model is given beside the frames."""

    text: str
    """The turn that follows the frames, instructions included."""
    system: str | None = None
    """None: the model's own."""
    reply_start: str = ""
    """What the reply is made to begin with; it is no part of what `parse` gets."""
    max_new_tokens: int = 16
    """Longest reply, tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """A question, and what became of it."""

    question: Question
    parsed: str | None
    """What its reply says; None: nothing that can be read, or there was no reply."""
    score: float
    """In [0, 1]; 0 where `parsed` is None."""
    is_answered: bool = True
    """False where its media are missing: it counts among all questions, not among the answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One number of a benchmark's summary."""

    name: str
    """Unique in the summary, such as 'accuracy' or 'accuracy, task counting'."""
    value: float
    """NaN where it is over no question."""
    num_questions: int
    """Questions that it is over."""


class Benchmark(Protocol):
    """A set of questions about videos, read from local files; one file a benchmark."""

    name: str
    """Its name in `registry.BENCHMARKS`."""
    version: int
    """Counts up with every change of a prompt, a parser or a score: kept answers tell by it."""

    def questions(self, root: Path) -> Iterator[Question]:
        """Return the questions in the order of the benchmark's own files.

        Whether the videos are there is not looked at.

        Args:
            root: folder with the annotation files as the benchmark's makers publish them.

        Raises:
            UserError: a file is missing or is not as they publish it; with where to get it.
        """
        ...

    def prompt(self, question: Question) -> Prompt:
        """Return how a question is put to a model; the same question, the same prompt."""
        ...

    def parse(self, question: Question, reply: str) -> str | None:
        """Return what a reply says in the terms of `Question.gold`; None: nothing that is clear.

        Never raises, whatever a model says.
        """
        ...

    def score(self, question: Question, parsed: str | None) -> float:
        """Return what an answer is worth, in [0, 1]: 1 for the gold one, 0 for None."""
        ...

    def summarise(self, scored: Sequence[Scored]) -> list[Figure]:
        """Return the benchmark's figures, the one that it is known by first.

        Args:
            scored: questions, in an order that does not matter; perhaps not all, perhaps none.
        """
        ...
