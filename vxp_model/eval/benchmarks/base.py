"""What every benchmark gives: questions, prompts, what a reply means, and what it is worth.

A benchmark asks no model and opens no video. Answers are kept, so that scores are a pure function
of questions and replies, and may be worked out again with another rule in a moment.

A reply that says nothing readable is a wrong answer, counted and listed; a question whose media
are not there is no answer at all. Figures are kept as what they average, so that an interval can
be told for each of them, whatever its formula.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final, Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Subtitles:
    """Where the subtitles of a question's video lie."""

    path: str
    """Below the benchmark's folder, with '/'; the file may be missing."""
    offset_s: float = 0.0
    """Time in the file at which the video begins, seconds: of cut-outs of a longer one."""


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
    """The right answer as `parse` gives one, such as 'B'; empty where the makers keep it."""
    groups: Mapping[str, str] = field(default_factory=dict)
    """What summaries are split by: name of the split -> this question's part of it, such as
    'task' -> 'counting'."""
    subtitles: Subtitles | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    """What else its prompt, its score or a judge needs: JSON values."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Self:
        """Return the question that `to_dict` wrote, once it has been through JSON."""
        subtitles = row["subtitles"]
        return cls(
            **dict(row)
            | {
                "options": tuple(row["options"]),
                "subtitles": None if subtitles is None else Subtitles(**subtitles),
            }
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SubtitleLine:
    """One line of subtitles."""

    start_s: float
    """In the video's own time, seconds."""
    end_s: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What a prompt may tell of the frames that the model is shown."""

    time_s: tuple[float, ...]
    """Of every frame, seconds since the video's first."""
    duration_s: float
    """Of the video."""
    width_px: int
    """Of the video itself, not of what the model gets of it."""
    height_px: int
    subtitles: tuple[SubtitleLine, ...] | None = None
    """In time order; None: there is no such file."""


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
    timed_texts: tuple[tuple[float, str], ...] = ()
    """Texts between the frames, in time order: (seconds, text) stands before the first group of
    frames that begins later."""
    choices: tuple[str, ...] = ()
    """Replies among which likelihood decides, where it is asked; as `parse` reads them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgePrompt:
    """What a judging model is asked about a reply."""

    text: str
    system: str | None = None
    max_new_tokens: int = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """A question, and what became of it."""

    question: Question
    parsed: str | None
    """What its reply says; None: nothing that can be read, or there was no reply."""
    score: float
    """In [0, 1]; 0 where `parsed` is None."""
    is_answered: bool = True
    """False where there is no reply: its media are missing or cannot be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """What a figure averages: a question, or several that count as one."""

    value: float
    video: str
    """What it is about: intervals take chance to be a draw of videos."""
    num_questions: int = 1


def _mean(shares: Sequence[float]) -> float:
    return sum(shares) / len(shares)


def _log_gap(shares: Sequence[float]) -> float:
    """Return the mean of -ln(1 - share): V-STaR's LGM; infinite where a share is 1."""
    return sum(-math.log1p(-share) if share < 1 else math.inf for share in shares) / len(shares)


COMBINE: Final[dict[str, Callable[[Sequence[float]], float]]] = {
    "mean": _mean,
    "log_gap": _log_gap,
}
"""How the means of a figure's parts become one number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One number of a benchmark's summary: the mean of its units, or of the means of its parts."""

    name: str
    """Unique in the summary, such as 'accuracy' or 'accuracy, task counting'."""
    parts: tuple[tuple[Unit, ...], ...]
    """One, or those whose means are averaged; empty ones do not count."""
    combine: str = "mean"
    """A name in COMBINE."""
    best: float = 1.0
    """The most that a unit can be worth: of 1 it is a share, of 10 a rating."""

    @classmethod
    def of(cls, name: str, units: Iterable[Unit], *, best: float = 1.0) -> Self:
        """Return the plain mean of units."""
        return cls(name=name, parts=(tuple(units),), best=best)

    @property
    def is_share(self) -> bool:
        """Whether it lies in [0, 1] by what it is, and reads well as a percentage."""
        units = (unit for part in self.parts for unit in part)
        is_mean = self.combine == "mean" and self.best == 1
        return is_mean and all(0 <= unit.value <= 1 for unit in units)

    @property
    def value(self) -> float:
        """NaN where it is over nothing."""
        shares = [_mean([unit.value for unit in part]) for part in self.parts if part]
        return COMBINE[self.combine](shares) if shares else math.nan

    @property
    def num_questions(self) -> int:
        """Questions that it is over."""
        return sum(unit.num_questions for part in self.parts for unit in part)


def units_of(scored: Iterable[Scored]) -> tuple[Unit, ...]:
    """Return a unit a question, worth its score."""
    return tuple(Unit(value=one.score, video=one.question.video) for one in scored)


def by_group(scored: Iterable[Scored], split: str) -> dict[str, list[Scored]]:
    """Return the questions of each part of a split, parts by name; those without are left out."""
    parts: dict[str, list[Scored]] = {}
    for one in scored:
        if split in one.question.groups:
            parts.setdefault(one.question.groups[split], []).append(one)
    return dict(sorted(parts.items()))


def accuracy_figures(scored: Sequence[Scored], splits: Sequence[str]) -> list[Figure]:
    """Return the share of right answers, over all and by every part of the splits."""
    figures = [Figure.of("accuracy", units_of(scored))]
    for split in splits:
        for part, own in by_group(scored, split).items():
            figures.append(Figure.of(f"accuracy, {split} {part}", units_of(own)))
    return figures


class Convention(ABC):
    """How replies become figures: a benchmark's own way, or another publisher's."""

    judges_unparsed: ClassVar[bool] = False
    """Whether a judge reads what `parse` cannot, where there is one."""

    @abstractmethod
    def parse(self, question: Question, reply: str) -> str | None:
        """Return what a reply says in the terms of `Question.gold`; None: nothing that is clear.

        Never raises, whatever a model says.
        """

    @abstractmethod
    def score(self, question: Question, parsed: str | None) -> float:
        """Return what an answer is worth, in [0, 1]: 1 for the gold one, 0 for None."""

    @abstractmethod
    def summarise(self, scored: Sequence[Scored]) -> list[Figure]:
        """Return the figures, the one that the benchmark is known by first.

        Args:
            scored: questions, in an order that does not matter; perhaps not all, perhaps none.
                Those without an answer count as wrong: who wants them left out, leaves them out.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What a user has to know of a benchmark before the first run."""

    title: str
    licence: str
    source: str
    """Where its makers publish it."""
    files: str
    """What must lie in its folder, in one line."""
    metric: str
    """The figure that it is known by."""
    checked_against: str
    """What shows that the score is right."""
    mean_s: float | None = None
    """About how long a video is, seconds, as its makers say: for estimates; None: not known."""


class Benchmark(Convention):
    """A set of questions about videos, read from local files; one file a benchmark."""

    name: ClassVar[str]
    """Its name in `registry.BENCHMARKS`."""
    version: ClassVar[int] = 1
    """Counts up with every change of a prompt, a parser or a score: kept answers tell by it."""
    about: ClassVar[About]
    expected: ClassVar[Mapping[str, int]] = {}
    """What the published files hold: 'questions', 'videos', or 'SPLIT=PART' -> number. Where the
    files hold something else, a run is refused unless told otherwise; empty: nothing is checked."""
    styles: ClassVar[tuple[str, ...]] = ("official",)
    """Ways to put the questions; the first is the default."""
    conventions: ClassVar[Mapping[str, Convention]] = {}
    """Other publishers' ways from reply to figure: 'official', 'lmms-eval', 'vlmevalkit'."""

    @abstractmethod
    def questions(self, root: Path) -> Iterator[Question]:
        """Return the questions in the order of the benchmark's own files.

        Whether the videos are there is not looked at.

        Args:
            root: folder with the annotation files as the benchmark's makers publish them.

        Raises:
            UserError: a file is missing or is not as they publish it; with where to get it.
        """

    @abstractmethod
    def prompt(self, question: Question, shown: Shown, style: str) -> Prompt:
        """Return how a question is put to a model; the same question, the same prompt.

        Args:
            question: of this benchmark.
            shown: what the model sees.
            style: one of `styles`.
        """

    def needs_judge(self, question: Question) -> bool:
        """Whether no rule can say what a reply to this question is worth."""
        del question
        return False

    def judge_prompt(self, question: Question, reply: str) -> JudgePrompt:
        """Return what a judge is asked about a reply to a question that needs one."""
        del reply
        raise TypeError(f"{self.name} needs no judge for {question.question_id}")

    def judged(self, question: Question, judgment: str) -> str | None:
        """Return a judgment in the terms of `Question.gold`, as `score` takes it; None: unclear."""
        del judgment
        raise TypeError(f"{self.name} needs no judge for {question.question_id}")
