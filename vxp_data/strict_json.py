"""Records as JSON: every field is there, each of exactly the type that the record declares."""

from __future__ import annotations

from dataclasses import fields
from functools import cache
from typing import Any, get_args, get_origin, get_type_hints


def plain_fields(record: Any) -> dict[str, Any]:
    """Return a record's fields; its own records are the caller's, and lists are not copied."""
    return {field.name: getattr(record, field.name) for field in fields(record)}


def read_fields(kind: Any, value: Any, where: str) -> Any:
    """Build a record, a list of records or a plain value of exactly the type declared.

    Args:
        kind: the type: a dataclass, or of a field of one.
        value: as JSON has it.
        where: the field's name, for messages; '' for the record itself.

    Raises:
        ValueError: a field is missing, unknown or of another type.
    """
    if hasattr(kind, "__dataclass_fields__"):
        if not isinstance(value, dict):
            raise ValueError(f"{where or 'the record'} is {type(value).__name__}, not an object")
        names = {field.name for field in fields(kind)}
        if names != set(value):
            missing, unknown = sorted(names - set(value)), sorted(set(value) - names)
            raise ValueError(f"{where or 'the record'}: missing {missing}, unknown {unknown}")
        hints = _hints(kind)
        prefix = f"{where}." if where else ""
        return kind(
            **{name: read_fields(hints[name], value[name], prefix + name) for name in names}
        )
    outer, inner = get_origin(kind) or kind, get_args(kind)
    if type(value) is not outer:
        raise ValueError(f"{where} is {type(value).__name__} {value!r:.40}, not {outer.__name__}")
    if outer is list:
        return [read_fields(inner[0], item, f"{where}[{i}]") for i, item in enumerate(value)]
    if outer is dict:
        return {
            key: read_fields(inner[1], item, f"{where}[{key!r}]") for key, item in value.items()
        }
    return value


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)
