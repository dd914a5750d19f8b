"""Figures of ours beside expected ones, for eval_truth.py: numbers, percentages, means."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

Entry = Mapping[str, Any]
"""Of expected.json; decimals are `Decimal`, as printed."""
Row = Mapping[str, Any]
"""Of a file of answers."""

MEAN_TOLERANCE: Final = 1e-9
"""How far means may be apart, and by how much more than half a digit percentages."""


class UnfitError(Exception):
    """Answers, or what is expected of them, cannot be compared; with why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A figure of ours beside the expected one."""

    name: str
    ours: str
    expected: str = ""
    """Empty: nothing is expected; it is told for comparison."""
    is_same: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """Answers that are scored."""

    own: Sequence[Check]
    """What is known of them without an expected figure."""
    checks: Callable[[str, Any], Iterable[Check]]
    """(key, value) of an entry -> comparisons; raises UnfitError where the key is unknown."""
    needs_figures: bool = True
    """Whether an entry without figures compares nothing."""


Scorer = Callable[[Sequence[Row], str | None], Answers]
"""(rows, convention) -> scored answers; convention None: ours."""


def number_check(name: str, ours: float, expected: Any) -> Check:
    """Compare whole numbers; null: none is expected."""
    whole = int(ours) if float(ours).is_integer() else ours
    if expected is None:
        return Check(name=name, ours=str(whole))
    is_same = _decimal(name, expected) == Decimal(whole)
    return Check(name=name, ours=str(whole), expected=str(expected), is_same=is_same)


def percent_check(name: str, ours: float, expected: Any) -> Check:
    """Compare a share with a percentage, at the digits that the latter is printed with."""
    exact = 100 * ours
    if expected is None:
        return Check(name=name, ours=f"{exact:.4f}")
    digits = max(0, -int(_decimal(name, expected).as_tuple().exponent))
    is_same = abs(exact - float(expected)) <= 0.5 * 10**-digits + MEAN_TOLERANCE
    shown = f"{exact:.{min(digits + 2, 12)}f}"
    return Check(name=name, ours=shown, expected=str(expected), is_same=is_same)


def mean_check(name: str, ours: float, expected: Any) -> Check:
    """Compare means."""
    if expected is None:
        return Check(name=name, ours=f"{ours:.12g}")
    is_same = abs(ours - float(_decimal(name, expected))) <= MEAN_TOLERANCE
    return Check(name=name, ours=f"{ours:.12g}", expected=str(expected), is_same=is_same)


def parts_of(
    key: str, value: Any, ours: Mapping[str, Any], compare: Callable[[str, Any, Any], Check]
) -> Iterator[Check]:
    """Compare every part of an expected table; one that we do not have differs.

    Args:
        key: of the table in its entry.
        value: part -> expected.
        ours: part -> ours.
        compare: (name, ours, expected) -> comparison.
    """
    for part, expected in table_of(key, value).items():
        name = f"{key}: {part}"
        if part in ours:
            yield compare(name, ours[part], expected)
        else:
            yield Check(name=name, ours="no such part", expected=str(expected), is_same=False)


def table_of(key: str, value: Any) -> Mapping[str, Any]:
    """Return a value that has parts.

    Raises:
        UnfitError: it is something else.
    """
    if not isinstance(value, dict) or not value:
        raise UnfitError(f"{key}: expected {value!r}, wanted an object with its parts")
    return value


def field_of(row: Row, key: str, kind: type | tuple[type, ...]) -> Any:
    """Return a field of a row.

    Raises:
        UnfitError: it is missing or of another kind.
    """
    value = row.get(key)
    if not isinstance(value, kind):
        raise UnfitError(f"a row has {key} = {value!r}: {str(dict(row))[:120]}")
    return value


class UnknownKeyError(UnfitError):
    """A key of an entry that nobody checks."""


def unknown(key: str) -> UnknownKeyError:
    """Return the error about a key that nobody checks."""
    return UnknownKeyError(f"nobody checks the key {key!r}")


def no_convention(compat: str | None, *known: str) -> None:
    """Refuse a convention that a scorer does not have.

    Raises:
        UnfitError: it is named, and not among the known ones.
    """
    if compat is not None and compat not in known:
        raise UnfitError(f"no convention {compat!r}; there are: {', '.join(known) or 'none'}")


def _decimal(name: str, value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise UnfitError(f"{name}: expected {value!r}, wanted a number")
    return Decimal(value)
