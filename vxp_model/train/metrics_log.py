"""What a training writes down: a line of JSON for each step, and the same for TensorBoard."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

LOG_NAME = "log.jsonl"
TENSORBOARD_NAME = "tensorboard"
MODEL_NAME = "model"
LAST_STEPS = 20
"""Steps whose mean is called the final loss."""


class MetricsLog:
    """Holds each step once, also where steps are done again after a crash."""

    def __init__(self, folder: Path, *, step: int) -> None:
        """Open or begin the files; what they say of steps after `step` is dropped.

        Args:
            folder: of the run.
            step: steps done.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about its own use of protobuf and numpy
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(folder / TENSORBOARD_NAME), purge_step=step + 1)
        path = folder / LOG_NAME
        kept = [line for line in read_log(path) if line["step"] <= step]
        beside = path.with_suffix(".part")
        beside.write_text("".join(map(_line, kept)), encoding="utf-8")
        beside.replace(path)
        self._file = path.open("a", encoding="utf-8")

    def write(self, entry: Mapping[str, Any]) -> None:
        """Add a step; numbers that are none are left out."""
        said = {
            name: value
            for name, value in entry.items()
            if not isinstance(value, float) or math.isfinite(value)
        }
        self._file.write(_line(said))
        self._file.flush()
        for name, value in said.items():
            if name != "step" and isinstance(value, int | float):
                self._board.add_scalar(name, value, said["step"])

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        self._board.close()


def read_log(path: Path) -> list[dict[str, Any]]:
    """Read a log; a last line that a crash has cut off is left out."""
    if not path.is_file():
        return []
    entries = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            entries.append(json.loads(line))
        except ValueError:
            break
    return entries


def last_mean(out: Path, name: str) -> float:
    """Return the mean of a value over the last 20 steps that have it; NaN where none has.

    Args:
        out: the run directory.
        name: of the value in the log.
    """
    entries = read_log(out / LOG_NAME)
    last = [entry[name] for entry in entries if name in entry][-LAST_STEPS:]
    return sum(last) / len(last) if last else math.nan


def _line(entry: Mapping[str, Any]) -> str:
    return json.dumps(entry) + "\n"
