"""One JSON object whose members are rows, read in pieces: files that are keyed by id."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from vxp_data.errors import UserError
from vxp_data.manifests.base import AnyFile, cannot_open, not_utf8, type_name
from vxp_data.manifests.json_array import BufferedReader


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
            reader = BufferedReader(path, file)
            _open(reader)
            if inside:
                _enter(reader, inside)
            yield from _members(reader)
    except OSError as error:
        raise cannot_open(path, error) from error
    except UnicodeDecodeError as error:
        raise not_utf8(path) from error


def _open(reader: BufferedReader) -> None:
    if (got := reader.peek()) != "{":
        raise reader.error(reader.at, repr(got) if got else "", "a JSON object: {...}")
    reader.at += 1


def _enter(reader: BufferedReader, inside: str) -> None:
    """Move behind the brace of the object under a key."""
    while reader.peek() != "}":
        if _key(reader) == inside:
            _open(reader)
            return
        reader.value()
        _next(reader)
    raise UserError(f"{reader.path}: the object has no key {inside!r}, which should hold its rows.")


def _members(reader: BufferedReader) -> Iterator[tuple[str, Mapping[str, object], str]]:
    while reader.peek() != "}":
        key = _key(reader)
        value, _ = reader.value()
        if isinstance(value, Mapping):
            yield key, *reader.decoder.row_fields(value)
        else:
            yield key, {}, f"the row is {type_name(value)}, not an object"
        _next(reader)


def _key(reader: BufferedReader) -> str:
    if reader.peek() != '"':
        got = reader.peek()
        raise reader.error(reader.at, got and repr(got), "a key in quotes, or '}'")
    key, _ = reader.value()
    if reader.peek() != ":":
        got = reader.peek()
        raise reader.error(reader.at, got and repr(got), "':' after a key")
    reader.at += 1
    reader.peek()
    return str(key)


def _next(reader: BufferedReader) -> None:
    """Move behind the comma after a member, or stay before the brace that closes the object."""
    got = reader.peek()
    if got == ",":
        reader.at += 1
        if reader.peek() == "}":
            raise reader.error(reader.at, "'}'", "a key after the comma")
    elif got != "}":
        raise reader.error(reader.at, got and repr(got), "',' or '}' after a member")
