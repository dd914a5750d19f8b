"""Annotation files as benchmarks publish them: JSON, JSON lines, Parquet, text; rows with checks.

Whatever is not as it should be ends the command with the file, the row, what was found, what was
wanted, and where the files come from: hours of a model are not spent on half a benchmark.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from vxp_model.errors import UserError

_MOST_SHOWN: Final = 80
"""Characters of a wrong value that a message shows."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of an annotation file, with its place for messages."""

    values: dict[str, Any]
    path: Path
    number: int
    """Of the row in its file, from 0."""
    get: str
    """Where the files come from."""

    def __contains__(self, key: str) -> bool:
        return self.values.get(key) is not None

    def text(self, *keys: str) -> str:
        """Return a field that is text.

        Args:
            keys: names that the field has in the layouts of a benchmark; the first there counts.

        Raises:
            UserError: there is none, or it is something else or empty.
        """
        value = self._first(keys)
        if not isinstance(value, str) or not value.strip():
            raise self.wrong(keys[0], value, "text")
        return value

    def word(self, key: str) -> str:
        """Return a field that is text or a number, as text: 5 and '5' are the same.

        Raises:
            UserError: it is missing or something else.
        """
        value = self._first([key])
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise self.wrong(key, value, "text or a number")
        return str(value)

    def number_of(self, key: str) -> float:
        """Return a field that is a number.

        Raises:
            UserError: it is missing or something else.
        """
        value = self._first([key])
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.wrong(key, value, "a number")
        return float(value)

    def integer(self, key: str) -> int:
        """Return a field that is a whole number.

        Raises:
            UserError: it is missing or something else.
        """
        value = self.number_of(key)
        if not value.is_integer():
            raise self.wrong(key, value, "a whole number")
        return int(value)

    def items(self, key: str, *, least: int = 0) -> list[Any]:
        """Return a field that is a list.

        Raises:
            UserError: it is missing, something else, or shorter than `least`.
        """
        value = self._first([key])
        if not isinstance(value, list) or len(value) < least:
            raise self.wrong(key, value, f"a list of {least} or more" if least else "a list")
        return value

    def words(self, key: str, *, least: int = 2) -> tuple[str, ...]:
        """Return a field that is a list of texts or numbers, as texts.

        Raises:
            UserError: it is missing, something else, or shorter than `least`.
        """
        values = self.items(key, least=least)
        if any(isinstance(one, bool) or not isinstance(one, str | int | float) for one in values):
            raise self.wrong(key, values, "a list of texts")
        return tuple(str(one) for one in values)

    def one_of(self, key: str, known: Sequence[str]) -> str:
        """Return a field that is one of some words.

        Raises:
            UserError: it is missing or another one.
        """
        value = self._first([key])
        if value not in known:
            raise self.wrong(key, value, f"one of {', '.join(known)}")
        return str(value)

    def file(self, *keys: str) -> str:
        """Return a field that names a file below the benchmark's folder, with '/'.

        Raises:
            UserError: it is missing, or leads out of the folder.
        """
        name = self.text(*keys).replace("\\", "/")
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or not path.name:
            raise self.wrong(keys[0], name, "a path below the folder")
        return path.as_posix()

    def wrong(self, key: str, value: object, wanted: str) -> UserError:
        """Return the error about one field."""
        got = "nothing" if value is None else _shown(value)
        return UserError(
            f"{self.path}, row {self.number}: {key!r} is {got}, wanted {wanted}. "
            f"The files as they are published: {self.get}."
        )

    def _first(self, keys: Sequence[str]) -> Any:
        return next((self.values[key] for key in keys if key in self), None)


def find_files(root: Path, patterns: Sequence[str], *, get: str) -> list[Path]:
    """Return the files of the first pattern that has any.

    Args:
        root: the benchmark's folder.
        patterns: as of `Path.glob`, the best one first.
        get: where the files come from.

    Returns:
        paths: sorted by name, at least one.

    Raises:
        UserError: there are none.
    """
    if not root.is_dir():
        raise UserError(f"{root}: no such folder. It is to hold {patterns[0]}; from {get}.")
    for pattern in patterns:
        if found := sorted(path for path in root.glob(pattern) if path.is_file()):
            return found
    others = f" (or {', '.join(patterns[1:])})" if len(patterns) > 1 else ""
    raise UserError(f"{root}: no {patterns[0]} in it{others}. The files come from {get}.")


def read_rows(path: Path, *, get: str) -> Iterator[Row]:
    """Return the rows of a file: of '.json' its array, of '.jsonl' its lines, of '.parquet' all.

    Args:
        path: its ending says what it is.
        get: where the files come from.

    Raises:
        UserError: it cannot be read so, or a row is no object.
    """
    for number, value in enumerate(_values(path, get)):
        if not isinstance(value, dict):
            got = _shown(value)
            raise UserError(f"{path}, row {number}: {got}, wanted an object. Get it from {get}.")
        yield Row(value, path, number, get)


def read_json(path: Path, *, get: str) -> Any:
    """Return what a JSON file holds.

    Raises:
        UserError: it is missing or is no JSON.
    """
    try:
        return json.loads(read_text(path, get=get))
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error}). Get it again from {get}.") from error


def read_text(path: Path, *, get: str) -> str:
    """Return the text of a file.

    Raises:
        UserError: it is missing, or is no UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}. It comes from {get}.") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: no UTF-8 text ({error}). Get it again from {get}.") from error


def _values(path: Path, get: str) -> Sequence[Any]:
    if path.suffix == ".parquet":
        return _of_parquet(path, get)
    if path.suffix == ".jsonl":
        return list(_of_lines(path, get))
    values = read_json(path, get=get)
    if not isinstance(values, list):
        raise UserError(f"{path}: {_shown(values)}, wanted an array of rows. Get it from {get}.")
    return values


def _of_lines(path: Path, get: str) -> Iterator[Any]:
    for number, line in enumerate(read_text(path, get=get).split("\n")):
        if line.strip():
            try:
                yield json.loads(line)
            except ValueError as error:
                message = f"{path}, line {number + 1}: not JSON ({error}). Get it from {get}."
                raise UserError(message) from error


def _of_parquet(path: Path, get: str) -> list[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows: list[Any] = pq.read_table(path).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: no Parquet file ({error}). Get it again from {get}.") from error
    return rows


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."
