"""Recipes: YAML settings, laid over by `--set a.b=c`, checked against a class of settings.

Precedence: default < recipe < command line. `Origin` remembers where each value came from.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from vxp_data.errors import UserError, unknown_name
from vxp_data.registry import Registry
from vxp_data.settings.safe_yaml import load_yaml
from vxp_data.shipped_files import RECIPES

SettingsT = TypeVar("SettingsT", bound=BaseModel)


class Settings(BaseModel):
    """Base of every settings class: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """A dotted key, its value, and where the value came from."""

    key: str
    value: object
    origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded(Generic[SettingsT]):
    """Settings, and the origin of each value."""

    config: SettingsT
    origins: tuple[Origin, ...]


_DEFAULT: Final = "default"


@dataclass(frozen=True, slots=True)
class SettingsFile(Generic[SettingsT]):
    """How recipes of one kind are read."""

    kind: type[SettingsT]
    free_maps: Collection[str] = ()
    """Dotted keys below which any key may stand."""
    example: str = "a.b=8"
    """For the message about a `--set` that cannot be read."""

    def read(
        self,
        tree: dict[str, Any],
        source: str,
        overrides: Sequence[tuple[str, str, Any]] = (),
    ) -> Loaded[SettingsT]:
        """Check settings and lay the command line over them.

        Args:
            tree: the recipe's content; it is changed.
            source: what messages call it.
            overrides: (dotted key, value, origin), later ones win.

        Raises:
            UserError: an unknown key, with the nearest known one; a value out of its range.
        """
        origin_of = {key: source for key, _ in _leaves(tree)}
        for key, value, origin in overrides:
            self._check_key(key, origin)
            _put(tree, key.split("."), value, origin)
            origin_of[key] = origin
        self._check_tree(tree, source)
        try:
            config = self.kind.model_validate(tree)
        except ValidationError as error:
            raise UserError(_readable(error, origin_of, source)) from error
        origins = [
            Origin(key=key, value=value, origin=_origin(key, origin_of))
            for key, value in _leaves(config.model_dump(mode="json"))
        ]
        return Loaded(config=config, origins=tuple(origins))

    def parse_set(self, text: str) -> tuple[str, Any, str]:
        """Read one `--set a.b=c`; the value is YAML: 3, true and null are what they look like.

        Raises:
            UserError: no '=' in it, or a value that is not YAML.
        """
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UserError(f"--set takes key=value, got {text!r}. Example: --set {self.example}")
        try:
            return key, load_yaml(value), f"--set {text}"
        except ValueError as error:
            raise UserError(f"--set {text!r}: the value is not YAML: {error}") from error

    def known_keys(self) -> Iterator[str]:
        """Return every dotted key that a recipe may set."""
        return _keys(self.kind, "")

    def _check_key(self, key: str, origin: str) -> None:
        known = _all_keys(self.kind)
        if key in known or any(key.startswith(f"{free}.") for free in self.free_maps):
            return
        raise UserError(
            f"{origin}: {unknown_name('setting', key, known)} `show-config` prints all of them."
        )

    def _check_tree(self, tree: Mapping[str, Any], origin: str) -> None:
        for key, _ in _leaves(tree):
            parts = key.split(".")
            for depth in range(1, len(parts) + 1):
                self._check_key(".".join(parts[:depth]), origin)


def read_recipe(recipe: str | Path) -> dict[str, Any]:
    """Read the content of a recipe: of a path, or of one that comes with vxp, by its name.

    Raises:
        UserError: see `read_yaml`; or there is none of that name, with the nearest names.
    """
    return read_yaml(RECIPES.find(recipe))


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file of settings.

    Raises:
        UserError: there is no such file, or it is not a YAML mapping.
    """
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


@cache
def _all_keys(kind: type[Any]) -> frozenset[str]:
    return frozenset(_keys(kind, ""))


def _keys(model: type[Any], prefix: str) -> Iterator[str]:
    if is_dataclass(model):  # a rule of the core, flat
        yield from (f"{prefix}{field.name}" for field in fields(model))
        return
    for name, field in model.model_fields.items():
        kind = _settings_class(field.annotation)
        yield f"{prefix}{name}"
        if kind is not None:
            yield from _keys(kind, f"{prefix}{name}.")


def _settings_class(annotation: Any) -> type[Any] | None:
    for candidate in (annotation, *getattr(annotation, "__args__", ())):
        if isinstance(candidate, type) and (
            issubclass(candidate, BaseModel) or is_dataclass(candidate)
        ):
            return candidate
    return None


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


def _readable(error: ValidationError, origin_of: Mapping[str, str], source: str) -> str:
    lines = []
    problems = error.errors()
    for problem in problems:
        if problem["type"] == "too_short" and any(
            other["loc"][: len(problem["loc"])] == problem["loc"] != other["loc"]
            for other in problems
        ):
            continue  # of what is left without the items that other lines are about
        key = ".".join(str(part) for part in problem["loc"] if part != "[key]")
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "missing":
            lines.append(f"{source}: {key} is missing")
            continue
        if isinstance(problem["input"], Mapping):  # about a section: the message names its keys
            lines.append(f"{_named_origins(message, key, origin_of, source)}: {message}")
            continue
        lines.append(f"{_origin(key, origin_of)}: {key}: {message}; got {problem['input']!r}")
    return "\n".join(lines)


def _named_origins(message: str, key: str, origin_of: Mapping[str, str], source: str) -> str:
    """Return who said what a message about a section is about: its keys, or else all of it."""
    about = message.partition(": ")[0]
    found = [o for k, o in origin_of.items() if k in message or k.startswith(f"{about}.")]
    found = found or [o for k, o in origin_of.items() if k.startswith(f"{key}.")]
    said = [origin for origin in dict.fromkeys(found) if origin != source] or found[:1]
    return ", ".join(said) or _origin(key, origin_of)


def known_name(registry: Registry, name: str) -> str:
    """Return a name that a registry has, as a field's validator does.

    Raises:
        ValueError: it has none of that name.
    """
    try:
        registry.require(name)
    except UserError as error:
        raise ValueError(str(error)) from error
    return name
