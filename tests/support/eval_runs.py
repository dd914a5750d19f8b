"""Run directories of an evaluation, written by hand, over an invented benchmark."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from support.distributions import install, offer
from vxp_model.errors import UserError
from vxp_model.eval.adapters.base import FramePlan
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
    accuracy_figures,
    by_group,
    units_of,
)
from vxp_model.eval.store import (
    ANSWERS_NAME,
    ASKED_NAME,
    PLANS_NAME,
    RUN_NAME,
    plan_row,
    write_lines,
)
from vxp_model.eval.stored import JUDGMENTS_NAME

SHAPES = "shapes"
SPANS = "spans"
LETTERS = "ABCDEF"
_ENTRY_POINTS = f"""\
[vxp_model.benchmarks]
{SHAPES} = support.eval_runs:Shapes
{SPANS} = support.eval_runs:Spans
"""


class _Invented(Benchmark):
    about = About(
        title="An invented benchmark",
        licence="none",
        source="tests",
        files="questions.jsonl",
        metric="M-Avg",
        checked_against="nothing",
    )

    def questions(self, root: Path) -> Iterator[Question]:
        path = root / "questions.jsonl"
        if not path.is_file():
            raise UserError(f"{path}: no such file.")
        for line in path.read_text(encoding="utf-8").splitlines():
            yield Question.from_dict(json.loads(line))

    def prompt(self, question: Question, shown: Shown, style: str) -> Prompt:
        del shown, style
        return Prompt(text=question.text)


class _FirstWords(Convention):
    """Reads only a bare letter, and leaves out what it cannot read."""

    def parse(self, question: Question, reply: str) -> str | None:
        del question
        return reply if reply in LETTERS else None

    def score(self, question: Question, parsed: str | None) -> float:
        return float(parsed == question.gold)

    def summarise(self, scored: Sequence[Scored]) -> list[Figure]:
        return [Figure.of("accuracy", units_of(one for one in scored if one.parsed is not None))]


class Shapes(_Invented):
    """Which shape it is, by task: M-Avg over tasks, and the plain accuracy; free texts by judge."""

    name = SHAPES
    conventions: ClassVar[Mapping[str, Convention]] = {"official": _FirstWords()}

    def needs_judge(self, question: Question) -> bool:
        return not question.options

    def judge_prompt(self, question: Question, reply: str) -> JudgePrompt:
        return JudgePrompt(text=f"{question.text} {reply}")

    def judged(self, question: Question, judgment: str) -> str | None:
        del question
        return judgment if judgment in ("good", "bad") else None

    def parse(self, question: Question, reply: str) -> str | None:
        found = reply.strip().strip("().").upper()[:1]
        return found if found and found in LETTERS[: len(question.options)] else None

    def score(self, question: Question, parsed: str | None) -> float:
        return float(parsed is not None and parsed == question.gold)

    def summarise(self, scored: Sequence[Scored]) -> list[Figure]:
        tasks = by_group(scored, "task").values()
        macro = Figure(name="M-Avg", parts=tuple(units_of(own) for own in tasks))
        return [macro, *accuracy_figures(scored, ["task", "length"])]


class Spans(_Invented):
    """When it happens: the share of the gold span that is met."""

    name = SPANS

    def parse(self, question: Question, reply: str) -> str | None:
        del question
        return reply or None

    def score(self, question: Question, parsed: str | None) -> float:
        if parsed is None:
            return 0.0
        (a, b), (c, d) = (map(float, text.split("-")) for text in (question.gold, parsed))
        return max(0.0, min(b, d) - max(a, c)) / (max(b, d) - min(a, c))

    def summarise(self, scored: Sequence[Scored]) -> list[Figure]:
        return [Figure.of("mIoU", units_of(scored))]


def offer_benchmarks(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Register both as a third party does; `folder` takes the package's metadata."""
    offer(monkeypatch, install(folder / "packages", "invented-benchmarks", _ENTRY_POINTS))


def shape_questions(num_videos: int = 4, per_video: int = 3) -> list[Question]:
    """Invent questions: of one task and of another in turn; the right answer goes round."""
    return [
        Question(
            question_id=f"{video}-{at}",
            video=f"videos/clip_{video}.mp4",
            text=f"Which shape comes {at + 1}. in film {video}?",
            options=("circle", "square", "star", "line"),
            gold=LETTERS[(video + at) % 4],
            groups={
                "task": ("counting", "order")[at % 2],
                "length": "short" if video % 2 else "long",
            },
        )
        for video in range(num_videos)
        for at in range(per_video)
    ]


def answer(question: Question, reply: str | None, **more: Any) -> dict[str, Any]:
    """Write an answer's row; without a reply, one whose video is missing."""
    error = None if reply is not None else {"reason": "missing", "message": "no such file"}
    row: dict[str, Any] = {
        "key": f"key-{question.question_id}",
        "question_id": question.question_id,
        "video": question.video,
        "reply": reply,
        "finish": "stop" if reply is not None else None,
        "frames": 8,
        "visual_tokens": 64,
        "kept_tokens": 64,
        "kept_by_group": None,
        "log_probs": None,
        "error": error,
    }
    return row | more


def plan_of(video: str, *, num_frames: int = 8, num_bytes: int = 1) -> FramePlan:
    """Plan the first frames of a video with one a second."""
    return FramePlan(
        video=video,
        frame_index=tuple(range(num_frames)),
        time_s=tuple(float(at) for at in range(num_frames)),
        duration_s=float(num_frames),
        width_px=64,
        height_px=64,
        num_bytes=num_bytes,
    )


Reply = Callable[[Question], str | None]


def write_run(
    run: Path,
    questions: Sequence[Question],
    reply: Reply,
    *,
    benchmark: str = SHAPES,
    plans: Sequence[FramePlan] | None = None,
    data: Path | None = None,
    judgments: Mapping[str, str] | None = None,
    **more: Any,
) -> Path:
    """Write a run directory over one benchmark.

    Args:
        run: made where it is not there.
        questions: of the run.
        reply: what the model says to each; None: its video is missing.
        benchmark: whose.
        plans: of the videos; None: eight frames of each.
        data: where the videos lie, for the record.
        judgments: by question.
        more: into every answer's row.
    """
    folder = run / benchmark
    folder.mkdir(parents=True, exist_ok=True)
    write_lines(folder / "questions.jsonl", (one.to_dict() for one in questions))
    rows = [answer(one, said, **(more if said is not None else {})) for one in questions
            for said in [reply(one)]]  # fmt: skip
    write_lines(folder / ANSWERS_NAME, rows)
    if plans is None:
        plans = [plan_of(video) for video in dict.fromkeys(one.video for one in questions)]
    write_lines(folder / PLANS_NAME, map(plan_row, plans))
    if judgments is not None:
        kept = [{"question_id": name, "judgment": text} for name, text in judgments.items()]
        write_lines(folder / JUDGMENTS_NAME, kept)
    own = {"name": benchmark, "data": str(data or "nowhere")}
    settings = {"model": "models/tiny", "benchmarks": [own]}
    record = {"settings": settings, "versions": {"vxp": "0.1.0"}}
    (run / RUN_NAME).write_text(json.dumps(record), encoding="utf-8")
    if data is not None:
        asked = {"asked": "by hand", "data": str(data), "media": str(data)}
        (folder / ASKED_NAME).write_text(json.dumps(asked), encoding="utf-8")
    return run
