"""Recipes of every kind, read by what only they have: for commands that take any of them."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from vxp_data.settings.file import Loaded, SettingsFile, read_recipe

_KINDS: Final[Mapping[str, str]] = {
    "ingest": "vxp_data.settings.data:DATA_RECIPES",
    "stage": "vxp_model.settings.mllm:MLLM_RECIPES",
    "mlp": "vxp_model.settings.probe:PROBE_RECIPES",
    "models": "vxp_model.settings.probe:PROBE_RECIPES",
    "benchmarks": "vxp_model.settings.eval:EVAL_RECIPES",
    "needles": "vxp_model.settings.needle:NEEDLE_RECIPES",
    "data": "vxp_model.settings.recot:RECIPES",
    "run": "vxp_model.settings.recot:RECIPES",
}
"""By a section, whose recipes have it and no others; the first that is there tells."""
_OTHERS: Final = "vxp_data.settings.prune:PRUNE_RECIPES"


def load_any_recipe(recipe: str | Path, settings: Sequence[str] = ()) -> Loaded[Any]:
    """Read a recipe of whatever kind, of either command line.

    Args:
        recipe: a path, or the name of one that comes with vxp.
        settings: texts 'key=value' to lay over it.

    Raises:
        UserError: a file that is not a YAML mapping; an unknown key, with the nearest known one; a
            value out of its range, or missing.
    """
    tree = read_recipe(recipe)
    target = next((_KINDS[section] for section in _KINDS if section in tree), _OTHERS)
    module, _, name = target.partition(":")
    recipes: SettingsFile[Any] = getattr(importlib.import_module(module), name)
    return recipes.read(tree, str(recipe), [recipes.parse_set(text) for text in settings])


def setting_lines(loaded: Loaded[Any]) -> list[str]:
    """Return a line a setting: its key, its value, and where the value comes from."""
    rows = [row for one in loaded.origins for row in _rows(one.key, one.value, one.origin)]
    width = max(len(key) for key, *_ in rows)
    return [f"{key:<{width}}  {value:<28}  {origin}" for key, value, origin in rows]


def _rows(key: str, value: Any, origin: str) -> Iterator[tuple[str, str, str]]:
    """Return what is printed of a setting: of a list of tables a line for each, what is set."""
    if isinstance(value, list | tuple) and value and all(isinstance(one, dict) for one in value):
        for at, one in enumerate(value):
            yield f"{key}[{at}]", repr(_what_is_set(one)), origin
    else:
        yield key, repr(value), origin


def _what_is_set(value: dict[str, Any]) -> dict[str, Any]:
    inner = {k: _what_is_set(v) if isinstance(v, dict) else v for k, v in value.items()}
    return {k: v for k, v in inner.items() if v is not None and v != {}}
