"""Score rows by how badly a model answers them without the video: larger = the video is needed.

    vxp-data score-template runs/a --out rows.jsonl
    python pipelines/scorers/blind.py rows.jsonl --out blind.parquet --server URL#MODEL
    vxp-data decide runs/a --scores blind.parquet --missing keep --keep 0.5

A question with options is asked several times, each time with the options in another order, so that
a model that likes a letter gains nothing; an open one is asked for its likeliest answer first, then
for drawn ones. A row's score is 1 less the mean agreement of all its tries: over its questions.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agreement import agreement
from ask_all import ask_all, journal_of
from asks import PROMPTS, Answer, Ask, Backend, Failure, Prompts
from command import answers_of, base_parser, finish, open_backend, run, version_of
from questions import Question, letter_order, listed, questions_of
from template_rows import ScoredRow, TemplateRow, check_out, read_template

from vxp_data.records import Task
from vxp_model.errors import UserError
from vxp_model.eval.benchmarks.letters import letters_for, read_letter
from vxp_model.eval.store import digest

SCORER: Final = "blind"
TRIES: Final = 4
CHOICE_TOKENS: Final = 16
OPEN_TOKENS: Final = 64
NO_QUESTION: Final = "no_question"
"""Reason of rows that ask for a caption, or nothing: every model needs the video for those."""
NO_LIKELIHOOD: Final = "no_likelihood"
"""Reason of rows with an open question, where only letters' likelihood is told."""
_SEEDS: Final = 2**31


@dataclass(frozen=True, slots=True, kw_only=True)
class Try:
    """One request about a question."""

    question: Question
    order: tuple[int, ...]
    """Which option stands at each letter; () of an open question."""
    ask: Ask

    @property
    def gold_letter(self) -> str:
        """The letter of the right option in this try."""
        return letters_for(len(self.order))[self.order.index(self.question.gold)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How rows are asked."""

    prompts: Prompts
    tries: int
    seed: int
    temperature: float
    by: str
    """'replies' or 'likelihood'."""
    max_tokens: int | None
    skip_tasks: frozenset[str]
    sees_history: bool
    knows_texts: bool
    """Whether the model tells how likely a whole answer is, and not letters alone."""

    def settings(self) -> dict[str, Any]:
        """Return what scores depend on beside prompts and model."""
        return {
            "tries": self.tries,
            "seed": self.seed,
            "temperature": self.temperature,
            "by": self.by,
            "max_tokens": self.max_tokens,
            "skip_tasks": sorted(self.skip_tasks),
            "history": self.sees_history,
        }

    def tries_of(self, row: TemplateRow) -> list[Try]:
        """Return all requests about a row, question by question; none where `why_none` is told."""
        if self.why_none(row):
            return []
        questions = questions_of(row.turns)
        return [one for n, q in enumerate(questions) for one in self._tries(row, n, q)]

    def why_none(self, row: TemplateRow) -> str:
        """Return the reason why nothing is asked about a row; '' where something is."""
        questions = () if row.task in self.skip_tasks else questions_of(row.turns)
        if not questions:
            return NO_QUESTION
        is_told = self.by != "likelihood" or self.knows_texts or all(q.options for q in questions)
        return "" if is_told else NO_LIKELIHOOD

    def _tries(self, row: TemplateRow, number: int, question: Question) -> Iterator[Try]:
        name = f"{self.seed}/{row.sample_id}/{number}"
        seen: set[str] = set()
        is_open_likelihood = self.by == "likelihood" and not question.options
        for turn in range(1 if is_open_likelihood else self.tries):
            order: tuple[int, ...] = ()
            if question.options and question.can_turn:
                order = tuple(letter_order(len(question.options), turn, name))
            elif question.options:
                order = tuple(range(len(question.options)))
            text = self._text(question, order)
            # The same words again are drawn, the first time the likeliest reply is asked for.
            is_drawn = text in seen and self.temperature > 0 and self.by == "replies"
            seen.add(text)
            yield Try(
                question=question,
                order=order,
                ask=Ask(
                    chat=self._chat(question, text),
                    max_tokens=self.max_tokens or (CHOICE_TOKENS if order else OPEN_TOKENS),
                    temperature=self.temperature if is_drawn else 0.0,
                    seed=int(digest(f"{name}/{turn}"), 16) % _SEEDS if is_drawn else 0,
                    texts=self._texts(question),
                ),
            )

    def _text(self, question: Question, order: Sequence[int]) -> str:
        if not question.options:
            return self.prompts.fill("open", question=question.text)
        options = listed([question.options[index] for index in order])
        return self.prompts.fill("choice", question=question.text, options=options)

    def _chat(self, question: Question, text: str) -> tuple[tuple[str, str], ...]:
        before = question.before if self.sees_history else ()
        return (("system", self.prompts.fill("system")), *before, ("user", text))

    def _texts(self, question: Question) -> tuple[str, ...]:
        if self.by != "likelihood":
            return ()
        return tuple(letters_for(len(question.options))) or (question.answer,)


def judged(one: Try, answer: Answer) -> tuple[float, dict[str, Any]] | Failure:
    """Return how far an answer agrees with the row's, in [0, 1], and what a user can see of it.

    Of replies: whether the right letter is named, or `agreement`. Of likelihoods: the right
    letter's share of that of all letters; the mean probability of a token of the answer, where it
    is open.
    """
    if "log_probs" in answer:
        return _by_likelihood(one, answer["log_probs"])
    reply = answer["text"]
    if not one.order:
        value = agreement(reply, one.question.answer)
        return value, {"reply": reply, "agreement": round(value, 4)}
    options = [one.question.options[index] for index in one.order]
    letter = read_letter(reply, options, letters_for(len(options)))
    shown = {"reply": reply, "letter": letter, "right": one.gold_letter}
    return float(letter == one.gold_letter), shown


def _by_likelihood(
    one: Try, log_probs: Sequence[Sequence[float] | None]
) -> tuple[float, dict[str, Any]] | Failure:
    if not one.order:
        total, num = log_probs[0] or (-math.inf, 1)
        value = math.exp(total / num)
        return value, {"agreement": round(value, 4), "log_prob": total, "num_tokens": num}
    found = [None if pair is None else pair[0] for pair in log_probs]
    most = max((value for value in found if value is not None), default=None)
    if most is None:
        return Failure(reason="no_letter", message="no letter is among the likeliest first tokens")
    weights = [0.0 if value is None else math.exp(value - most) for value in found]
    share = weights[one.order.index(one.question.gold)] / math.fsum(weights)
    return share, {"log_probs": found, "right": one.gold_letter, "agreement": round(share, 4)}


def scored(
    row: TemplateRow, tries: Sequence[Try], answers: Sequence[Answer] | Failure
) -> ScoredRow:
    """Return a row's score: the mean over its questions of 1 - the mean agreement of its tries."""
    if isinstance(answers, Failure):
        return ScoredRow.without(row, answers.reason, answers.message)
    details: list[dict[str, Any]] = []
    values: list[list[float]] = []
    last: Question | None = None
    for one, answer in zip(tries, answers, strict=True):
        found = judged(one, answer)
        if isinstance(found, Failure):
            return ScoredRow.without(row, found.reason, found.message)
        if one.question is not last:
            last = one.question
            details.append({"kind": last.kind, "answer": last.answer, "tries": []})
            values.append([])
        values[-1].append(found[0])
        details[-1]["tries"].append(found[1])
    wrong = [1 - math.fsum(own) / len(own) for own in values]
    return ScoredRow.of(row, wrong, details)


def main(argv: Sequence[str] | None = None) -> int:
    """Score the rows, write the file, print what it is."""
    options = build_parser().parse_args(argv)
    check_out(options.out)
    rows = read_template(options.rows)
    backend = open_backend(options)
    plan = _plan(options, backend)
    _check_likelihood(plan, backend)
    if any(map(plan.tries_of, rows)):
        backend.check()
    # Made twice rather than kept: of a million rows they are gigabytes.
    asks = (one.ask for row in rows for one in plan.tries_of(row))
    found = ask_all(backend, asks, journal_of(options.out))
    made = []
    for row in rows:
        if reason := plan.why_none(row):
            made.append(ScoredRow.without(row, reason, ""))
            continue
        tries = plan.tries_of(row)
        keys = [one.ask.key(backend.identity) for one in tries]
        made.append(scored(row, tries, answers_of(keys, found)))
    version = version_of(backend, plan.prompts.digest, plan.settings())
    return finish(options, made, scorer=SCORER, version=version, notes=_notes(made))


def _notes(rows: Sequence[ScoredRow]) -> list[str]:
    """Return what else to know of the scores: replies that name no option, rows guessed."""
    tries = [
        one for row in rows if row.score is not None for q in row.details for one in q["tries"]
    ]
    letters = [one for one in tries if "letter" in one]
    silent = sum(one["letter"] is None for one in letters)
    notes = []
    if letters:
        notes.append(
            f"{silent} of {len(letters)} replies to questions with options name none: they count "
            "as wrong"
        )
    guessed = sum(row.score == 0 for row in rows)
    notes.append(f"{guessed} rows were right at every try, without the video")
    return notes


def _check_likelihood(plan: Plan, backend: Backend) -> None:
    if plan.by == "likelihood" and not backend.likelihood:
        raise UserError("--by likelihood: this way of running a model tells none. Use replies.")


def _plan(options: argparse.Namespace, backend: Backend) -> Plan:
    path: Path = options.prompts or PROMPTS / "blind.txt"
    return Plan(
        prompts=Prompts(path, ("system", "choice", "open")),
        tries=options.tries or TRIES,
        seed=options.seed,
        temperature=options.temperature,
        by=options.by,
        max_tokens=options.max_tokens,
        skip_tasks=frozenset(options.skip_task),
        sees_history=options.history == "yes",
        knows_texts="texts" in backend.likelihood,
    )


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = base_parser((__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--by", choices=("replies", "likelihood"), default="replies", help="what is right [replies]"
    )
    parser.add_argument(
        "--skip-task",
        nargs="*",
        default=[Task.CAPTION.value],
        metavar="TASK",
        help="rows of these tasks get no score [caption]",
    )
    parser.add_argument(
        "--history",
        choices=("yes", "no"),
        default="yes",
        help="whether a row's earlier questions and answers are shown [yes]",
    )
    return parser


if __name__ == "__main__":
    sys.exit(run(main))
