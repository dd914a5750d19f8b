"""Recipes: YAML settings, laid over by `--set a.b=c`, checked against `vxp_data.config`.

Precedence: default < recipe < command line. `Origin` remembers where each value came from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from vxp_data.config import PruneConfig
from vxp_data.errors import UserError, unknown_name
from vxp_data.safe_yaml import load_yaml


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """A dotted key, its value, and where the value came from."""

    key: str
    value: object
    origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedConfig:
    """The settings of a run, and the origin of each value."""

    config: PruneConfig
    origins: tuple[Origin, ...]


_DEFAULT: Final = "default"


def load_config(
    recipe: Path | None,
    overrides: Sequence[tuple[str, str, Any]] = (),
    run_settings: Mapping[str, Any] | None = None,
) -> LoadedConfig:
    """Read a recipe and lay the command line over it.

    Args:
        recipe: a YAML file, or None for the defaults.
        overrides: (dotted key, value, origin), later ones win.
        run_settings: instead of a recipe, the settings that a finished run has in its run.json.

    Raises:
        UserError: a file that is not a YAML mapping; an unknown key, with the nearest known one; a
            value out of its range.
    """
    tree: dict[str, Any] = {}
    source = "run.json" if run_settings is not None else str(recipe)
    if run_settings is not None:
        tree = deepcopy(dict(run_settings))
    elif recipe is not None:
        tree = _read_yaml(recipe)
    origin_of = {key: source for key, _ in _leaves(tree)}
    for key, value, origin in overrides:
        _check_key(key, origin)
        _put(tree, key.split("."), value, origin)
        origin_of[key] = origin
    _check_tree(tree, source)
    try:
        config = PruneConfig.model_validate(tree)
    except ValidationError as error:
        raise UserError(_readable(error, origin_of)) from error
    origins = [
        Origin(key=key, value=value, origin=_origin(key, origin_of))
        for key, value in _leaves(config.model_dump(mode="json"))
    ]
    return LoadedConfig(config=config, origins=tuple(origins))


def parse_set(text: str) -> tuple[str, Any, str]:
    """Read one `--set a.b=c`; the value is YAML, so that 3, true and null are what they look like.

    Raises:
        UserError: no '=' in it, or a value that is not YAML.
    """
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UserError(f"--set takes key=value, got {text!r}. Example: --set frames.num_frames=8")
    try:
        return key, load_yaml(value), f"--set {text}"
    except ValueError as error:
        raise UserError(f"--set {text!r}: the value is not YAML: {error}") from error


def known_keys(model: type[Any] = PruneConfig, prefix: str = "") -> Iterator[str]:
    """Give every dotted key that a recipe may set."""
    if is_dataclass(model):  # a rule of the core, flat
        yield from (f"{prefix}{field.name}" for field in fields(model))
        return
    for name, field in model.model_fields.items():
        kind = _settings_class(field.annotation)
        yield f"{prefix}{name}"
        if kind is not None:
            yield from known_keys(kind, f"{prefix}{name}.")


_FREE_MAPS: Final = ("thresholds", "tasks.map", "expect.quarantined")


def _settings_class(annotation: Any) -> type[Any] | None:
    for candidate in (annotation, *getattr(annotation, "__args__", ())):
        if isinstance(candidate, type) and (
            issubclass(candidate, BaseModel) or is_dataclass(candidate)
        ):
            return candidate
    return None


def _check_key(key: str, origin: str) -> None:
    if key in known_keys() or any(key.startswith(f"{free}.") for free in _FREE_MAPS):
        return
    error = unknown_name("setting", key, known_keys())
    raise UserError(f"{origin}: {error}")


def _check_tree(tree: Mapping[str, Any], origin: str) -> None:
    for key, _ in _leaves(tree):
        parts = key.split(".")
        for depth in range(1, len(parts) + 1):
            _check_key(".".join(parts[:depth]), origin)


def _put(tree: dict[str, Any], path: list[str], value: Any, origin: str) -> None:
    for name in path[:-1]:
        inner = tree.setdefault(name, {})
        if inner is None:
            inner = tree[name] = {}
        if not isinstance(inner, dict):
            raise UserError(f"{origin}: {name!r} is {inner!r} in the recipe, not a section")
        tree = inner
    tree[path[-1]] = value


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{key}.")
        else:
            yield key, value


def _origin(key: str, origin_of: Mapping[str, str]) -> str:
    while key:
        if key in origin_of:
            return origin_of[key]
        key = key.rpartition(".")[0]
    return _DEFAULT


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        tree = load_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"recipe {path}: no such file") from error
    except (OSError, ValueError) as error:
        raise UserError(f"recipe {path}: cannot be read as YAML: {error}") from error
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise UserError(f"recipe {path}: wanted sections (key: value), got {type(tree).__name__}")
    return tree


def _readable(error: ValidationError, origin_of: Mapping[str, str]) -> str:
    lines = []
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"] if part != "[key]")
        message = problem["msg"].removeprefix("Value error, ")
        if isinstance(problem["input"], Mapping):  # about a section: the message names its keys
            named = [origin for name, origin in origin_of.items() if name in message]
            lines.append(f"{', '.join(named) or _origin(key, origin_of)}: {message}")
            continue
        lines.append(f"{_origin(key, origin_of)}: {key}: {message}; got {problem['input']!r}")
    return "\n".join(lines)
