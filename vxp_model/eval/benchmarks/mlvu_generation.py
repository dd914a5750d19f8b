"""MLVU, the two tasks that are answered in sentences: sub-scene captioning and summaries.

A judge gives each answer two ratings of 1 to 5; their sum is its score, from 2 to 10, and 0 where
the judgment cannot be read. G-Avg is the mean of the two tasks.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Final

from vxp_model.eval.benchmarks.base import (
    About,
    Benchmark,
    Figure,
    JudgePrompt,
    Prompt,
    Question,
    Scored,
    Shown,
    Unit,
    by_group,
)
from vxp_model.eval.benchmarks.files import Row, find_files, read_rows
from vxp_model.eval.benchmarks.mlvu_judge_prompts import (
    SCORE_NAMES,
    SSC_SYSTEM,
    SSC_USER,
    VS_SYSTEM,
    VS_USER,
)

SYSTEM: Final = (
    "Carefully watch this video and pay attention to every detail. Based on your observations, "
    "answer the given questions."
)
"""Of the makers' template for these tasks."""
_GET: Final = "https://huggingface.co/datasets/MLVU/MVLU"
_FILES: Final = {"SSC": "8_*.json", "VS": "9_*.json"}
_BEST: Final = 10
"""Greatest sum of the two ratings."""


class MlvuGeneration(Benchmark):
    """201 sub-scene captions and 217 summaries of the dev set."""

    name = "mlvu_generation"
    about: ClassVar[About] = About(
        title="MLVU, generation",
        licence="CC-BY-NC-SA 4.0; videos are gated",
        source=_GET,
        files="MLVU/json/{8_sub_scene,9_summary}.json; MLVU/video/<same stem>/<video>",
        metric="G-Avg, of 10; needs a judge",
        checked_against="judgments scored by hand; the judge's words are not the makers'",
        mean_s=930,
    )
    expected: ClassVar[Mapping[str, int]] = {
        "questions": 418,
        "videos": 417,
        "task=SSC": 201,
        "task=VS": 217,
    }

    def questions(self, root: Path) -> Iterator[Question]:
        """Return the captions, then the summaries; see the base class."""
        for task, pattern in _FILES.items():
            places = tuple(f"{folder}{pattern}" for folder in ("MLVU/json/", "json/", ""))
            for path in find_files(root, places, get=_GET):
                # Videos lie beside the folder of the annotations.
                beside = path.parent.parent if path.parent.name == "json" else path.parent
                folder = f"{(beside / 'video').relative_to(root).as_posix()}/{path.stem}"
                for row in read_rows(path, get=_GET):
                    yield _question_of(row, task, folder)

    def prompt(self, question: Question, shown: Shown, style: str) -> Prompt:
        """Return the question alone, under the makers' system turn."""
        del shown, style
        return Prompt(text=question.text, system=SYSTEM, max_new_tokens=1000)

    def parse(self, question: Question, reply: str) -> str | None:
        """Return None: only a judge can tell what a reply is worth."""
        del question, reply
        return None

    def needs_judge(self, question: Question) -> bool:
        """Whether it is a question: all do."""
        del question
        return True

    def judge_prompt(self, question: Question, reply: str) -> JudgePrompt:
        """Return what asks for the two ratings of its task."""
        told = question.details
        if question.groups["task"] == "SSC":
            points = json.dumps(told["scoring_points"], ensure_ascii=False)
            text = SSC_USER.format(question=question.text, points=points, reply=reply)
            return JudgePrompt(system=SSC_SYSTEM, text=text, max_new_tokens=1024)
        text = VS_USER.format(answer=told["answer"], reply=reply)
        return JudgePrompt(system=VS_SYSTEM, text=text, max_new_tokens=1024)

    def judged(self, question: Question, judgment: str) -> str | None:
        """Return the two ratings as '5 + 5'; None where one is missing or is none of 1 to 5."""
        ratings = []
        for name in SCORE_NAMES[question.groups["task"]]:
            found = re.findall(rf"{name}\W{{1,6}}(\d+(?:\.\d+)?)(?![\d.]*\d)", judgment)
            if not found or not 1 <= float(found[-1]) <= 5:  # the last: reasons may name it too
                return None
            ratings.append(f"{float(found[-1]):.12g}")
        return " + ".join(ratings)

    def score(self, question: Question, parsed: str | None) -> float:
        """Return the sum of the ratings, as a share of 10."""
        del question
        return sum(_ratings(parsed)) / _BEST

    def summarise(self, scored: Sequence[Scored]) -> list[Figure]:
        """Return G-Avg and its tasks, of 10, then the tasks' two ratings, of 5."""
        tasks = by_group(scored, "task")
        sums = {
            task: tuple(_unit(one, one.score * _BEST) for one in own) for task, own in tasks.items()
        }
        figures = [Figure(name="G-Avg (of 10)", parts=tuple(sums.values()), best=_BEST)]
        for task, units in sums.items():
            figures.append(Figure.of(f"score (of 10), task {task}", units, best=_BEST))
            for place, name in enumerate(SCORE_NAMES[task]):
                own = (_unit(one, _ratings(one.parsed)[place]) for one in tasks[task])
                said = name.removeprefix("score_")
                figures.append(Figure.of(f"{said} (of 5), task {task}", own, best=_BEST / 2))
        return figures


def _unit(one: Scored, value: float) -> Unit:
    return Unit(value=value, video=one.question.video)


def _ratings(parsed: str | None) -> tuple[float, float]:
    """Return the two ratings of `judged`; 0 where it gave none."""
    found = re.fullmatch(r"([\d.]+) \+ ([\d.]+)", parsed or "")
    return (float(found[1]), float(found[2])) if found else (0.0, 0.0)


def _question_of(row: Row, task: str, folder: str) -> Question:
    points = {"scoring_points": list(row.words("scoring_points", least=1))} if task == "SSC" else {}
    return Question(
        question_id=f"{row.path.stem}_{row.number}",
        video=f"{folder}/{row.file('video')}",
        text=row.text("question"),
        gold="5 + 5",
        groups={"task": task},
        details={"answer": row.text("answer"), **points},
    )
