"""A benchmark of one kind of question: which colour a video has."""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from vxp_data.errors import UserError
from vxp_model.eval.benchmarks.base import (
    About,
    Benchmark,
    Figure,
    Prompt,
    Question,
    Scored,
    Shown,
    accuracy_figures,
)

LETTERS = "ABCD"


class Colours(Benchmark):
    """Lines {"video", "options", "answer"} in colours.jsonl."""

    name = "colours"
    about = About(
        title="Colours",
        licence="none",
        source="https://example.org/colours",
        files="colours.jsonl, and the videos that it names",
        metric="accuracy",
        checked_against="answers scored by hand",
    )

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

    def prompt(self, question: Question, shown: Shown, style: str) -> Prompt:
        """Return the question, its options, and what to answer with."""
        del shown, style
        lines = [f"{a}. {option}" for a, option in zip(LETTERS, question.options, strict=False)]
        text = "\n".join([question.text, *lines, "Answer with the letter."])
        return Prompt(text=text, choices=tuple(LETTERS[: len(question.options)]))

    def parse(self, question: Question, reply: str) -> str | None:
        """Return the letter that a reply begins with, alone or before a stop."""
        found = re.match(rf"\s*\(?([{LETTERS}])\)?([.:,\s]|$)", reply)
        known = LETTERS[: len(question.options)]
        return found.group(1) if found and found.group(1) in known else None

    def score(self, question: Question, parsed: str | None) -> float:
        """Return 1 for the right letter."""
        return float(parsed == question.gold)

    def summarise(self, scored: Sequence[Scored]) -> list[Figure]:
        """Return the accuracy over all, and by colour."""
        return accuracy_figures(scored, ["colour"])
