"""What a layout gives: from one row of an annotation file, the annotations that it holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

from vxp_data.manifests.base import RowError, is_given, type_name

LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
CHOOSE: Final = "Answer with the option's letter from the given choices directly."
"""What LLaVA-NeXT appends to multiple-choice questions whose answer is a letter."""
_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


class Reader(StrEnum):
    """How a file is cut into rows."""

    CSV = "csv"
    JSON = "json"  # an array of objects
    JSONL = "jsonl"
    OBJECT = "object"  # one JSON object; each member is a row
    LINES = "lines"  # plain text; the row is {"line": ...}
    PARQUET = "parquet"


class Companion(StrEnum):
    """How the second file of a layout is read, whole, and found again by a row."""

    NONE = ""
    OBJECT = "object"  # a JSON object: by its keys
    ARRAY = "array"  # a JSON array of objects: by their 'question_id'


class SkippedRow(Exception):  # noqa: N818 - no error: the row is not meant for training
    """A row that is good and not wanted, such as one of another split; says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRow:
    """One row of an annotation file."""

    fields: Mapping[str, Any]
    """Column -> value, as the file has them."""
    key: str = ""
    """The key under which it stands, in a JSON object."""
    companion: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)
    """The second file: key -> value."""
    split: str = "train"
    """The split that is wanted; see `record.AnnotationFile.split`."""
    prompt: str = ""
    """The question to put before a caption."""

    def text(self, column: str) -> str:
        """Return a column that must hold text, without white space around it.

        Raises:
            RowError: it is empty, missing, or holds something else.
        """
        value = self.fields.get(column)
        if isinstance(value, int | float) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str):
            raise RowError(f"{column} is {type_name(value)}, wanted text")
        if not value.strip():
            raise RowError(f"{column} is empty, wanted text")
        return value.strip()

    def number(self, column: str) -> int:
        """Return a column that must hold a whole number, or text that reads as one.

        Raises:
            RowError: it does not.
        """
        value = self.fields.get(column)
        try:
            if isinstance(value, bool) or not isinstance(value, int | str):
                raise ValueError
            return int(value)
        except ValueError:
            raise RowError(f"{column} is {value!r:.80}, wanted a whole number") from None

    def items(self, column: str) -> Sequence[Any]:
        """Return a column that must hold a list with something in it.

        Raises:
            RowError: it does not.
        """
        value = self.fields.get(column)
        if not isinstance(value, list) or not value:
            raise RowError(f"{column} is {type_name(value)}, wanted a list that is not empty")
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotation:
    """What one row of a manifest says, whatever layout it came from."""

    row_id: str
    media: str
    """As `record.AnnotationFile.media` takes it; '' for text alone."""
    exchanges: tuple[tuple[str, str], ...]
    """(question, answer); no placeholder for the media."""
    clip_start_s: float | None = None
    clip_end_s: float | None = None
    """Seconds; None: the whole file."""
    is_image: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LlavaRow:
    """A row that is a manifest row already, but for where its media lies."""

    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnotationLayout:
    """One way to write annotations down."""

    reader: Reader
    convert: Callable[[SourceRow], Iterator[Annotation | LlavaRow]]
    """Pure.

    Raises RowError for a row that is broken, SkippedRow for one that is not wanted.
    """
    companion: Companion = Companion.NONE
    inside: str = ""
    """Reader.OBJECT: rows are the members of the object under this key, not of the whole."""
    columns: tuple[str, ...] = ()
    """Reader.PARQUET: the columns that `convert` reads; others, which may be huge, stay unread."""
    embedded: str = ""
    """Reader.PARQUET: the column that holds the media's bytes, dots for nesting."""


def letter_of(position: int, options: Sequence[object]) -> str:
    """Return the letter of an option by its index from 0.

    Raises:
        RowError: there is no such option.
    """
    if not 0 <= position < len(options) <= len(LETTERS):
        raise RowError(f"the answer is option {position}, and there are {len(options)} (from 0)")
    return LETTERS[position]


def choice_question(question: str, options: Sequence[object]) -> str:
    """Write a multiple-choice question: the options as lines 'A. ...', then what to answer with."""
    lines = [f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False)]
    return "\n".join([question, *lines, CHOOSE])


def given(row: SourceRow, columns: Sequence[str]) -> str:
    """Return the first of some columns that holds something, as text; '' where none does."""
    for column in columns:
        if is_given(value := row.fields.get(column)):
            return str(value)
    return ""
