"""What the terminal shows while a training runs: a bar, or a plain line now and then."""

from __future__ import annotations

import time
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

_LINE_EVERY_S: Final = 10.0


class StepProgress:
    """A progress bar on a terminal; plain lines in a pipe or a log file."""

    def __init__(self, title: str, *, total_steps: int, step: int) -> None:
        """Begin.

        Args:
            title: what the bar is called.
            total_steps: of the training.
            step: steps done.
        """
        self.console = Console(stderr=True, highlight=False)
        self._total = total_steps
        self._first: tuple[int, float] | None = None
        self._line_at_s = time.monotonic()
        self._bar: Progress | None = None
        if self.console.is_terminal:
            self._bar = Progress(
                TextColumn(title),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[words]}"),
                console=self.console,
            )
            self._bar.add_task("", total=total_steps, completed=step, words="")
            self._bar.start()

    def update(
        self, *, step: int, loss: float, tokens_per_s: float, data_wait_share: float
    ) -> None:
        """Show a step.

        Args:
            step: steps done.
            loss: of the last one.
            tokens_per_s: tokens of frames, all processes.
            data_wait_share: part of the step's time that went by waiting for data, 0 to 1.
        """
        now_s = time.monotonic()
        words = f"loss {loss:.4f}, {_rate(tokens_per_s)} tokens/s, data wait {data_wait_share:.0%}"
        if self._first is None:  # the first step waits for what comes once: it tells no rate
            self._first = (step, now_s)
        else:
            each_s = (now_s - self._first[1]) / (step - self._first[0])
            words += f", {_time((self._total - step) * each_s)} left"
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=step, words=words)
        elif now_s >= self._line_at_s or step == self._total:
            self.console.print(f"step {step}/{self._total}: {words}", soft_wrap=True)
            self._line_at_s = now_s + _LINE_EVERY_S

    def stop(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.stop()


def _rate(number: float) -> str:
    return f"{number / 1000:.0f}k" if number >= 10_000 else f"{number:.0f}"


def _time(seconds: float) -> str:
    minutes, rest_s = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest_s:02d}"
