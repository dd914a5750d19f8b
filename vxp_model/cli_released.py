"""The command that takes published checkpoints."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from vxp_data.extras import INFERENCE, require_extra


class ReleasedKind(StrEnum):
    """A published model."""

    PRO = "video-xl-pro"
    XL2 = "video-xl-2"


def import_released(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="A published checkpoint: config.json, weights, tokenizer."
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", help="Where the model goes: a folder that is not there yet.")
    ],
    kind: Annotated[
        ReleasedKind | None,
        typer.Option("--kind", help="Which model it is; else told by its tensors."),
    ] = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option("--tokenizer", help="Folder of the tokenizer, if it is not in DIR."),
    ] = None,
    dtype: Annotated[
        str, typer.Option("--dtype", help="bfloat16, float16, float32, or auto: as stored.")
    ] = "auto",
    ignore: Annotated[
        list[str] | None,
        typer.Option(
            "--ignore", help="Beginning of names of unknown tensors to leave out; repeatable."
        ),
    ] = None,
) -> None:
    """Make a model of ours from the public Video-XL-Pro-3B or Video-XL-2: to ask, or to train on.

    Every tensor of it is accounted for; unknown ones are refused. The same command goes on after
    a stop.

    Example: vxp-model import-released Video-XL-Pro-3B --out models/video-xl-pro-3b
    """
    require_extra("train", "`vxp-model import-released`", INFERENCE)
    from vxp_model.models.released_import import ImportOptions, import_released

    options = ImportOptions(
        kind=None if kind is None else kind.value,
        tokenizer=tokenizer,
        dtype=dtype,
        ignore=tuple(ignore or ()),
    )
    import_released(folder, out, options, lambda line: typer.echo(line, err=True))
    typer.echo(f"model in {out}")
