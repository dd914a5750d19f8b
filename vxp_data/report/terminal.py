"""What the terminal shows of a run: progress while it runs, a table at its end."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from vxp_data.core.dataset_rows import DatasetRows
from vxp_data.shard_index import ShardEntry

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

_LINE_EVERY_S: Final = 10.0
_EXAMPLE_CHARS: Final = 52
_SHARE_FOR_A_GUESS: Final = 0.03
"""The dearest files are read first: before so many are, the time left would be guessed by them."""
_MESSAGE_CHARS: Final = 600


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
    _line_at_s: float = 0.0

    def start(self, total: int) -> None:
        """Begin with so many clips ahead, of which none is read yet."""
        self._total, self._line_at_s = total, time.monotonic() + _LINE_EVERY_S
        if self.console.is_terminal and total:
            from rich.progress import (  # tables alone need none of it
                BarColumn,
                MofNCompleteColumn,
                Progress,
                SpinnerColumn,
                TextColumn,
            )

            self._bar = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[words]}"),
                console=self.console,
                transient=True,
            )
            self._bar.add_task("videos", total=total, words="starting ...")
            self._bar.start()
        elif total:
            self.console.print(f"{total} videos to read; starting ...")

    def update(self, done: int, failed: int, seconds: float) -> None:
        """Show how far it is.

        Args:
            done: clips so far.
            failed: of these, the quarantined ones.
            seconds: what they took, without what it took to start.
        """
        rate = done / max(1e-9, seconds)
        words = f"{rate:.1f} videos/s, {failed} quarantined"
        if done >= _SHARE_FOR_A_GUESS * self._total:
            words += f", about {time_words((self._total - done) / max(1e-9, rate))} left"
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=done, words=words)
        elif (now_s := time.monotonic()) >= self._line_at_s:
            self.console.print(f"{done}/{self._total} videos, {words}")
            self._line_at_s = now_s + _LINE_EVERY_S

    def stop(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def time_words(seconds: float) -> str:
    """Return a length of time in the unit in which it is a small number."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def subset_table(subsets: Sequence[Subset]) -> str:
    """Draw the closing table, 80 columns wide: one row a task subset, and their sum."""
    duplicates = ("duplicates",) if any(subset.duplicates for subset in subsets) else ()
    counted = ("kept", "pruned", *duplicates, "quarantined")
    header = ("subset", "rows", "videos", "hours", *counted, "threshold")
    rows: list[tuple[str, ...]] = [(*header, "h kept")]
    for subset in subsets:
        counts = [getattr(subset, name) for name in counted]
        cut = "-" if math.isnan(subset.threshold) else f"{subset.threshold:.4f}"
        hours, kept = _hours(subset.hours), _hours(subset.hours_kept)
        rows.append(
            (subset.task, str(subset.rows), str(subset.videos), hours, *map(str, counts), cut, kept)
        )
    sums = {name: str(sum(getattr(s, name) for s in subsets)) for name in (*counted, "rows")}
    rows.append(("all", sums["rows"], "", "", *(sums[name] for name in counted), "", ""))
    lines = aligned(rows).split("\n")
    rule = "-" * len(lines[0])
    return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1].rstrip()])


def rows_table(datasets: Sequence[DatasetRows]) -> str:
    """Draw a table: rows of each dataset that are wanted, found and kept; '' if none are wanted."""
    if all(dataset.wanted is None for dataset in datasets):
        return ""
    rows: list[tuple[str, ...]] = [("dataset", "rows", "wanted", "found", "kept", "")]
    for d in datasets:
        wanted = "-" if d.wanted is None else f"{d.wanted:,}"
        lacking = "" if d.wanted is None or d.found >= d.wanted else f"{d.wanted - d.found:,} short"
        rows.append((d.dataset, f"{d.num_in:,}", wanted, f"{d.found:,}", f"{d.kept:,}", lacking))
    return "\n".join(line.rstrip() for line in aligned(rows).split("\n"))


def shard_table(shards: Sequence[ShardEntry]) -> str:
    """Draw a table of shards, one row a kind: how many, what is in them, how even they are."""
    header = ("kind", "shards", "clips", "rows", "frames", "MB", "MB a shard", "decode balance")
    lines: list[tuple[str, ...]] = [header]
    for kind in sorted({shard.kind for shard in shards}):
        own = [shard for shard in shards if shard.kind == kind]
        megabytes = [shard.num_bytes / 1e6 for shard in own]
        costs = [shard.decode_cost for shard in own]
        mean = sum(costs) / len(costs)
        lines.append(
            (
                kind,
                str(len(own)),
                *(str(sum(getattr(s, n) for s in own)) for n in ("num_clips", "num_samples")),
                str(sum(s.num_frames for s in own)),
                f"{sum(megabytes):.1f}",
                f"{min(megabytes):.1f}-{max(megabytes):.1f}",
                f"{max(costs) / mean:.2f}" if mean else "-",
            )
        )
    return aligned(lines)


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Align rows of cells in columns, the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        f"{row[0]:<{widths[0]}} "
        + " ".join(f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True))
        for row in rows
    )


def reason_lines(
    reasons: Mapping[str, int], messages: Mapping[str, str] | None = None
) -> list[str]:
    """Return how many rows were quarantined for which reason, the most frequent first.

    Args:
        reasons: reason -> rows.
        messages: reason -> the message of the first such row, which is shown below it.
    """
    lines = []
    for reason, number in sorted(reasons.items(), key=lambda item: (-item[1], item[0])):
        lines.append(f"{number:>6}  {reason}")
        if message := (messages or {}).get(reason):
            words = " ".join(message.split())
            lines.append(f"        first: {words[:_MESSAGE_CHARS]}")
    return lines


def example_lines(tasks: Mapping[str, int], examples: Mapping[str, Sequence[str]]) -> list[str]:
    """Return how many rows the rules gave to each task, with one question of each."""
    return [
        f"{tasks.get(task, 0):>6}  {task}: {one_line(words[0])}"
        for task, words in sorted(examples.items())
        if words
    ]


def one_line(text: str) -> str:
    """Return the beginning of a text, on one line and without placeholders."""
    words = " ".join(text.replace("<image>", "").replace("<video>", "").split())
    return words if len(words) <= _EXAMPLE_CHARS else words[: _EXAMPLE_CHARS - 3] + "..."


def _hours(hours: float) -> str:
    return f"{hours:.1f}" if hours >= 10 else f"{hours:.3f}"
