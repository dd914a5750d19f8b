"""What a run directory keeps of one benchmark: questions, plans, answers, and what they took.

Lines of JSON, only ever appended, by each process to files of its own; a line that a crash has cut
off is dropped when its file is opened again. `merge` makes of them one file in the order of the
questions, the same bytes however the work was split.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from vxp_data.storage.local import whole_file
from vxp_model.errors import UserError
from vxp_model.eval.adapters.base import FramePlan
from vxp_model.eval.benchmarks.base import Question

RUN_NAME: Final = "run.json"
"""Of a run directory: the settings of the last command, and versions."""
ASKED_NAME: Final = "asked.json"
"""Of a benchmark's folder: of which model it was asked last, and how."""
QUESTIONS_NAME: Final = "questions.jsonl"
PLANS_NAME: Final = "plans.jsonl"
ANSWERS_NAME: Final = "answers.jsonl"
TIMINGS_NAME: Final = "timings.jsonl"
SCORES_NAME: Final = "scores.json"
_PARTS: Final = "parts"
_OF_PARTS: Final = ("asked", "plan")
"""What an answer's line has until it is merged: digests of its settings and of its plan."""


def scores_name(compat: str | None) -> str:
    """Return the name of the file of scores; another publisher's count has one of its own."""
    return SCORES_NAME if compat is None else f"scores-{compat}.json"


def digest(value: Any) -> str:
    """Return 128 bits of SHA-256 over a JSON value, in hexadecimal."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    # A lone surrogate can be in a text that a model or a file gave.
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:32]


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Return the rows of a file of JSON lines; a last line that is cut off is left out.

    Raises:
        UserError: another line is no JSON.
    """
    if not path.is_file():
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return
            try:
                row = json.loads(line)
            except ValueError as error:
                raise UserError(
                    f"{path}, line {number}: not JSON ({error}). Somebody else has written to this "
                    "file: take the line out, and run the same command again."
                ) from error
            yield row


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a file of JSON lines, whole or not at all."""
    with whole_file(path) as beside, beside.open("wb") as file:
        for row in rows:
            file.write(_line(row))


class Appended(AbstractContextManager["Appended"]):
    """A file of JSON lines that rows are added to, each whole once it is added."""

    def __init__(self, path: Path) -> None:
        """Open it; a last line that is cut off is removed."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab+")
        self._file.seek(0)
        whole = self._file.read().rfind(b"\n") + 1
        self._file.truncate(whole)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def add(self, row: Mapping[str, Any]) -> None:
        """Append a row and hand it to the operating system."""
        self._file.write(_line(row))
        self._file.flush()


class BenchmarkFolder:
    """One benchmark of a run directory."""

    def __init__(self, run: Path, name: str) -> None:
        """Name it; nothing is read or made."""
        self.path = run / name

    def part_file(self, what: str, part: str) -> Path:
        """Return where one process writes 'answers', 'plans' or 'timings'."""
        return self.path / _PARTS / f"{what}-{part}.jsonl"

    def parts(self, what: str) -> Iterator[dict[str, Any]]:
        """Return the rows of all processes."""
        for path in sorted((self.path / _PARTS).glob(f"{what}-*.jsonl")):
            yield from read_lines(path)

    def write_questions(self, questions: Sequence[Question]) -> None:
        """Keep the questions, with what is right: scores need no other file."""
        write_lines(self.path / QUESTIONS_NAME, (one.to_dict() for one in questions))

    def questions(self) -> list[Question]:
        """Return the questions of the run.

        Raises:
            UserError: there are none.
        """
        path = self.path / QUESTIONS_NAME
        if not path.is_file():
            raise UserError(f"{path}: no such file. Answer questions first: vxp-model eval.")
        return [Question.from_dict(row) for row in read_lines(path)]

    def asked(self) -> dict[str, Any]:
        """Return how the benchmark was asked last; nothing where it was written by hand."""
        path = self.path / ASKED_NAME
        return _read_json(path) if path.is_file() else {}

    def stored_plans(self, framed: str) -> dict[str, list[FramePlan]]:
        """Return the plans made with some settings, of every version of a video's file.

        Args:
            framed: digest of the settings.
        """
        found: dict[str, list[FramePlan]] = {}
        for row in self.parts("plans"):
            if row["framed"] == framed:
                plan = plan_of(row["plan"])
                found.setdefault(plan.video, []).append(plan)
        return found

    def answers(self) -> dict[str, dict[str, Any]]:
        """Return the merged answers by question."""
        return {row["question_id"]: row for row in read_lines(self.path / ANSWERS_NAME)}

    def plans(self) -> dict[str, FramePlan]:
        """Return the merged plans by video."""
        return {row["video"]: plan_of(row) for row in read_lines(self.path / PLANS_NAME)}

    def write_answers(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write the merged answers."""
        write_lines(self.path / ANSWERS_NAME, rows)

    def merge_parts(self, asked: str) -> None:
        """Merge, where processes have left parts: answers of a file have none."""
        if next(self.parts("answers"), None) is not None:
            self.merge(asked)

    def merge(self, asked: str) -> None:
        """Write answers, plans and timings of all processes in the order of the questions.

        Several processes that end at once may all do it: whoever writes last has looked once more
        whether something came in the meantime, so that what stays is whole.

        Args:
            asked: digest of the settings; rows of others are left where they are.
        """
        seen: list[int] | None = None
        while seen != (now := self._part_sizes()):
            seen = now
            self._merge_once(asked)

    def _part_sizes(self) -> list[int]:
        return [path.stat().st_size for path in sorted((self.path / _PARTS).glob("answers-*"))]

    def _merge_once(self, asked: str) -> None:
        questions = self.questions()
        answers: dict[str, dict[str, Any]] = {}
        for row in self.parts("answers"):
            name, is_answer = row["question_id"], row["error"] is None
            if row["asked"] == asked and (is_answer or answers.get(name, row)["error"] is not None):
                answers[name] = row
        rows = [answers[one.question_id] for one in questions if one.question_id in answers]
        self.write_answers([{k: v for k, v in r.items() if k not in _OF_PARTS} for r in rows])
        plans = {digest(row["plan"]): row["plan"] for row in self.parts("plans")}
        used = dict.fromkeys(row["plan"] for row in rows if row["plan"] is not None)
        write_lines(self.path / PLANS_NAME, (plans[name] for name in used))
        timings = {row["key"]: row for row in self.parts("timings")}
        keys = [f"video/{plans[name]['video']}" for name in used] + [row["key"] for row in rows]
        write_lines(self.path / TIMINGS_NAME, (timings[key] for key in keys if key in timings))


def plan_of(row: Mapping[str, Any]) -> FramePlan:
    """Return the plan that `dataclasses.asdict` wrote, once it has been through JSON."""
    return FramePlan(
        **dict(row) | {"frame_index": tuple(row["frame_index"]), "time_s": tuple(row["time_s"])}
    )


def plan_row(plan: FramePlan) -> dict[str, Any]:
    """Return a plan as JSON values."""
    return asdict(plan)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file, whole or not at all."""
    with whole_file(path) as beside:
        text = json.dumps(content, indent=1, ensure_ascii=False)
        beside.write_text(text + "\n", encoding="utf-8", errors="backslashreplace")


def read_run(run: Path) -> dict[str, Any]:
    """Return what run.json says.

    Raises:
        UserError: there is no run, or its record is broken.
    """
    path = run / RUN_NAME
    if not path.is_file():
        points = sorted(str(one.parent) for one in run.glob(f"*/{RUN_NAME}"))
        what = (
            f"It holds runs, of a sweep perhaps: name one of {', '.join(points)}."
            if points
            else "Make one: vxp-model eval."
        )
        raise UserError(f"{run}: no evaluation lies there: there is no {RUN_NAME}. {what}")
    return _read_json(path)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        content = str(error)
    if not isinstance(content, dict):
        raise UserError(
            f"{path}: no JSON object that vxp-model wrote ({content!s:.80}). Remove it, and run "
            "`vxp-model eval` with the same settings again: it goes on where it was."
        )
    return content


def _line(row: Mapping[str, Any]) -> bytes:
    text = json.dumps(row, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "backslashreplace") + b"\n"
