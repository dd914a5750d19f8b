"""What `vxp-model eval` is told, as settings: a recipe, or a model and a benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from vxp_data.settings.file import Loaded, read_recipe
from vxp_model.errors import UserError
from vxp_model.settings.eval import EVAL_RECIPES, EvalRecipe

_KINDS: Final = ("transformers:", "answers:")


def read_eval(
    what: str,
    settings: Sequence[str],
    *,
    benchmark: str | None,
    data: str | None,
    told: Mapping[str, Any],
) -> Loaded[EvalRecipe]:
    """Read the settings of an evaluation.

    Args:
        what: a recipe, or a model.
        settings: 'key=value' of the command line.
        benchmark: with a model: which; with a recipe: which of its own alone.
        data: folder of that benchmark.
        told: dotted key -> value of the command line's own options; None: not told.

    Raises:
        UserError: see `SettingsFile.read`; or a benchmark without data, or the other way round.
    """
    is_model = what.startswith(_KINDS) or Path(what, "config.json").is_file()
    if not is_model and Path(what).is_dir():
        raise UserError(
            f"{what}: a folder that holds no model: there is no config.json. Give a model, "
            "'transformers:FOLDER', 'answers:FILE', or a recipe."
        )
    tree = {"model": what, "benchmarks": []} if is_model else _recipe(what)
    overrides = [EVAL_RECIPES.parse_set(text) for text in settings]
    if benchmark is not None:
        overrides.append(("benchmarks", [_one(tree, benchmark, data)], "--benchmark"))
    elif data is not None:
        raise UserError("--data names the folder of one benchmark: say which with --benchmark.")
    elif is_model and not any(key == "benchmarks" for key, *_ in overrides):
        raise UserError(
            "a model is asked the questions of a benchmark: give --benchmark NAME --data DIR. "
            "`vxp-model benchmarks` lists them."
        )
    for key, value in told.items():
        if value is not None:
            overrides.append((key, value, "the command line"))
    loaded = EVAL_RECIPES.read(tree, what, overrides)
    if not loaded.config.model:
        raise UserError(f"{what} names no model: --set model=FOLDER.")
    return loaded


def _recipe(what: str) -> dict[str, Any]:
    try:
        return read_recipe(what)
    except UserError as error:
        if Path(what).exists():
            raise
        raise UserError(
            f"{what!r} is neither a folder with a model nor a recipe: {error}"
        ) from error


def _one(tree: Mapping[str, Any], benchmark: str, data: str | None) -> dict[str, Any]:
    """Return the settings of one benchmark: the recipe's own, with the folder that was given."""
    own = [one for one in tree.get("benchmarks", []) if one.get("name") == benchmark]
    settings = dict(own[0]) if own else {"name": benchmark}
    if data is not None:
        settings["data"] = data
    if "data" not in settings:
        raise UserError(f"--benchmark {benchmark}: say where its files lie with --data DIR.")
    return settings
