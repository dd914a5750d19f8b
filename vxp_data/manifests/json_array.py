"""LLaVA's own layout: one JSON array of objects, read in pieces, each kept byte for byte."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, TextIO

from vxp_data.errors import UserError
from vxp_data.manifests.base import (
    MAX_ROW_CHARS,
    AnyFile,
    ManifestRow,
    RowDecoder,
    cannot_open,
    not_utf8,
)
from vxp_data.manifests.renamed_media import NONE_RENAMED, Renaming, rename_in_json

CHUNK_CHARS: Final = 1 << 20
"""Characters read at once; a row that is longer is still read. Does not change the result."""

_SPACE: Final = re.compile(r"[ \t\n\r]*")
_CUT_CHARS: Final = 16
"""A decoder that met the end of the text complains at most so far before it (`\\ud83d\\ude00`)."""


class JsonArray:
    """A JSON array of rows; see `base.ManifestFormat`."""

    suffixes: tuple[str, ...] = (".json",)
    output_suffix = ".json"

    def rows(self, path: AnyFile) -> Iterator[ManifestRow]:
        """Return the array's elements; about one row and 1 MiB of text are held at a time."""
        try:
            with path.open(encoding="utf-8-sig", newline="") as file:
                yield from _elements(path, file)
        except OSError as error:
            raise cannot_open(path, error) from error
        except UnicodeDecodeError as error:
            raise not_utf8(path) from error

    def write(
        self,
        out: Path,
        source: AnyFile,  # noqa: ARG002
        rows: Iterable[tuple[int, bytes]],
        renamed: Mapping[int, Renaming] = NONE_RENAMED,
    ) -> int:
        """Write an array of the untouched elements, each beginning a line."""
        count = 0
        with out.open("wb") as file:
            file.write(b"[")
            for index, annotation in rows:
                file.write(b",\n" if count else b"\n")
                new = renamed.get(index)
                file.write(annotation if new is None else rename_in_json(annotation, new))
                count += 1
            file.write(b"\n]\n" if count else b"]\n")
        return count


class BufferedReader:
    """The part of a text file that is held, and a position in it with its line and column."""

    def __init__(self, path: AnyFile, file: TextIO) -> None:
        self.path = path
        self.text = ""
        self.at = 0
        self._file = file
        self._line = 1
        self._column = 1
        self.decoder = RowDecoder()

    def more(self) -> bool:
        """Forget what lies before the position and read on; False at the file's end."""
        if len(self.text) - self.at > MAX_ROW_CHARS:
            raise self.error(self.at, f"a value of more than {MAX_ROW_CHARS} characters", "a row")
        chunk = self._file.read(max(CHUNK_CHARS, len(self.text)))  # doubles: a long row stays cheap
        if chunk:
            self._line, self._column = self.line_column(self.at)
            self.text = self.text[self.at :] + chunk
            self.at = 0
        return bool(chunk)

    def peek(self) -> str:
        """Move behind white space and return the next character; '' at the file's end."""
        while True:
            match = _SPACE.match(self.text, self.at)
            self.at = match.end() if match else self.at
            if self.at < len(self.text):
                return self.text[self.at]
            if not self.more():
                return ""

    def value(self) -> tuple[object, str]:
        """Decode the value at the position and move behind it; return it and its own text."""
        while True:
            try:
                value, end = self.decoder.decode(self.text, self.at)
            except json.JSONDecodeError as error:
                unclosed = error.msg.startswith("Unterminated string")
                may_be_cut = unclosed or error.pos + _CUT_CHARS > len(self.text)
                if not (may_be_cut and self.more()):
                    raise self._bad_json(error) from error
                continue
            except RecursionError as error:
                raise self.error(self.at, "a value nested thousands of levels deep") from error
            if (end < len(self.text) and self.text[end] not in ".eE") or not self.more():
                break  # else a number may go on in the next chunk
        text = self.text[self.at : end]
        self.at = end
        return value, text

    def line_column(self, at: int) -> tuple[int, int]:
        """Return the line and column, both from 1, of a position in the text held."""
        newlines = self.text.count("\n", 0, at)
        if newlines:
            return self._line + newlines, at - self.text.rfind("\n", 0, at)
        return self._line, self._column + at

    def error(self, at: int, got: str, wanted: str = "") -> UserError:
        """Build the error for a position in the text held."""
        line, column = self.line_column(at)
        wanted = f", wanted {wanted}" if wanted else ""
        advice = "Mend the file there, or write it again (python -m json.tool shows the place)."
        if not got:
            got = "the end of the file"
            advice = "The file is cut short: copy or download it again."
        return UserError(f"{self.path}: line {line}, column {column}: got {got}{wanted}. {advice}")

    def _bad_json(self, error: json.JSONDecodeError) -> UserError:
        unclosed = error.msg.startswith("Unterminated string")
        rest = self.text[error.pos : error.pos + 20]
        if unclosed or not rest:
            return self.error(len(self.text), "", "the rest of a row")
        return self.error(error.pos, repr(rest), f"JSON ({error.msg})")


def _elements(path: AnyFile, file: TextIO) -> Iterator[ManifestRow]:
    reader = BufferedReader(path, file)
    if reader.peek() != "[":
        raise _not_an_array(reader)
    reader.at += 1
    index = 0
    following = reader.peek()
    while following != "]" or index:  # the array may be empty, but a comma wants a row
        value, text = reader.value()
        fields, problem = reader.decoder.row_fields(value)
        yield ManifestRow(
            index=index,
            where=f"row {index}",
            annotation=text.encode(),
            fields=fields,
            problem=problem,
        )
        index += 1
        following = reader.peek()
        if following == "]":
            break
        if following != ",":
            raise reader.error(reader.at, following and repr(following), "',' or ']' after a row")
        reader.at += 1
        reader.peek()
    reader.at += 1
    if trailing := reader.peek():
        raise reader.error(reader.at, repr(trailing), "nothing after the array's ']'")


def _not_an_array(reader: BufferedReader) -> UserError:
    path, got = reader.path, reader.peek()
    if not got:
        return UserError(f"{path}: the file is empty, wanted a JSON array of rows: [...].")
    if got != "{":
        return reader.error(reader.at, repr(got), "a JSON array of rows: [...]")
    value, _ = reader.value()
    if reader.peek() == "{":
        return UserError(
            f"{path}: got one JSON object after another, wanted an array. "
            "This looks like JSON Lines: name its format (--format jsonl; in a mixture or recipe, "
            "format: jsonl)."
        )
    assert isinstance(value, dict)  # it began with a brace
    lists = [key for key, held in value.items() if isinstance(held, list)]
    if lists:
        return UserError(
            f"{path}: got a JSON object, wanted an array of rows. It has a list under "
            f"{', '.join(map(repr, lists))}: write the one that holds the rows to a file of its "
            f"own, for example: jq .{lists[0]} {path}"
        )
    keys = ", ".join(map(repr, list(value)[:8])) or "no keys"
    return UserError(f"{path}: got one JSON object ({keys}), wanted an array of rows: [...].")
