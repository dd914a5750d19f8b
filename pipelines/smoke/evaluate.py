"""Ask a trained model the rows that it was not trained on, and count how often it is right.

    python pipelines/smoke/evaluate.py runs/smoke/clips/evaluation.json runs/smoke/model-sft/model

An answer is right by a rule, never by another model's judgement: the letter of a multiple-choice
question, the very words of an open one. Captions are compared by their words.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

TASKS: Final = {"caption": "caption", "mc": "multiple_choice", "oe": "open_ended"}
"""From the end of a row's id to its task."""
_LETTER: Final = re.compile(r"\(?([A-Z])\b")
FRAMES_PER_S: Final = 2.0
MAX_NEW_TOKENS: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One row, asked and judged."""

    row_id: str
    task: str
    wanted: str
    got: str
    is_right: bool | None
    """None: a caption, which is neither right nor wrong."""
    word_f1: float
    """Of words in common, 0 to 1."""
    chance: float | None
    """Of being right by drawing one of the options."""


def judge(row: dict[str, Any], got: str) -> Judged:
    """Compare an answer with the row's own."""
    task = TASKS[row["id"].rpartition("-")[2]]
    question, wanted = (turn["value"] for turn in row["conversations"])
    is_right, chance = None, None
    if task == "multiple_choice":
        letter = _LETTER.match(got.strip())  # no letter: wrong, nothing is drawn
        is_right = letter is not None and letter[1] == wanted
        chance = 1 / len(re.findall(r"^[A-Z]\. ", question, flags=re.MULTILINE))
    elif task == "open_ended":
        is_right = words(got) == words(wanted)
    return Judged(
        row_id=row["id"],
        task=task,
        wanted=wanted,
        got=got,
        is_right=is_right,
        word_f1=word_f1(words(got), words(wanted)),
        chance=chance,
    )


def words(text: str) -> list[str]:
    """Return the words of a text, in lower case."""
    return re.findall(r"\w+", text.lower())


def word_f1(got: Sequence[str], wanted: Sequence[str]) -> float:
    """Return the harmonic mean of precision and recall of words, each as often as it is there."""
    common = (Counter(got) & Counter(wanted)).total()
    return 2 * common / (len(got) + len(wanted)) if common else 0.0


def figures(judged: Sequence[Judged]) -> dict[str, dict[str, float]]:
    """Sum up by task."""
    sums: dict[str, dict[str, float]] = {}
    for task in sorted({one.task for one in judged}):
        own = [one for one in judged if one.task == task]
        sums[task] = {
            "rows": len(own),
            "word_f1": round(sum(one.word_f1 for one in own) / len(own), 3),
        }
        if own[0].is_right is not None:
            sums[task]["right"] = sum(bool(one.is_right) for one in own)
            sums[task]["accuracy"] = round(sums[task]["right"] / len(own), 3)
        if own[0].chance is not None:
            sums[task]["chance"] = round(sum(one.chance or 0 for one in own) / len(own), 3)
    return sums


def table(sums: dict[str, dict[str, float]]) -> str:
    """Draw what `figures` gives."""
    columns = ("rows", "right", "accuracy", "chance", "word_f1")
    lines = ["task            " + "".join(f"{name:>10}" for name in columns)]
    for task, own in sums.items():
        cells = "".join(f"{own.get(name, '-'):>10}" for name in columns)
        lines.append(f"{task:<16}{cells}")
    return "\n".join(lines)


def evaluate(rows: Path, model: Path) -> list[Judged]:
    """Ask a model every row of a LLaVA JSON file; media paths count from its folder."""
    from vxp_model.data.visuals import FrameChoice
    from vxp_model.inference.session import LongVideoModel

    session = LongVideoModel.load(model)
    watched: dict[str, Any] = {}
    judged = []
    for row in json.loads(rows.read_text(encoding="utf-8")):
        name = row["video"]
        if name not in watched:
            watched[name] = session.watch(rows.parent / name, FrameChoice(fps=FRAMES_PER_S))
        question = row["conversations"][0]["value"].removeprefix("<image>\n")
        answer = session.ask(watched[name], question, max_new_tokens=MAX_NEW_TOKENS)
        judged.append(judge(row, answer.text))
    return judged


def main() -> int:
    """Ask, print the table and an answer of each task."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--json", type=Path, help="write answers and figures there")
    options = parser.parse_args()
    judged = evaluate(options.rows, options.model)
    sums = figures(judged)
    print(table(sums))
    for task in sums:
        one = next(one for one in judged if one.task == task)
        print(f"  {one.row_id}: wanted {one.wanted[:60]!r}, got {one.got[:60]!r}")
    if options.json:
        answers = [{"id": one.row_id, "wanted": one.wanted, "got": one.got} for one in judged]
        text = json.dumps({"figures": sums, "answers": answers}, indent=1, ensure_ascii=False)
        options.json.write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
