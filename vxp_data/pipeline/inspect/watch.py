"""What a run that may be under way does now: by its lock, its last metrics and its run.json."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from vxp_data.core.run_state import Phase, RunState
from vxp_data.errors import UserError
from vxp_data.pipeline.run_dir.directory import RunDirectory
from vxp_data.pipeline.run_dir.lock import Holder, find_holder, is_dead
from vxp_data.pipeline.run_dir.metrics_segments import EMBEDDED, metrics_folder, read_last_line

_LATE_LINES: Final = 3
"""So many lines may be late before it is said that a run is silent: a store, or clocks."""
_LATE_S: Final = 15.0


def look_at(run: RunDirectory) -> RunState:
    """Look at a run; reads three small files.

    Raises:
        UserError: the run directory cannot be read.
    """
    holder = find_holder(run.root)
    killed = holder is not None and is_dead(holder)
    try:
        line = read_last_line(metrics_folder(run.root))
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
