"""Option groups: a dataclass's fields are a command's options, wherever the group is taken."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from vxp_data.option_groups import with_option_groups


@dataclass(frozen=True, kw_only=True)
class Size:
    width: Annotated[int, typer.Option("--width", min=1)] = 4
    name: Annotated[list[str] | None, typer.Option("--name")] = None


def first(path: Annotated[str, typer.Argument()], *, size: Size, loud: bool = False) -> None:
    """Say the size."""
    typer.echo(f"{path} {size.width} {size.name} {loud}")


def second(*, size: Size, height: Annotated[int, typer.Option("--height")]) -> None:
    typer.echo(f"{size.width}x{height}")


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    app.command()(with_option_groups(first))
    app.command()(with_option_groups(second))
    return app


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        (["first", "a"], "a 4 None False\n"),
        (["first", "a", "--width", "7", "--name", "x", "--name", "y", "--loud"],
         "a 7 ['x', 'y'] True\n"),
        (["second", "--height", "3"], "4x3\n"),
    ],
)  # fmt: skip
def test_the_fields_of_a_group_are_options_of_each_command(
    app: typer.Typer, arguments: list[str], printed: str
) -> None:
    result = CliRunner().invoke(app, arguments)
    assert (result.exit_code, result.output) == (0, printed)


def test_an_option_of_a_group_is_checked_as_any_other(app: typer.Typer) -> None:
    result = CliRunner().invoke(app, ["second", "--height", "3", "--width", "0"])
    assert result.exit_code == 2
    assert "greater than or equal to 1" in result.output
    assert "Say the size." in CliRunner().invoke(app, ["first", "--help"]).output
