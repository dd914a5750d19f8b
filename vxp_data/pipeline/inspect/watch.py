"""What a run that may be under way does now: by its lock, its last metrics and its run.json."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from vxp_data.errors import UserError
from vxp_data.pipeline.run_dir.directory import RunDirectory
from vxp_data.pipeline.run_dir.lock import Holder, find_holder, is_dead
from vxp_data.pipeline.run_dir.metrics_segments import EMBEDDED, read_last_line

_LATE_LINES: Final = 3
"""So many lines may be late before it is said that a run is silent: a store, or clocks."""
_LATE_S: Final = 15.0


class Phase(StrEnum):
    """Where a run is."""

    NONE = "none"
    """Nothing has run here yet."""
    CHECKING = "checking"
    """Rows are read, files looked at, what is done already found."""
    EMBEDDING = "embedding"
    DECIDING = "deciding"
    """All is embedded; scores and decisions are written."""
    ENDED = "ended"
    STOPPED = "stopped"
    """It has no run.json, and nobody works on it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunState:
    """What `vxp-data watch` shows of a run."""

    run: str
    phase: Phase
    holder: str
    """Who works on it, or died of it; '' where nobody does."""
    is_killed: bool
    """The holder is known to be dead, or its lease has run out."""
    silent_s: float | None
    """How long its next line is overdue; None: it is not."""
    eta_s: float | None
    """Until all is embedded, at the rate of the last minute."""
    metrics: Mapping[str, Any] | None
    """The last line; None: there is none."""

    @property
    def is_under_way(self) -> bool:
        """Whether more is to come."""
        return self.phase in (Phase.CHECKING, Phase.EMBEDDING, Phase.DECIDING)

    def as_json(self) -> dict[str, Any]:
        """Return it for scripts."""
        return asdict(self)


def look_at(run: RunDirectory) -> RunState:
    """Look at a run; reads three small files.

    Raises:
        UserError: the run directory cannot be read.
    """
    holder = find_holder(run.root)
    killed = holder is not None and is_dead(holder)
    try:
        line = read_last_line(run.metrics)
        has_ended = run.root.exists(run.run_json.name)
    except OSError as error:
        raise UserError(f"cannot read {run.root}: {error.strerror or error}.") from error
    phase = _phase(holder, line, killed=killed, has_ended=has_ended)
    now_s = time.time()
    return RunState(
        run=str(run.root),
        phase=phase,
        holder=str(holder or ""),
        is_killed=killed,
        silent_s=_silent_s(line, now_s) if line and phase is Phase.EMBEDDING else None,
        eta_s=_eta_s(line) if line and phase is Phase.EMBEDDING else None,
        metrics=line,
    )


def _phase(
    holder: Holder | None, line: Mapping[str, Any] | None, *, killed: bool, has_ended: bool
) -> Phase:
    if holder is None or killed:
        if has_ended:
            return Phase.ENDED
        return Phase.STOPPED if holder is not None or line is not None else Phase.NONE
    began_s = datetime.fromisoformat(holder.since).timestamp()
    if line is None or line["time_s"] < began_s:  # of an earlier one
        return Phase.CHECKING
    return Phase.DECIDING if line["state"] == EMBEDDED else Phase.EMBEDDING


def _silent_s(line: Mapping[str, Any], now_s: float) -> float | None:
    late_s: float = now_s - line["time_s"] - line["next_s"]
    return round(late_s, 1) if late_s > _LATE_LINES * line["next_s"] + _LATE_S else None


def _eta_s(line: Mapping[str, Any]) -> float | None:
    rate, clips = line["clips_per_s"], line["clips"]
    return round((clips["todo"] - clips["done"]) / rate, 1) if rate else None
