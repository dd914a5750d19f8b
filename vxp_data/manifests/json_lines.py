"""JSON Lines: one JSON object a line."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from vxp_data.errors import UserError
from vxp_data.manifests.base import (
    MAX_ROW_CHARS,
    AnyFile,
    ManifestRow,
    RowDecoder,
    cannot_open,
    line_end,
    not_utf8,
)
from vxp_data.manifests.renamed_media import NONE_RENAMED, Renaming, rename_in_json

_BOM = b"\xef\xbb\xbf"
_SPACE = " \t\r\n"
_HEAD_BYTES = 4096


class JsonLines:
    """One row a line; blank lines are no rows. See `base.ManifestFormat`."""

    suffixes: tuple[str, ...] = (".jsonl", ".ndjson", ".json")
    output_suffix = ".jsonl"

    def rows(self, path: AnyFile) -> Iterator[ManifestRow]:
        """Return the lines that are not blank; one is held at a time."""
        try:
            with path.open("rb") as file:  # bytes: text files also end lines at a lone '\r'
                yield from _lines(path, file)
        except OSError as error:
            raise cannot_open(path, error) from error
        except UnicodeDecodeError as error:
            raise not_utf8(path) from error

    def recognises(self, path: AnyFile) -> bool:
        """Whether the first two lines that are not blank hold an object each.

        One object alone may as well be a file keyed by id, or one that holds its rows in a list.
        """
        try:
            with path.open("rb") as file:
                head = file.read(_HEAD_BYTES).removeprefix(_BOM)
            if not head.lstrip(_SPACE.encode()).startswith(b"{"):
                return False  # before reading a whole array that has no line ends
            first_two = list(itertools.islice(self.rows(path), 2))
        except (OSError, UserError):  # reading it as the other format says what is wrong
            return False
        return len(first_two) == 2 and not any(row.problem for row in first_two)

    def write(
        self,
        out: Path,
        source: AnyFile,
        rows: Iterable[tuple[int, bytes]],
        renamed: Mapping[int, Renaming] = NONE_RENAMED,
    ) -> int:
        """Write one untouched row a line, with the line end of the source if that is a file."""
        end = b"\n"
        if source.is_file():
            with source.open("rb") as file:
                end = line_end(file.readline())
        count = 0
        with out.open("wb") as file:
            for index, annotation in rows:
                new = renamed.get(index)
                row = annotation if new is None else rename_in_json(annotation, new)
                file.write(row + end)
                count += 1
        return count


def _lines(path: AnyFile, file: BinaryIO) -> Iterator[ManifestRow]:
    index = 0
    decoder = RowDecoder()
    raws = iter(lambda: file.readline(MAX_ROW_CHARS), b"")
    for number, raw in enumerate(raws, start=1):
        if len(raw) == MAX_ROW_CHARS:
            raise UserError(
                f"{path}: line {number} is longer than {MAX_ROW_CHARS} bytes. Is this JSON Lines, "
                "one row a line?"
            )
        line = raw.removeprefix(_BOM) if number == 1 else raw
        line = line.removesuffix(b"\n").removesuffix(b"\r")
        text = line.decode()
        if not text.strip(_SPACE):
            continue
        fields, problem = decoder.row_fields(_decode_line(path, number, text, decoder))
        yield ManifestRow(
            index=index, where=f"line {number}", annotation=line, fields=fields, problem=problem
        )
        index += 1


def _decode_line(path: AnyFile, number: int, text: str, decoder: RowDecoder) -> object:
    start = len(text) - len(text.lstrip(_SPACE))
    try:
        value, end = decoder.decode(text, start)
    except json.JSONDecodeError as error:
        if number == 1 and text.lstrip(_SPACE).startswith("["):
            raise UserError(
                f"{path}: line 1 opens a JSON array, wanted one JSON object a line. "
                "Name its format (--format json; in a mixture or recipe, format: json)."
            ) from error
        raise _bad_line(path, number, error.pos, text, f"JSON ({error.msg})") from error
    except RecursionError as error:
        wanted = "a row nested less than a thousand levels deep"
        raise _bad_line(path, number, start, text, wanted) from error
    rest = text[end:].lstrip(_SPACE)
    if rest:
        raise _bad_line(path, number, len(text) - len(rest), text, "the line's end after the row")
    return value


def _bad_line(path: AnyFile, number: int, at: int, text: str, wanted: str) -> UserError:
    got = repr(text[at : at + 20]) if at < len(text) else "the line's end"
    return UserError(
        f"{path}: line {number}, column {at + 1}: got {got}, wanted {wanted}. "
        "Mend that line or take it out; a last line cut short means that the file must be copied "
        "again."
    )
