"""What else is read from a run directory: which benchmarks, judgments, where media lay."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from vxp_model.errors import UserError
from vxp_model.eval.store import QUESTIONS_NAME, BenchmarkFolder, read_lines, read_run

JUDGMENTS_NAME: Final = "judgments.jsonl"


def benchmarks_of(run: Path) -> list[str]:
    """Return the names of the benchmarks that a run has questions of."""
    return sorted(path.parent.name for path in run.glob(f"*/{QUESTIONS_NAME}"))


def chosen_benchmark(run: Path, benchmark: str | None) -> list[str]:
    """Return the benchmarks of a run, or the one that is named.

    Raises:
        UserError: there is no run, or it has no such benchmark.
    """
    read_run(run)
    names = benchmarks_of(run)
    if benchmark is None:
        return names
    if benchmark not in names:
        raise UserError(
            f"{run} has no answers to {benchmark!r}. It has: {', '.join(names) or 'none'}."
        )
    return [benchmark]


def read_judgments(folder: BenchmarkFolder) -> dict[str, str]:
    """Return what a judge said, by question; nothing where there was none."""
    rows = read_lines(folder.path / JUDGMENTS_NAME)
    return {row["question_id"]: row["judgment"] for row in rows}


def media_folder(run: Path, benchmark: str) -> str | None:
    """Return where a benchmark's videos lay when it was asked; None: the record does not say."""
    for own in read_run(run).get("settings", {}).get("benchmarks", ()):
        if own["name"] == benchmark:
            found: str = own.get("media") or own["data"]
            return found
    return None
