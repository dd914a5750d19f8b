"""CSV and TSV: a header, then one record a row, kept as its own text, quoted newlines and all."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, TextIO

from vxp_data.errors import UserError
from vxp_data.manifests.base import (
    MAX_ROW_CHARS,
    AnyFile,
    ManifestRow,
    cannot_open,
    line_end,
    not_utf8,
)
from vxp_data.manifests.renamed_media import NONE_RENAMED, Renaming, renamed_fields

_BOM: Final = b"\xef\xbb\xbf"
_HEADER_CHARS: Final = 1 << 16
"""So much of the header is looked at for the delimiter."""
_DELIMITERS: Final = (",", ";", "\t", "|")


class CsvTable:
    """Records under a header; every value is text. See `base.ManifestFormat`.

    `.tsv` is split at tabs; any other file at the one of , ; tab | that splits its header most.
    """

    suffixes: tuple[str, ...] = (".csv", ".tsv")
    output_suffix = ".csv"

    def rows(self, path: AnyFile) -> Iterator[ManifestRow]:
        """Return the records under the header; one is held at a time. Blank lines are no rows."""
        try:
            with path.open(encoding="utf-8-sig", newline="") as file:
                yield from _rows(path, file)
        except OSError as error:
            raise cannot_open(path, error) from error
        except UnicodeDecodeError as error:
            raise not_utf8(path) from error

    def write(
        self,
        out: Path,
        source: AnyFile,
        rows: Iterable[tuple[int, bytes]],
        renamed: Mapping[int, Renaming] = NONE_RENAMED,
    ) -> int:
        """Write the source's header and the untouched records, with the source's line end."""
        try:
            with source.open("rb") as file:
                mark = _BOM if file.read(len(_BOM)) == _BOM else b""  # spreadsheets ask for it
            with source.open(encoding="utf-8-sig", newline="") as file:
                delimiter = _delimiter(source)
                _, raw, header = next(_records(source, file, delimiter))
        except (OSError, StopIteration) as error:
            raise UserError(
                f"{source}: the manifest's header can no longer be read, and {out} needs it: "
                f"{error or 'the file is empty'}. Put the manifest back and run again."
            ) from error
        end = line_end(raw.encode())
        count = 0
        with out.open("wb") as file:
            file.write(mark + _without_end(raw).encode() + end)
            for index, annotation in rows:
                new = renamed.get(index)
                row = annotation if new is None else _renamed(annotation, new, header, delimiter)
                file.write(row + end)
                count += 1
        return count


def _renamed(annotation: bytes, new: Renaming, header: list[str], delimiter: str) -> bytes:
    """Rename the media of a record; its cells are written anew, quoted where they must be."""
    (cells,) = csv.reader(
        io.StringIO(annotation.decode(), newline=""), delimiter=delimiter, strict=True
    )
    fields = renamed_fields(dict(zip(header, cells, strict=True)), new)
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=delimiter, lineterminator="").writerow(fields.values())
    return out.getvalue().encode()


def _rows(path: AnyFile, file: TextIO) -> Iterator[ManifestRow]:
    records = _records(path, file, _delimiter(path))
    _, _, header = next(records, (0, "", []))
    _check_header(path, header)
    for index, (line, raw, cells) in enumerate(records):
        problem = ""
        if len(cells) != len(header):
            problem = f"the row has {len(cells)} cells, the header {len(header)}"
        yield ManifestRow(
            index=index,
            where=f"line {line}",
            annotation=_without_end(raw).encode(),
            fields={} if problem else dict(zip(header, cells, strict=True)),
            problem=problem,
        )


def _records(path: AnyFile, file: TextIO, delimiter: str) -> Iterator[tuple[int, str, list[str]]]:
    """Return (line it begins on, its own text, its cells) of every record that is not blank."""
    csv.field_size_limit(MAX_ROW_CHARS)  # 131,072 by default: too short a talk
    pulled: list[str] = []

    def lines() -> Iterator[str]:
        while line := file.readline(MAX_ROW_CHARS):
            pulled.append(line)
            if len(line) == MAX_ROW_CHARS:
                raise csv.Error(f"the line is longer than {MAX_ROW_CHARS} characters")
            yield line

    reader = csv.reader(lines(), delimiter=delimiter, strict=True)
    while True:
        pulled.clear()  # the reader pulls just the lines of one record
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise _bad_record(path, line, "".join(pulled), delimiter, error) from error
        if cells:
            yield line, "".join(pulled), cells


def _delimiter(path: AnyFile) -> str:
    if path.suffix.lower() == ".tsv":
        return "\t"
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = iter(lambda: file.readline(_HEADER_CHARS), "")
        first = next((line for line in lines if line.strip()), "")
    return max(_DELIMITERS, key=lambda delimiter: _num_cells(first, delimiter))


def _num_cells(line: str, delimiter: str) -> int:
    try:
        return len(next(csv.reader([line], delimiter=delimiter), []))
    except csv.Error:  # reading the record will say it, with its position
        return 0


def _check_header(path: AnyFile, header: list[str]) -> None:
    if not header:
        raise UserError(f"{path}: the file is empty, wanted a header line with column names.")
    if doubled := [name for name, times in Counter(header).items() if times > 1]:
        raise UserError(
            f"{path}: line 1: the header names {', '.join(map(repr, doubled))} more than once. "
            "Rename the columns, so that each value has one name."
        )


def _bad_record(path: AnyFile, line: int, raw: str, delimiter: str, error: csv.Error) -> UserError:
    at, wanted = _quoting_fault(raw, delimiter)
    line_at = line + raw.count("\n", 0, at)
    column = at - raw.rfind("\n", 0, at)
    return UserError(
        f"{path}: line {line_at}, column {column}: got {raw[at : at + 20]!r}, wanted {wanted} "
        f'({error}). Inside a quoted cell a quote is written twice: "".'
    )


def _quoting_fault(raw: str, delimiter: str) -> tuple[int, str]:
    """Find where the quotes of a record go wrong: the position in it, and what should be there."""
    quoted = re.compile(r'"(?:[^"]|"")*"')
    plain = re.compile(rf"[^\r\n{re.escape(delimiter)}]*")
    at = 0
    while at < len(raw):
        if raw[at] == '"':
            cell = quoted.match(raw, at)
            if cell is None:
                return at, "a closing quote for the one here"
            if raw[cell.end() : cell.end() + 1] not in ("", delimiter, "\r", "\n"):
                return cell.end(), f"{delimiter!r} or the line's end after a quoted cell"
        else:
            cell = plain.match(raw, at)
        at = cell.end() + 1 if cell else len(raw)
    return 0, "a record"


def _without_end(raw: str) -> str:
    return raw.rstrip("\r\n")
