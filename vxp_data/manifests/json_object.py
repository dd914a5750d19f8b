"""One JSON object whose members are rows, read in pieces: files that are keyed by id."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from vxp_data.errors import UserError
from vxp_data.manifests.base import AnyFile, cannot_open, not_utf8, type_name
from vxp_data.manifests.json_array import Window


def members(path: AnyFile, inside: str = "") -> Iterator[tuple[str, Mapping[str, object], str]]:
    """Return (key, fields, problem) of each member, in order; about one member is held at a time.

    Args:
        path: a file that holds one JSON object.
        inside: the members are wanted of the object under this key, not of the whole; keys that
            stand before it are read over.

    Raises:
        UserError: the file cannot be read, is no JSON object, or has no such key.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            window = Window(path, file)
            _open(window)
            if inside:
                _enter(window, inside)
            yield from _members(window)
    except OSError as error:
        raise cannot_open(path, error) from error
    except UnicodeDecodeError as error:
        raise not_utf8(path) from error


def _open(window: Window) -> None:
    if (got := window.peek()) != "{":
        raise window.error(window.at, repr(got) if got else "", "a JSON object: {...}")
    window.at += 1


def _enter(window: Window, inside: str) -> None:
    """Go behind the brace of the object under a key."""
    while window.peek() != "}":
        if _key(window) == inside:
            _open(window)
            return
        window.value()
        _next(window)
    raise UserError(f"{window.path}: the object has no key {inside!r}, which should hold its rows.")


def _members(window: Window) -> Iterator[tuple[str, Mapping[str, object], str]]:
    while window.peek() != "}":
        key = _key(window)
        value, _ = window.value()
        if isinstance(value, Mapping):
            yield key, *window.decoder.row_fields(value)
        else:
            yield key, {}, f"the row is {type_name(value)}, not an object"
        _next(window)


def _key(window: Window) -> str:
    if window.peek() != '"':
        got = window.peek()
        raise window.error(window.at, got and repr(got), "a key in quotes, or '}'")
    key, _ = window.value()
    if window.peek() != ":":
        got = window.peek()
        raise window.error(window.at, got and repr(got), "':' after a key")
    window.at += 1
    window.peek()
    return str(key)


def _next(window: Window) -> None:
    """Go behind the comma after a member, or stay before the brace that closes the object."""
    got = window.peek()
    if got == ",":
        window.at += 1
        if window.peek() == "}":
            raise window.error(window.at, "'}'", "a key after the comma")
    elif got != "}":
        raise window.error(window.at, got and repr(got), "',' or '}' after a member")
