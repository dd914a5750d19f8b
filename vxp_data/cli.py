"""The `vxp-data` command. Heavy imports stand inside the commands: `--help` answers at once."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Annotated, Any, Final

import typer

from vxp_data.commands import checks, datasets, prune, recipe, reports, runs, shards, watch
from vxp_data.commands.options import say
from vxp_data.errors import VxpError
from vxp_data.lean_start import import_pyarrow_alone
from vxp_data.option_groups import with_option_groups

app = typer.Typer(
    help="Curate video for training: a smaller, better data set out of a heap of annotated video.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_PANELS: Final[dict[str, tuple[Callable[..., None], ...]]] = {
    "Start here": (prune.prune, recipe.run, datasets.ingest),
    "Choose": (prune.decide, reports.plan),
    "Look": (watch.watch, reports.report, reports.compare, reports.score_template),
    "Write": (shards.sample, shards.shard, shards.export),
    "Check": (checks.doctor, runs.retry, runs.verify, runs.upgrade, checks.show_config),
}


def _started(command: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(command)
    def run(**given: Any) -> None:
        import_pyarrow_alone()
        command(**given)

    return run


for panel, commands in _PANELS.items():
    for command in commands:
        app.command(rich_help_panel=panel)(with_option_groups(_started(command)))
app.add_typer(datasets.mixture, name="mixture", rich_help_panel="Start here")


def _print_version(asked: bool) -> None:
    if asked:
        from vxp_data import __version__

        say(f"vxp-data {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_print_version, help="Print the version and end."
        ),
    ] = False,
) -> None:
    del version  # the callback has printed it


def main() -> None:
    """Run the command line. Exit codes: 0 done, 2 the user can fix it, 3 `expect:` not met."""
    try:
        app()
    except VxpError as error:
        say(f"error: {error}", err=True)
        sys.exit(error.exit_code)
