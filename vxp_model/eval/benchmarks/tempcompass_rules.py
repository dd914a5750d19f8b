"""TempCompass without options, files or models: rules from replies to verdicts, and their tables.

The rules are those of the makers' scripts (llyx97/TempCompass, eval_*.py): a reply to one of the
three ruled tasks is right or wrong where a rule reads it, and goes to a judge where none does.
Functions on rows take answers as they are kept anywhere: `task`, `aspect`, `gold` (the right
answer in full: 'B. right', 'yes', 'Option 2: A dog runs.'), `reply`, and `options` of matching.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

CHOICE: Final = "multi-choice"
YES_NO: Final = "yes_no"
MATCHING: Final = "caption_matching"
CAPTIONING: Final = "captioning"
RULED: Final = (CHOICE, YES_NO, MATCHING)
"""Tasks whose replies rules can read."""
TASKS: Final = (*RULED, CAPTIONING)
ASPECTS: Final = ("action", "direction", "speed", "order", "attribute_change")

_LETTERS: Final = "ABCD"
_LABEL_WORDS: Final = ("Sentence ", "Option ", "Caption ")


def answer_key(task: str, answer: str) -> str:
    """Return the short form of a full answer: 'B', 'yes', 'Option 2'."""
    if task == YES_NO:
        return answer.strip().lower()
    if task == MATCHING:
        return answer.partition(":")[0].strip()
    return answer.strip()[:1]


def rule_reading(task: str, gold: str, reply: str, options: Sequence[str] = ()) -> str | None:
    """Return which answer a rule reads in a reply, as `answer_key` has it; None: none does.

    Args:
        task: one of RULED.
        gold: the right answer in full.
        reply: what the model says; '</s>' and space around it do not count.
        options: of matching, the lines in full: 'Option 1: A dog runs.'. Where they are not known,
            none: then other options are read by their labels alone.
    """
    said = reply.replace("</s>", "").strip()
    if task == YES_NO:
        return next((word for word in ("yes", "no") if said.lower().startswith(word)), None)
    if task == MATCHING:
        return _matching(said, options) if options else _matching_unknown(said, gold)
    if said == gold:
        return answer_key(task, gold)
    is_begun = said[:1] in tuple(_LETTERS) and (len(said) == 1 or said[1] in ".)")
    return said[0] if is_begun else None


def _matching(said: str, options: Sequence[str]) -> str | None:
    sentence = said.split(") ")[1] if ") " in said else said
    bare = said.replace(".", "")
    found = None
    for option in options:  # as in the makers' code, the last rule that fits counts
        label, _, words = option.partition(": ")
        if said == option or words in (said, sentence):
            found = label
    for option in options:
        label = option.partition(": ")[0]
        short = label
        for word in _LABEL_WORDS:
            short = short.replace(word, "")
        if {label, short} & {said, bare}:
            found = label
    return found


def _matching_unknown(said: str, gold: str) -> str | None:
    if found := _matching(said, (gold,)):
        return found
    kind = answer_key(MATCHING, gold).rpartition(" ")[0]
    other = re.fullmatch(rf"(?:{re.escape(kind)} )?([AB12])(?:\.|: .*)?", said)
    return None if other is None else f"{kind} {other[1]}"


def rule_verdict(task: str, gold: str, reply: str, options: Sequence[str] = ()) -> bool | None:
    """Return whether a reply is right by the rules; None where none reads it.

    Args:
        task: see `rule_reading`, as for the others.
        gold: see there.
        reply: see there.
        options: see there.
    """
    found = rule_reading(task, gold, reply, options)
    return None if found is None else found == answer_key(task, gold)


def caption_verdict(gold: str, judgment: str | None) -> bool:
    """Return whether a judge took a caption for the right answer, and for no other beside it.

    Args:
        gold: of the first multi-choice question of the caption's video and aspect, in full.
        judgment: the answer that the judge gives to it; None: there is none, which is wrong.
    """
    if judgment is None:
        return False
    num_named = sum(judgment.count(f"{letter}.") for letter in _LETTERS)
    return num_named == 1 and judgment.split(". ")[0] == gold.split(". ")[0]


def row_verdict(row: Mapping[str, Any]) -> bool:
    """Return whether a row of published answers is right, with its judgment where rules end.

    Args:
        row: `task`, `gold`; of captioning `judge`, the judge's answer or None; of the others
            `by_rule`: True where a rule read the reply, False where `rating`, 0 or 1, is a
            judge's; `reply`, text or None; and `options` of matching.
    """
    if row["task"] == CAPTIONING:
        return caption_verdict(row["gold"], row.get("judge"))
    if not row["by_rule"]:
        return bool(row["rating"])
    options = row.get("options") or ()
    return rule_verdict(row["task"], row["gold"], row["reply"] or "", options) is True


@dataclass(frozen=True, slots=True)
class Tables:
    """Right answers and questions: of all, by task, by aspect; (right, questions) each."""

    by_task: dict[str, tuple[int, int]] = field(default_factory=dict)
    by_aspect: dict[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def all(self) -> tuple[int, int]:
        """Of all tasks together; the published single number where captions are among them."""
        counts = list(self.by_task.values())
        return sum(right for right, _ in counts), sum(num for _, num in counts)


def tables_of(rows: Iterable[Mapping[str, Any]]) -> Tables:
    """Return the tables of published answers; rows as `row_verdict` takes them, with `aspect`."""
    tables = Tables()
    for row in rows:
        right = row_verdict(row)
        for table, key in ((tables.by_task, row["task"]), (tables.by_aspect, row["aspect"])):
            num_right, num = table.get(key, (0, 0))
            table[key] = (num_right + right, num + 1)
    return tables


def judged_correct(judgment: str) -> bool | None:
    """Return what a judge says who is to say 'Correct' or 'Incorrect'; None: neither.

    As the makers read it: what it begins with, else which of the two words it has.
    """
    if judgment.startswith(("Correct", "Incorrect")):
        return judgment.startswith("Correct")
    if "Incorrect" in judgment:
        return False
    return True if "Correct" in judgment else None


def judged_choice(judgment: str) -> str:
    """Return the answer in a judgment of a caption: after 'Answer:', or all of it."""
    answers = [line for line in judgment.splitlines() if "Answer" in line]
    said = answers[-1].replace("Answer:", "") if answers else judgment
    return re.sub(r"[*`]", "", said).strip()
