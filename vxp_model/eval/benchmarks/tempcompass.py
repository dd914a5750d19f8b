"""TempCompass: what moves, where to, how fast, in which order, and what changes; in four tasks.

Three tasks are scored by rule; captions need a judge, who answers a question from the caption
alone. The published single number is over all four tasks: without a judge there is none.

Ours reads more replies than the makers' rules do ('**B**', 'The answer is B') and takes the rest
for wrong. The convention 'official' has their rules alone; with their judge for what no rule reads
it is theirs, without one it is theirs with `--disable_llm`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

from vxp_model.errors import UserError
from vxp_model.eval.benchmarks.base import (
    About,
    Benchmark,
    Convention,
    Figure,
    JudgePrompt,
    Prompt,
    Question,
    Scored,
    Shown,
    by_group,
    units_of,
)
from vxp_model.eval.benchmarks.files import Row, find_files, read_json, read_rows
from vxp_model.eval.benchmarks.letter_labels import refuses
from vxp_model.eval.benchmarks.letters import letters_for, read_letter
from vxp_model.eval.benchmarks.tempcompass_rules import (
    CAPTIONING,
    CHOICE,
    MATCHING,
    RULED,
    TASKS,
    YES_NO,
    answer_key,
    judged_choice,
    judged_correct,
    rule_reading,
)
from vxp_model.eval.benchmarks.thoughts import without_thoughts

SUFFIXES: Final = {
    CHOICE: "\nPlease directly give the best option:",
    YES_NO: "\nPlease answer yes or no:",
    MATCHING: "\nPlease directly give the best option:",
    CAPTIONING: "",
}
"""What follows the question, as in the makers' scripts."""
_MAX_NEW_TOKENS: Final = {CHOICE: 64, YES_NO: 32, MATCHING: 128, CAPTIONING: 256}
_GET: Final = "https://github.com/llyx97/TempCompass"

_OPTION = re.compile(r"([A-D])[.)]\s+(.*\S)")
_YES_NO_SAID = re.compile(r"\banswer(?:\s+is)?\s*:?\s*\W{0,3}(yes|no)\b", re.I)
_JOINS = re.compile(r"\W*(?:\b(?:or|and|nor)\b)?\W*", re.I)
_NONE: Final = "none"
"""Parsed of a judge who finds no choice correct: readable, and never right."""
_INCORRECT: Final = "incorrect"

_CAPTION_JUDGE: Final = (
    "Below are a description of a video and a question with choices. Answer the question from the "
    "description alone. Where it says too little, or no choice is right, the answer is 'None of "
    "the choices are correct'.\nReply in two lines:\nReasoning: why, in a sentence\n"
    "Answer: the choice, letter and words\n\nVideo description: {reply}\nQuestion:\n{question}"
)
_REPLY_JUDGE: Final = (
    "Below are a question, its right answer, and a reply to it. Does the reply give the right "
    "answer? Say 'Correct' or 'Incorrect', and nothing else.\n\nQuestion:\n{question}\n"
    "Right answer: {answer}\nReply: {reply}"
)
"""What the makers' judge is asked (prompt_templates.py, CC BY-NC 4.0), in our words."""


class _RightOrWrong(Convention):
    """How answers are scored, however they are read."""

    def score(self, question: Question, parsed: str | None) -> float:
        """Return 1 for the right answer."""
        return float(parsed == question.gold)

    def summarise(self, scored: Sequence[Scored]) -> list[Figure]:
        """Return accuracies: one number, tasks, aspects and kinds.

        The first is over all questions of all four tasks where captions are judged, as published;
        without, the mean of the tasks that are there, and no number over all is given.
        """
        tasks = by_group(scored, "task")
        parts = tuple(units_of(tasks[task]) for task in RULED if task in tasks)
        mean = Figure(name="mean of the tasks scored by rule", parts=parts)
        has_all = CAPTIONING in tasks
        figures = [Figure.of("accuracy, all four tasks", units_of(scored))] if has_all else []
        figures.append(mean)
        figures += [
            Figure.of(f"accuracy, task {task}", units_of(own)) for task, own in tasks.items()
        ]
        over = "all four tasks" if has_all else "tasks scored by rule"
        for split in ("aspect", "kind"):
            for part, own in by_group(scored, split).items():
                figures.append(Figure.of(f"accuracy, {over}, {split} {part}", units_of(own)))
        for task, own in tasks.items():
            for aspect, few in by_group(own, "aspect").items():
                name = f"accuracy, task {task}, aspect {aspect}"
                figures.append(Figure.of(name, units_of(few)))
        return figures


class OfficialTempCompass(_RightOrWrong):
    """The makers' rules (eval_*.py), and no other reading."""

    judges_unparsed: ClassVar[bool] = True
    """Where there is a judge, it is asked about replies that no rule reads, as the makers do."""

    def parse(self, question: Question, reply: str) -> str | None:
        """Return what a rule reads; None where theirs would go to a judge, or be wrong."""
        task, answer = question.groups["task"], question.details["answer"]
        if task == CAPTIONING:
            return None
        return rule_reading(task, answer, reply, question.details.get("lines", ()))


class TempCompass(_RightOrWrong, Benchmark):
    """7,540 questions about 410 short videos."""

    name = "tempcompass"
    about: ClassVar[About] = About(
        title="TempCompass",
        licence="CC BY-NC 4.0",
        source=_GET,
        files="questions/{multi-choice,yes_no,caption_matching,captioning}.json, or "
        "<task>/*.parquet; meta_info.json for finer kinds; videos/<id>.mp4",
        metric="accuracy over all four tasks, captions judged; without a judge, three tasks",
        checked_against="published answers and ratings of Video-LLaVA and Gemini, and their "
        "leaderboard rows, every aspect",
        mean_s=12,
    )
    expected: ClassVar[Mapping[str, int]] = {
        "questions": 7540,
        "videos": 410,
        "task=multi-choice": 1580,
        "task=yes_no": 2453,
        "task=caption_matching": 1503,
        "task=captioning": 2004,
        "aspect=action": 1623,
        "aspect=direction": 1592,
        "aspect=speed": 1533,
        "aspect=order": 1384,
        "aspect=attribute_change": 1408,
    }
    conventions: ClassVar[Mapping[str, Convention]] = {"official": OfficialTempCompass()}

    def questions(self, root: Path) -> Iterator[Question]:
        """Return the questions, task by task; see the base class."""
        kinds = _kinds(root)
        for item in _items(root):
            yield _question_of(item, kinds)

    def prompt(self, question: Question, shown: Shown, style: str) -> Prompt:
        """Return the question as published, and what the makers' scripts add to it."""
        del shown, style
        task, details = question.groups["task"], question.details
        return Prompt(
            text=details["asked"] + SUFFIXES[task],
            max_new_tokens=_MAX_NEW_TOKENS[task],
            choices=tuple(details.get("choices", ())),
        )

    def parse(self, question: Question, reply: str) -> str | None:
        """Return 'B', 'yes', 'Option 2': by the makers' rules, else as replies name an answer.

        Of captioning: None, for only a judge can tell.
        """
        task = question.groups["task"]
        if task == CAPTIONING:
            return None
        lines = question.details.get("lines", ())
        said = re.sub(r"[*`]", "", without_thoughts(reply)).strip(" \t\r\n\"'")
        found = rule_reading(task, question.details["answer"], said, lines)
        if found is not None:
            return found
        if task == CHOICE:
            return read_letter(said, question.options, "ABCD"[: len(question.options)])
        if task == YES_NO:
            declared = {word.lower() for word in _YES_NO_SAID.findall(said)}
            return declared.pop() if len(declared) == 1 else None
        return _read_line(said, lines)

    def needs_judge(self, question: Question) -> bool:
        """Whether it asks for a caption."""
        return question.groups["task"] == CAPTIONING

    def judge_prompt(self, question: Question, reply: str) -> JudgePrompt:
        """Return what asks for an answer from the caption; of other tasks, whether it is right."""
        details = question.details
        if self.needs_judge(question):
            text = _CAPTION_JUDGE.format(reply=reply.strip(), question=details["judge_question"])
        else:
            text = _REPLY_JUDGE.format(
                question=details["asked"], answer=details["answer"], reply=reply.strip()
            )
        return JudgePrompt(text=text, max_new_tokens=128)

    def judged(self, question: Question, judgment: str) -> str | None:
        """Return the letter that a judge took a caption for; of other tasks, the right answer.

        Returns:
            what is never right where the judge says that nothing fits, or 'Incorrect'; None where
            the judgment is unclear.
        """
        if not self.needs_judge(question):
            is_right = judged_correct(judgment.strip())
            return None if is_right is None else question.gold if is_right else _INCORRECT
        answer = judged_choice(judgment)
        letter = answer.split(".")[0]
        if sum(answer.count(f"{other}.") for other in "ABCD") <= 1 and letter in tuple("ABCD"):
            return letter
        return _NONE if answer.lower().startswith("none of the") else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Item:
    """A question as the files have it."""

    task: str
    video: str
    aspect: str
    index: int
    """Among those of its task, video and aspect."""
    asked: str
    answer: str
    choice: tuple[str, str] | None
    """Of captions: question and answer that the judge is asked."""


def _items(root: Path) -> Iterator[_Item]:
    patterns = [f"{folder}{task}.json" for folder in ("questions/", "") for task in TASKS]
    parquet = [f"**/{task}/*.parquet" for task in TASKS] + [f"**/{task}*.parquet" for task in TASKS]
    path = find_files(root, [*patterns, *parquet], get=_GET)[0]
    yield from _json_items(path.parent) if path.suffix == ".json" else _parquet_items(root)


def _json_items(folder: Path) -> Iterator[_Item]:
    """Return the questions of {video: {aspect: [{"question", "answer"}]}}, a file a task."""
    rows = {task: list(_nested(folder / f"{task}.json")) for task in TASKS}
    first = {
        (video, aspect): (row.text("question"), row.text("answer"))
        for video, aspect, index, row in rows[CHOICE]
        if index == 0
    }
    for task in TASKS:
        for video, aspect, index, row in rows[task]:
            choice = first.get((video, aspect))
            if task == CAPTIONING and choice is None:
                raise row.wrong(aspect, None, f"a question of {CHOICE}.json about video {video!r}")
            yield _Item(
                task=task,
                video=video,
                aspect=aspect,
                index=index,
                asked=row.text("question"),
                answer=row.text("answer"),
                choice=choice if task == CAPTIONING else None,
            )


def _nested(path: Path) -> Iterator[tuple[str, str, int, Row]]:
    """Return (video, aspect, index, row); nothing where there is no such file."""
    if not path.is_file():
        return
    number = 0
    wanted = "{video: {aspect: [rows]}}"
    videos = read_json(path, get=_GET)
    if not isinstance(videos, dict):
        raise Row({}, path, 0, _GET).wrong("file", videos, wanted)
    for video, aspects in videos.items():
        if not isinstance(aspects, dict):
            raise Row({}, path, number, _GET).wrong(video, aspects, wanted)
        for aspect, rows in aspects.items():
            for index, values in enumerate(rows if isinstance(rows, list) else [rows]):
                if not isinstance(values, dict):
                    raise Row({}, path, number, _GET).wrong(f"{video}/{aspect}", values, wanted)
                yield video, aspect, index, Row(values, path, number, _GET)
                number += 1


def _parquet_items(root: Path) -> Iterator[_Item]:
    """Return the questions of rows `video_id, question, answer, dim`, a folder or file a task."""
    for task in TASKS:
        counts: Counter[tuple[str, str]] = Counter()
        paths = sorted({*root.glob(f"**/{task}/*.parquet"), *root.glob(f"**/{task}*.parquet")})
        for row in (row for path in paths for row in read_rows(path, get=_GET)):
            video, aspect = row.text("video_id"), row.text("dim")
            is_caption = task == CAPTIONING
            choice = (row.text("mc_question"), row.text("mc_answer")) if is_caption else None
            yield _Item(
                task=task,
                video=video,
                aspect=aspect,
                index=counts[video, aspect],
                asked=row.text("question"),
                answer=choice[1] if choice else row.text("answer"),
                choice=choice,
            )
            counts[video, aspect] += 1


def _question_of(item: _Item, kinds: Mapping[tuple[str, str], str]) -> Question:
    details: dict[str, Any] = {"asked": item.asked, "answer": item.answer}
    text, *lines = item.asked.split("\n")
    options: tuple[str, ...] = ()
    gold = answer_key(item.task, item.answer)
    if item.task == CAPTIONING:
        text = item.asked
        if item.choice:
            details["judge_question"], details["answer"] = item.choice
            gold = answer_key(CHOICE, item.choice[1])
    elif item.task == YES_NO:
        text, details["choices"] = item.asked, ["Yes", "No"]
    elif item.task == CHOICE:
        found = [one for line in lines if (one := _OPTION.fullmatch(line.strip()))]
        options = tuple(one[2] for one in found)
        details["choices"] = [one[1] for one in found]
    else:
        details["lines"] = [line.strip() for line in lines if line.strip()]
        options = tuple(line.partition(": ")[2] for line in details["lines"])
        details["choices"] = [answer_key(MATCHING, line) for line in details["lines"]]
    kind = kinds.get((item.video, item.aspect))
    groups = {"task": item.task, "aspect": item.aspect} | ({"kind": kind} if kind else {})
    return Question(
        question_id=f"{item.task}/{item.video}/{item.aspect}/{item.index}",
        video=f"videos/{item.video}.mp4",
        text=text,
        options=options,
        gold=gold,
        groups=groups,
        details=details,
    )


def _kinds(root: Path) -> dict[tuple[str, str], str]:
    """Return the finer kind of every video and aspect, where meta_info.json says it."""
    path = root / "meta_info.json"
    if not path.is_file():
        return {}
    found = {}
    try:
        for video, about in read_json(path, get=_GET).items():
            for aspect, told in about["eval_dim"].items():
                if told:
                    found[video, aspect] = str(told.get("type", aspect))  # 'order' has none
    except (AttributeError, KeyError, TypeError) as error:
        raise UserError(
            f"{path}: not as published ({type(error).__name__}: {error}). Get it again from "
            f"{_GET}, or remove it: questions then have no finer kinds."
        ) from error
    return found


def _read_line(said: str, lines: Sequence[str]) -> str | None:
    """Return the label of the only line that a reply names, by its label or by its words."""
    if not lines:
        return None
    labels = [answer_key(MATCHING, line) for line in lines]
    words = [line.partition(": ")[2] for line in lines]
    any_label = re.compile(rf"\b(?:{'|'.join(map(re.escape, labels))})\b", re.I)
    named = [one for one in any_label.finditer(said) if not refuses(said[one.end() :])]
    if not named:
        plain = [own.rstrip(".").lower() for own in words]
        found = [a for a, own in zip(labels, plain, strict=True) if own and own in said.lower()]
        return found[0] if len(found) == 1 else _by_letter(said, labels, words)
    different = list(dict.fromkeys(one[0].lower() for one in named))
    is_first = not re.search(r"\w", said[: named[0].start()])
    between = said[named[0].end() : named[1].start()] if named[1:] else "."
    if len(different) > 1 and (not is_first or _JOINS.fullmatch(between)):
        return None
    return next(label for label in labels if label.lower() == different[0])


def _by_letter(said: str, labels: Sequence[str], words: Sequence[str]) -> str | None:
    """Return the label whose letter a reply names; None where labels are numbered."""
    letters = letters_for(len(labels))
    if [label[-1:] for label in labels] != list(letters):
        return None
    found = read_letter(said, words, letters)
    return None if found is None else labels[letters.index(found)]
