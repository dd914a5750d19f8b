"""The questions of a run: read, counted against what was published, and cut as the user says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from vxp_data.errors import unknown_name
from vxp_model.errors import UserError
from vxp_model.eval.benchmarks.base import Benchmark, Question


def load_questions(
    benchmark: Benchmark,
    root: Path,
    *,
    only: Mapping[str, Sequence[str]] | None = None,
    limit: int | None = None,
    allow_partial: bool = False,
) -> list[Question]:
    """Read a benchmark's questions.

    Args:
        benchmark: whose.
        root: folder with its annotation files.
        only: split -> its parts that are asked; None: all.
        limit: the first so many of them.
        allow_partial: go on where the files hold other numbers than were published.

    Raises:
        UserError: a file is missing or wrong, holds other numbers than were published, or a split
            or part is unknown.
    """
    if not root.is_dir():
        raise UserError(f"{root}: there is no such folder. {benchmark.name} needs there: "
                        f"{benchmark.about.files}")  # fmt: skip
    questions = list(benchmark.questions(root))
    if not allow_partial:
        _check_counts(benchmark, root, questions)
    for split, parts in (only or {}).items():
        questions = _only(benchmark, questions, split, parts)
    return questions[:limit]


def counts_of(questions: Sequence[Question]) -> Counter[str]:
    """Count questions, videos, and questions of every part, named as `Benchmark.expected` does."""
    found = Counter(f"{split}={part}" for one in questions for split, part in one.groups.items())
    found["questions"] = len(questions)
    found["videos"] = len({one.video for one in questions})
    return found


def _check_counts(benchmark: Benchmark, root: Path, questions: Sequence[Question]) -> None:
    found = counts_of(questions)
    wrong = [
        f"{name} {found[name]} (published: {number})"
        for name, number in benchmark.expected.items()
        if found[name] != number
    ]
    if wrong:
        raise UserError(
            f"{root}: the files are not {benchmark.name} as published: {'; '.join(wrong)}. Get "
            f"them anew from {benchmark.about.source}, or go on with what there is: "
            "--allow-partial."
        )


def _only(
    benchmark: Benchmark, questions: Sequence[Question], split: str, parts: Sequence[str]
) -> list[Question]:
    known = {one.groups[split] for one in questions if split in one.groups}
    if not known:
        splits = {name for one in questions for name in one.groups}
        raise unknown_name(f"split of {benchmark.name}", split, splits)
    for part in parts:
        if part not in known:
            raise unknown_name(f"{split} of {benchmark.name}", part, known)
    return [one for one in questions if one.groups.get(split) in parts]
