"""What the terminal shows of a run: progress while it runs, a table at its end."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from rich import box
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

_LINE_EVERY_S: Final = 10.0
_EXAMPLE_CHARS: Final = 52


class Subset(Protocol):
    """The columns of the closing table; see pipeline.summary.SubsetSummary."""

    task: str
    rows: int
    videos: int
    hours: float
    kept: int
    pruned: int
    duplicates: int
    quarantined: int
    threshold: float
    hours_kept: float


@dataclass(slots=True)
class ClipProgress:
    """A progress bar on a terminal; a plain line now and then in a pipe or CI."""

    console: Console
    _bar: Progress | None = None
    _total: int = 0
    _started_s: float = 0.0
    _line_at_s: float = 0.0

    def start(self, total: int) -> None:
        """Begin with so many clips ahead."""
        self._total, self._started_s = total, time.monotonic()
        self._line_at_s = self._started_s + _LINE_EVERY_S
        if self.console.is_terminal and total:
            self._bar = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
                console=self.console,
                transient=True,
            )
            self._bar.add_task("embedding", total=total, rate="starting Ray")
            self._bar.start()

    def update(self, done: int, failed: int) -> None:
        """Show how far it is."""
        now_s = time.monotonic()
        rate = done / max(1e-9, now_s - self._started_s)
        words = f"{rate:.1f} videos/s, {failed} quarantined"
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=done, rate=words)
        elif now_s >= self._line_at_s:
            left_s = (self._total - done) / max(1e-9, rate)
            self.console.print(f"{done}/{self._total} videos, {words}, about {left_s:.0f} s left")
            self._line_at_s = now_s + _LINE_EVERY_S

    def stop(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def subset_table(subsets: Sequence[Subset]) -> Table:
    """Draw the closing table: one row a task subset, and their sum; 80 columns wide."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, pad_edge=False)
    table.add_column("subset", no_wrap=True)
    for name in ("rows", "videos", "hours", "kept", "pruned", "quarantined", "threshold"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("hours kept", justify="right", no_wrap=True)
    for subset in subsets:
        table.add_row(
            subset.task,
            *(str(n) for n in (subset.rows, subset.videos)),
            _hours(subset.hours),
            *(str(n) for n in (subset.kept, subset.pruned, subset.quarantined)),
            "-" if math.isnan(subset.threshold) else f"{subset.threshold:.4f}",
            _hours(subset.hours_kept),
        )
    table.add_section()
    rows, kept, pruned, lost = (
        str(sum(getattr(s, name) for s in subsets))
        for name in ("rows", "kept", "pruned", "quarantined")
    )
    table.add_row("all", rows, "", "", kept, pruned, lost, "", "")
    return table


def reason_lines(reasons: Mapping[str, int]) -> list[str]:
    """Say how many rows were quarantined for which reason, the most frequent first."""
    ordered = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    return [f"{number:>6}  {reason}" for reason, number in ordered]


def example_lines(tasks: Mapping[str, int], examples: Mapping[str, Sequence[str]]) -> list[str]:
    """Say how many rows the rules gave to each task, with one question of each."""
    return [
        f"{tasks.get(task, 0):>6}  {task}: {_one_line(words[0])}"
        for task, words in sorted(examples.items())
        if words
    ]


def _one_line(text: str) -> str:
    words = " ".join(text.replace("<image>", "").replace("<video>", "").split())
    return words if len(words) <= _EXAMPLE_CHARS else words[: _EXAMPLE_CHARS - 3] + "..."


def _hours(hours: float) -> str:
    return f"{hours:.1f}" if hours >= 10 else f"{hours:.3f}"
