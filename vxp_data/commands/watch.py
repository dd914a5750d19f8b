"""`watch`: shows runs from another terminal while they go on."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated

import typer

from vxp_data.commands.options import console, printable, say
from vxp_data.errors import StoppedError, UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vxp_data.core.run_state import RunState
    from vxp_data.pipeline.run_dir.directory import RunDirectory


def watch(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...", help="Run directories, under way or not; several: a line each."
        ),
    ],
    once: Annotated[bool, typer.Option("--once", help="Show how it is now, and end.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON: a line a run, at each look.")
    ] = False,
    every_s: Annotated[
        float, typer.Option("--every", min=0.2, help="Seconds between two looks.")
    ] = 2.0,
) -> None:
    """Show how far a prune is: rate, time left, what bounds it, nodes, quarantine.

    Ends when the run ends, with exit code 2 if it has stopped before. Changes nothing.

    Example: vxp-data watch runs/a
    """
    from vxp_data.pipeline.run_dir.directory import open_run

    found = [open_run(run) for run in runs]
    try:
        states = _show_once(found, as_json) if once else _follow(found, as_json, every_s)
    except KeyboardInterrupt:
        raise StoppedError("stopped watching; the run goes on.") from None
    _refuse_none(states)
    if not once:
        _refuse_stopped(states)


def _show_once(runs: Sequence[RunDirectory], as_json: bool) -> list[RunState]:
    states = _look(runs)
    _print(states, as_json)
    return states


def _follow(runs: Sequence[RunDirectory], as_json: bool, every_s: float) -> list[RunState]:
    """Show states until nothing is under way, on a terminal in place, else as they change."""
    screen = console()
    if as_json or not screen.is_terminal:
        return _log(runs, as_json, every_s)
    from rich.live import Live
    from rich.text import Text

    with Live(console=screen, auto_refresh=False, transient=True) as live:
        states = _look(runs)
        while any(state.is_under_way for state in states):
            live.update(Text(printable(_text(states))), refresh=True)
            time.sleep(every_s)
            states = _look(runs)
    _print(states, as_json)
    return states


def _log(runs: Sequence[RunDirectory], as_json: bool, every_s: float) -> list[RunState]:
    """Print a line a run when something has changed, and all of it at the end."""
    from vxp_data.report.watched import short_line

    shown: dict[str, str] = {}
    while True:
        states = _look(runs)
        is_over = not any(state.is_under_way for state in states)
        for state in states:
            line = json.dumps(state.as_json()) if as_json else short_line(state)
            if shown.get(state.run) != line and (as_json or not is_over):
                say(line)
            shown[state.run] = line
        if is_over:
            if not as_json:
                say(_text(states))
            return states
        time.sleep(every_s)


def _look(runs: Sequence[RunDirectory]) -> list[RunState]:
    from vxp_data.pipeline.inspect.watch import look_at

    return [look_at(run) for run in runs]


def _print(states: Sequence[RunState], as_json: bool) -> None:
    if as_json:
        for state in states:
            say(json.dumps(state.as_json()))
    else:
        say(_text(states))


def _text(states: Sequence[RunState]) -> str:
    from vxp_data.report.watched import run_lines, runs_table

    return "\n".join(run_lines(states[0])) if len(states) == 1 else runs_table(states)


def _refuse_none(states: Sequence[RunState]) -> None:
    if none := [state.run for state in states if state.phase == "none"]:
        raise UserError(
            f"{none[0]}: nothing has run here. Name a run directory (--out of `vxp-data prune`)."
        )


def _refuse_stopped(states: Sequence[RunState]) -> None:
    if stopped := [state.run for state in states if state.phase == "stopped"]:
        raise UserError(
            f"{', '.join(stopped)} stopped before it ended. Nothing written is lost: run the same "
            "`vxp-data prune` again, it embeds what is missing."
        )
