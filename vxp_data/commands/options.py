"""Options that several commands take, and how they are read."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from vxp_data.settings.prune import LoadedConfig

Recipe = Annotated[
    Path | None,
    typer.Option("--recipe", help="YAML settings: a file, or a name such as prune (pipelines/)."),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="One setting, e.g. frames.num_frames=8."),
]
Address = Annotated[
    str | None,
    typer.Option("--address", help="Ray cluster: auto, or HOST:PORT. [this machine]"),
]
EngineName = Annotated[
    str | None,
    typer.Option(
        "--engine",
        metavar="NAME",
        help="What runs the job: 'local' (processes of this machine) or 'ray' (Ray Data). "
        "[ray with an address, else local]",
    ),
]
Share = Annotated[
    float | None,
    typer.Option(
        "--share",
        metavar="SHARE",
        help="Most of a Ray cluster that this takes, for several at once: 0.5. [all that is free]",
    ),
]
ManifestFormatName = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="NAME",
        help="Format of the manifests: json, jsonl, parquet, csv, or one that a package adds. "
        "[told by their suffixes and content]",
    ),
]
Columns = Annotated[
    str | None,
    typer.Option(
        "--columns",
        metavar="KIND=COLUMN,...",
        help="Which column of the rows is what, where its name is not a usual one: "
        "video=clip.path,question=prompt,answer=gt. 'answer=': there is none.",
    ),
]
Run = Annotated[str, typer.Argument(metavar="RUN", help="Directory of a finished prune.")]


def load_settings(recipe: Path | None, overrides: list[tuple[str, Any, str]]) -> LoadedConfig:
    """Read a recipe with the command line laid over it."""
    from vxp_data.settings.prune import load_config

    return load_config(recipe, overrides)


def read_overrides(settings: list[str] | None, **words: Any) -> list[tuple[str, Any, str]]:
    """Read `--set`, and the options that stand for a setting each; None where one is not given."""
    from vxp_data.settings.prune import parse_set
    from vxp_data.settings.words import KEY_OF

    given = {word: value for word, value in words.items() if value is not None}
    return [parse_set(text) for text in settings or ()] + [
        (KEY_OF[word], value, f"--{word.replace('_', '-')}") for word, value in given.items()
    ]


def column_overrides(columns: str | None) -> list[tuple[str, Any, str]]:
    """Read `--columns` as the settings that it stands for."""
    from vxp_data.settings.columns import parse_columns

    named = parse_columns(columns or "")
    return [(f"manifest.columns.{kind}", name, "--columns") for kind, name in named.items()]


def say(text: str, *, err: bool = False) -> None:
    """Print text whatever it holds: control characters, also of rows and file names, are escaped.

    Else a manifest could clear the terminal, or write 'All is as the index says.' in its place.
    """
    typer.echo(printable(text), err=err)


def printable(text: str) -> str:
    """Escape what would not be seen, but for spaces, tabs and line ends."""
    return "".join(
        char
        if char.isprintable() or char in "\n\t" or unicodedata.category(char) == "Zs"
        else char.encode("unicode_escape").decode()
        for char in text
    )


def console() -> Any:
    """Return the console for progress: standard error."""
    from rich.console import Console

    return Console(stderr=True)
