"""`vxp-model`: what the training package can do from the command line."""

from __future__ import annotations

import typer

from vxp_model import __version__

app = typer.Typer(
    name="vxp-model",
    help="Train on shards that vxp-data writes. The training commands are not written yet.",
    no_args_is_help=True,
    add_completion=False,
)


@app.callback()
def _root() -> None:
    pass  # keeps `version` a command of its own while it is the only one


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(f"vxp-model {__version__}")


def main() -> None:
    """Run the command line."""
    app()
