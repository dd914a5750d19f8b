"""A benchmark of one kind of question: which colour a video has."""

import json
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from vxp_data.errors import UserError
from vxp_model.eval.benchmarks.base import Figure, Prompt, Question, Scored

LETTERS = "ABCD"


class Colours:
    """Lines {"video", "options", "answer"} in colours.jsonl."""

    name = "colours"
    version = 1

    def questions(self, root: Path) -> Iterator[Question]:
        """Return a question a line."""
        path = root / "colours.jsonl"
        if not path.is_file():
            raise UserError(f"{path}: no such file. Write one line a video.")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines()):
            row = json.loads(line)
            yield Question(
                question_id=str(number),
                video=row["video"],
                text="Which colour is it?",
                options=tuple(row["options"]),
                gold=LETTERS[row["options"].index(row["answer"])],
                groups={"colour": row["answer"]},
            )

    def prompt(self, question: Question) -> Prompt:
        """Return the question, its options, and what to answer with."""
        lines = [f"{a}. {option}" for a, option in zip(LETTERS, question.options, strict=False)]
        return Prompt(text="\n".join([question.text, *lines, "Answer with the letter."]))

    def parse(self, question: Question, reply: str) -> str | None:
        """Return the letter that a reply begins with, alone or before a stop."""
        found = re.match(rf"\s*\(?([{LETTERS}])\)?([.:,\s]|$)", reply)
        known = LETTERS[: len(question.options)]
        return found.group(1) if found and found.group(1) in known else None

    def score(self, question: Question, parsed: str | None) -> float:
        """Return 1 for the right letter."""
        return float(parsed == question.gold)

    def summarise(self, scored: Sequence[Scored]) -> list[Figure]:
        """Return the accuracy over the questions that were answered, and by colour."""
        there = [one for one in scored if one.is_answered]
        colours = sorted({one.question.groups["colour"] for one in there})
        figures = [_accuracy("accuracy", there)]
        for colour in colours:
            own = [one for one in there if one.question.groups["colour"] == colour]
            figures.append(_accuracy(f"accuracy, colour {colour}", own))
        return figures


def _accuracy(name: str, scored: Sequence[Scored]) -> Figure:
    num = len(scored)
    value = sum(one.score for one in scored) / num if num else math.nan
    return Figure(name=name, value=value, num_questions=num)
