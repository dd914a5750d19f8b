"""What every manifest format gives: its rows, and a file of the rows that were chosen."""

from __future__ import annotations

import codecs
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

from vxp_data.errors import UserError
from vxp_data.records import Reason
from vxp_data.storage.folder import File

if TYPE_CHECKING:
    from vxp_data.manifests.renamed_media import Renaming

AnyFile = Path | File
"""A manifest on a disk or in a store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestRow:
    """One row of a manifest, read but not yet understood."""

    index: int
    """Index of the row in its manifest, from 0."""
    where: str
    """Where, in words: 'line 12' (from 1), or 'row 3' (the index) without lines."""
    annotation: bytes
    """The row's own bytes, UTF-8, without the separator or line end around it."""
    fields: Mapping[str, object]
    """Column -> value; empty where `problem` says why there are none."""
    problem: str = ""
    """Why the row has no usable fields, such as 'the row is a number, not an object'."""


class ManifestFormat(Protocol):
    """One kind of annotation file."""

    suffixes: tuple[str, ...]
    """Suffixes of its files, small letters with the dot, the most usual first; none: a manifest is
    of this format only where the user says so."""
    output_suffix: str
    """Suffix of what `write` gives, with the dot."""

    def rows(self, path: AnyFile) -> Iterator[ManifestRow]:
        """Return the rows of a manifest in order, one at a time.

        Raises:
            UserError: the file cannot be read, or is not of this format; with the position in it.
        """
        ...

    def write(
        self,
        out: Path,
        source: AnyFile,
        rows: Iterable[tuple[int, bytes]],
        renamed: Mapping[int, Renaming],
    ) -> int:
        """Write some rows of a manifest, unchanged, in the manifest's own format.

        Args:
            out: the file to write, directly; an existing one is replaced.
            source: the manifest that the rows came from. Parquet rows are taken out of it again;
                CSV takes its header and delimiter, JSON Lines its line end.
            rows: (index, annotation) of the rows wanted, in ascending index.
            renamed: from the index of a row to what it is to name instead of its own media: all
                that may change in a row.

        Returns:
            How many rows were written.

        Raises:
            UserError: what the format needs of `source` is no longer there.
        """
        ...


@runtime_checkable
class KnownByContent(Protocol):
    """A format that shares a suffix with another, and tells its own files by what is in them."""

    def recognises(self, path: AnyFile) -> bool:
        """Whether a manifest is of this format; False where it cannot be read."""
        ...


class RowError(Exception):
    """One row that cannot be used; it becomes the row's `reason` and `message`, never more."""

    def __init__(self, message: str, reason: Reason = Reason.BAD_ROW) -> None:
        super().__init__(message)
        self.reason = reason


_INT_DIGITS: Final = 4300  # int() refuses more
MAX_ROW_CHARS: Final = 1 << 28
"""A row longer than this is a mistake or an attack: 268 million characters."""


class RowDecoder:
    """Decodes JSON rows; tells a key that stands twice, of which JSON would take the last."""

    def __init__(self) -> None:
        self._doubled = ""
        hook = self._fields_once
        self._decoder = json.JSONDecoder(object_pairs_hook=hook)
        self._big_integers = json.JSONDecoder(
            object_pairs_hook=hook,
            parse_int=lambda digits: int(digits) if len(digits) < _INT_DIGITS else float(digits),
        )

    def decode(self, text: str, start: int) -> tuple[object, int]:
        """Decode the JSON value that begins at `start`; return it and the index after its end.

        Raises:
            json.JSONDecodeError: there is no whole JSON value at that index.
            RecursionError: it is nested some thousand levels deep.
        """
        self._doubled = ""
        try:
            return self._decoder.raw_decode(text, start)
        except json.JSONDecodeError:
            raise
        except ValueError:
            return self._big_integers.raw_decode(text, start)

    def row_fields(self, value: object) -> tuple[Mapping[str, object], str]:
        """Return the fields of the row decoded last and no problem, or none and the problem."""
        if self._doubled:
            return {}, f"the key {self._doubled!r:.80} stands more than once in an object"
        if isinstance(value, dict):
            return value, ""
        return {}, f"the row is {type_name(value)}, not an object with columns"

    def _fields_once(self, pairs: list[tuple[str, object]]) -> dict[str, object]:
        fields = dict(pairs)
        if len(fields) < len(pairs):
            times = Counter(name for name, _ in pairs)
            self._doubled = next(name for name in times if times[name] > 1)
        return fields


def type_name(value: object) -> str:
    """Name the type of a decoded value as JSON calls it, with its article."""
    if value is None:
        return "null"
    names: tuple[tuple[type, str], ...] = (
        (bool, "a boolean"),
        (int, "a number"),
        (float, "a number"),
        (str, "text"),
        (list, "a list"),
        (dict, "an object"),
    )
    for kind, name in names:
        if isinstance(value, kind):
            return name
    return f"a {type(value).__name__}"


def is_given(value: object) -> bool:
    """Whether a column holds something; null and '' (an empty CSV cell) are nothing."""
    return value is not None and value != ""


def cannot_open(path: AnyFile, error: OSError) -> UserError:
    """Build the error for a manifest that the file system does not give us."""
    return UserError(
        f"{path}: cannot read the manifest: {error.strerror or error}. "
        "Check the path and its permissions."
    )


def not_utf8(path: AnyFile) -> UserError:
    """Build the error for a manifest that is not UTF-8, with the first wrong byte's position."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if number == 1 and line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                return UserError(
                    f"{path}: the manifest is UTF-16, wanted UTF-8. "
                    f"Convert it: iconv -f UTF-16 -t UTF-8 {path}"
                )
            try:
                line.decode()
            except UnicodeDecodeError as error:
                return UserError(
                    f"{path}: line {number}, byte {error.start + 1}: got byte "
                    f"0x{line[error.start]:02x}, which is not UTF-8. If the manifest is Latin-1: "
                    f"iconv -f ISO-8859-1 -t UTF-8 {path}"
                )
    return UserError(f"{path}: the manifest is not UTF-8, or changed while it was being read.")


def line_end(first_line: bytes) -> bytes:
    """Return the line end of a file's first line; a line feed where it has none."""
    return b"\r\n" if first_line.endswith(b"\r\n") else b"\n"
