"""MLVU: the tasks with options, of its development and of its test set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Final

from vxp_model.eval.benchmarks.base import (
    About,
    Convention,
    Figure,
    Prompt,
    Question,
    Scored,
    Shown,
)
from vxp_model.eval.benchmarks.choice import (
    ChoiceBenchmark,
    PublishedChoice,
    gold_letter,
    mean_over_parts,
    option_lines,
    plain_accuracy,
    split_options,
    with_gold,
)
from vxp_model.eval.benchmarks.files import Row, find_files, read_rows
from vxp_model.eval.benchmarks.published import before_bracket, lmms_eval_letter, mlvu_test_letter

SYSTEM: Final = (
    "Carefully watch this video and pay attention to every detail. Based on your observations, "
    "select the best option that accurately addresses the question."
)
"""Of MLVU's own scripts, and of Video-XL's for VNBench."""
_DEV: Final = "https://huggingface.co/datasets/MLVU/MVLU (ask for access)"
_TEST: Final = "https://huggingface.co/datasets/MLVU/MLVU_Test (ask for access)"
_STEMS: Final = {
    "1_plotQA": "PQA",
    "2_needle": "NQA",
    "3_ego": "ER",
    "4_count": "AC",
    "5_order": "AO",
    "6_anomaly_reco": "AR",
    "7_topic_reasoning": "TR",
}
"""Files of the development set with options -> task."""
TASK_OF_TYPE: Final = {
    "plotQA": "PQA",
    "findNeedle": "NQA",
    "needle": "NQA",
    "needleQA": "NQA",
    "ego": "ER",
    "count": "AC",
    "order": "AO",
    "anomaly_reco": "AR",
    "topic_reasoning": "TR",
    "tutorialQA": "TQA",
    "sportsQA": "SQA",
}
"""`question_type`, `task_type` -> task; of several names of a task the test set's comes last."""


def bracketed(question: Question) -> str:
    """Return question and options as MLVU writes them."""
    lines = option_lines(question.options, "({}) {}")
    return "\n".join([f"Question: {question.text}", "Options:", *lines])


def macro_first(scored: Sequence[Scored]) -> list[Figure]:
    """Return M-Avg, the mean of the tasks' accuracies, then the accuracy over all and by task.

    Both go by the name of M-Avg in papers, and differ by points.
    """
    return [mean_over_parts(scored, "task", "M-Avg"), *plain_accuracy("task")(scored)]


class _Mlvu(ChoiceBenchmark):
    splits = ("task",)

    def prompt(self, question: Question, shown: Shown, style: str) -> Prompt:
        """Return MLVU's own prompt, whose reply begins with '(', or lmms-eval's."""
        del shown
        choices = tuple(self.letters(question))
        if style == "lmms-eval":
            lines = [question.text, *option_lines(question.options, "({}) {}")]
            text = "\n".join([*lines, *self._lmms_eval_end()])
            return Prompt(text=text, choices=choices)
        return Prompt(
            text=f"{bracketed(question)}\nOnly give the best option.",
            system=SYSTEM,
            reply_start="Best Option: (",
            choices=choices,
        )

    def _lmms_eval_end(self) -> list[str]:
        return ["Only give the best option.", "Best option: ("]

    def summarise(self, scored: Sequence[Scored]) -> list[Figure]:
        """Return M-Avg as the mean over tasks, then the plain accuracy, then every task."""
        return macro_first(with_gold(scored))


class Mlvu(_Mlvu):
    """Benchmark 'mlvu': the development set."""

    name = "mlvu"
    about = About(
        title="MLVU (development set, 7 tasks with options)",
        licence="CC-BY-NC-SA 4.0",
        source=_DEV,
        files="MLVU/json/1_plotQA.json .. 7_topic_reasoning.json, MLVU/video/<same>/<video>; or "
        "the Parquet that lmms-eval reads (2,174 questions)",
        metric="M-Avg: mean of the 7 tasks' accuracies; the plain accuracy beside it",
        checked_against="invented rows scored by hand: no answers are published",
        mean_s=930,
    )
    expected: ClassVar[Mapping[str, int]] = {
        "questions": 2175,
        "videos": 1242,
        "task=PQA": 539,
        "task=NQA": 355,
        "task=ER": 352,
        "task=AC": 206,
        "task=AO": 259,
        "task=AR": 200,
        "task=TR": 264,
    }
    styles = ("official", "lmms-eval")
    conventions: ClassVar[Mapping[str, Convention]] = {
        "official": PublishedChoice(before_bracket, macro_first),
        "lmms-eval": PublishedChoice(lmms_eval_letter, macro_first),
        "vlmevalkit": PublishedChoice(before_bracket, plain_accuracy("task")),
    }

    def questions(self, root: Path) -> Iterator[Question]:
        """Return the questions task by task; a task whose file is not there is told by counts."""
        patterns = ["MLVU/json/[1-7]_*.json", "json/[1-7]_*.json", "[1-7]_*.json"]
        patterns += ["data/*.parquet", "*.parquet", "**/*.parquet"]
        paths = find_files(root, patterns, get=_DEV)
        if paths[0].suffix == ".parquet":
            rows = (row for path in paths for row in read_rows(path, get=_DEV))
            yield from (_of_parquet(row, number) for number, row in enumerate(rows))
            return
        folder = paths[0].parent
        for stem, task in _STEMS.items():
            path = folder / f"{stem}.json"
            if path not in paths:
                continue
            below = folder.parent.relative_to(root) if folder.name == "json" else Path()
            for row in read_rows(path, get=_DEV):
                yield _of_row(
                    row,
                    question_id=f"{stem}-{row.number}",
                    video=(below / "video" / stem / row.file("video")).as_posix(),
                    task=task,
                )


class MlvuTest(_Mlvu):
    """Benchmark 'mlvu_test': six options."""

    name = "mlvu_test"
    most_options = 6
    about = About(
        title="MLVU (test set, 9 tasks with options)",
        licence="CC-BY-NC-SA 4.0",
        source=_TEST,
        files="test-ground-truth/test_mcq_gt.json, video/<video>",
        metric="M-Avg: mean of the 9 tasks' accuracies; the plain accuracy beside it",
        checked_against="invented rows scored by hand: no answers are published",
        mean_s=930,
    )
    expected: ClassVar[Mapping[str, int]] = {
        "questions": 502,
        "videos": 349,
        "task=TR": 91,
        "task=AO": 70,
        "task=NQA": 60,
        "task=AC": 60,
        "task=ER": 53,
        "task=PQA": 50,
        "task=TQA": 43,
        "task=AR": 39,
        "task=SQA": 36,
    }
    styles = ("official", "lmms-eval")
    conventions: ClassVar[Mapping[str, Convention]] = {
        "official": PublishedChoice(mlvu_test_letter, macro_first),
        "lmms-eval": PublishedChoice(lmms_eval_letter, macro_first),
    }

    def _lmms_eval_end(self) -> list[str]:
        return []  # lmms-eval 0.7.3 asks for no form of answer there

    def questions(self, root: Path) -> Iterator[Question]:
        """Return the questions that have options; those of SSC and VS have none."""
        patterns = ["test-ground-truth/test_mcq_gt.json", "test_mcq_gt.json"]
        patterns += [f"*/{pattern}" for pattern in patterns]
        for path in find_files(root, patterns, get=_TEST):
            for row in read_rows(path, get=_TEST):
                yield _of_row(
                    row,
                    question_id=row.text("question_id"),
                    video=f"video/{row.file('video')}",
                    task=TASK_OF_TYPE[row.one_of("question_type", list(TASK_OF_TYPE))],
                )


def _of_row(row: Row, *, question_id: str, video: str, task: str) -> Question:
    options = row.words("candidates")
    gold, details = gold_letter(options, row.word("answer"))
    return Question(
        question_id=question_id,
        video=video,
        text=row.text("question"),
        options=options,
        gold=gold,
        groups={"task": task},
        details=details,
    )


def _of_parquet(row: Row, number: int) -> Question:
    text, options = split_options(row.text("question"))
    kind = row.one_of("task_type", list(TASK_OF_TYPE))
    task, name = TASK_OF_TYPE[kind], row.file("video_name")
    if not options:
        raise row.wrong("question", row.text("question"), "options below it, a line each")
    letter = row.text("answer").strip("() .")
    gold, details = letter, dict[str, list[str]]()
    if letter not in "ABCDEF"[: len(options)]:
        gold, details = gold_letter(options, row.text("answer"))
    stem = next((stem for stem, own in _STEMS.items() if own == task), kind)
    return Question(
        question_id=f"{kind}-{number}",
        video=f"MLVU/video/{stem}/{name}",
        text=text,
        options=options,
        gold=gold,
        groups={"task": task},
        details=details,
    )
