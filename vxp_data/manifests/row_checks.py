"""Is all of a row understood? What is not is a bad row, never one without media or words.

A row may be text alone, and a video may come without words. What tells such a row from one whose
column we do not know is what stands in the columns that nothing here reads.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

from vxp_data.core.tasks import PLACEHOLDER
from vxp_data.manifests import conversation_shapes as shapes
from vxp_data.manifests import row_media, row_values
from vxp_data.manifests.base import RowError, is_given
from vxp_data.manifests.media_path import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from vxp_data.manifests.row_columns import has_no_media, has_no_words, top_of
from vxp_data.manifests.row_media import NamedMedia

READ_COLUMNS: Final = frozenset(
    (
        *row_values.ID_COLUMNS,
        *row_values.ALL_CLIP_COLUMNS,
        *row_media.COLUMNS,
        *shapes.COLUMNS,
    )
)
"""Every column that something here reads."""

_PLACEHOLDER_AT_END: Final = re.compile(  # elsewhere it may be talk about HTML
    rf"^\s*{PLACEHOLDER.pattern}|{PLACEHOLDER.pattern}\s*$", re.IGNORECASE
)
_MEDIA_IN_TEXT: Final = re.compile(
    r"<(img|image|video)>[^<\n]+</\1>|<\|(?:image|video)_pad\|>|<\|vision_start\|>", re.IGNORECASE
)
_SUFFIX: Final = "|".join(map(re.escape, sorted(VIDEO_SUFFIXES | set(IMAGE_SUFFIXES))))
_MEDIA_FILE: Final = re.compile(
    rf"[^\n]*(?:{_SUFFIX})(?:[?#]\S*)?"
    r"|data:(?:image|video)/.*",
    re.IGNORECASE | re.DOTALL,
)
_MEDIA_NAME: Final = re.compile(
    r"video|image|clip|media|footage|movie|picture|photo|frames|(?:^|_)(?:vid|img|yt|youtube)(?:_|$|id)",
    re.IGNORECASE,
)
_WORDS: Final = re.compile(r"[^\W\d_]\s+[^\W_]|[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]{3}")
"""Words: a letter, white space, and what goes on; or a script that has no white space."""
_WORDLESS: Final = frozenset(
    (
        *row_values.ID_COLUMNS,
        *row_values.ALL_CLIP_COLUMNS,
        *row_media.COLUMNS,
        *shapes.OPTION_COLUMNS,
        *shapes.NUMBERED_OPTION_COLUMNS,
    )
)
_SHOWN: Final = 8
_DEEP: Final = 8


def check_understood(
    fields: Mapping[str, object],
    view: Mapping[str, object],
    media: Sequence[NamedMedia],
    exchanges: Sequence[tuple[str, str]],
    columns: Mapping[str, str],
    task_field: str | None,
) -> None:
    """Refuse a row of which something that matters has not been understood.

    Args:
        fields: the row.
        view: the row as `with_columns` gives it.
        media: what it names.
        exchanges: its (question, answer) pairs.
        columns: what the user says of its columns.
        task_field: the column that names its task.

    Raises:
        RowError: it has neither media nor words; or no media, and something that looks like one;
            or no words, and a column that holds some.
    """
    if not media:
        _check_text_row(fields, exchanges, columns)
    if has_no_words(columns) or any(answer.strip() for _, answer in exchanges):
        return
    read = shapes.read_messages(view)
    known = {*_WORDLESS, *read.columns, *(top_of(fields, name) for name in columns.values())}
    known.add((task_field or "").split(".")[0])
    hint = f"{_wanted_words(fields)} Where rows have none: --columns answer="
    if not any(question.strip() for question, _ in exchanges):
        if spare := _with_text(fields, known, _is_words):
            raise RowError(f"no conversation is found, and words are in {_listed(spare)}. {hint}")
    elif not read.has_answer and (spare := _with_text(fields, known, _is_text)):
        raise RowError(
            f"the question in column {read.columns[0]!r} has no answer, which may be in "
            f"{_listed(spare)}. {hint}"
        )


def _check_text_row(
    fields: Mapping[str, object],
    exchanges: Sequence[tuple[str, str]],
    columns: Mapping[str, str],
) -> None:
    wanted = (
        f"Columns wanted: one of {', '.join(row_media.COLUMNS)}; columns found: {_found(fields)}. "
        "For another: --columns video=COLUMN"
    )
    if not any(question for question, _ in exchanges):
        raise RowError(f"the row has neither a media nor a conversation. {wanted}")
    if any(_PLACEHOLDER_AT_END.search(question) for question, _ in exchanges):
        raise RowError(
            f"the conversation has a placeholder for a media, and the row names none. {wanted}"
        )
    for question, _ in exchanges:
        if match := _MEDIA_IN_TEXT.search(question):
            raise RowError(
                f"the conversation has {match[0]!r:.80} in its text, which is not read. {wanted}"
            )
    if has_no_media(columns):
        return
    if spare := list(_media_like(fields)):
        raise RowError(
            f"the row names no media, and {_listed(spare)} may hold one. {wanted}; where rows have "
            "none: --columns video="
        )


def _media_like(fields: Mapping[str, object]) -> Iterator[str]:
    """Return the columns that hold what looks like a media, or are called so."""
    for name, value in fields.items():
        is_words = name in shapes.PAIRED_COLUMNS and not _json_in(value)
        if is_words or name in row_values.ID_COLUMNS:
            continue
        is_called_so = name not in READ_COLUMNS and bool(_MEDIA_NAME.search(name))
        leaves = _leaves(value, without_words=name in shapes.TURN_COLUMNS)
        if any(_is_media(leaf) or (is_called_so and leaf not in (0, False)) for leaf in leaves):
            yield name


def _with_text(
    fields: Mapping[str, object], known: Iterable[str], is_wanted: Callable[[str], bool]
) -> list[str]:
    """Return the columns, but for some, in which a text stands that is wanted."""
    left_out = frozenset(known)
    return [
        name
        for name, value in fields.items()
        if name not in left_out
        and any(isinstance(leaf, str) and is_wanted(leaf) for leaf in _leaves(value))
    ]


def _leaves(value: object, *, without_words: bool = False, depth: int = 0) -> Iterator[object]:
    """Return what stands in a value, but for lists and objects themselves, JSON text opened."""
    if depth > _DEEP:
        return
    value = _json_in(value) or value
    if isinstance(value, Mapping):
        for key, held in value.items():
            if not (without_words and key in ("value", "content") and isinstance(held, str)):
                yield from _leaves(held, without_words=without_words, depth=depth + 1)
    elif isinstance(value, list | tuple):
        for held in value:
            yield from _leaves(held, without_words=without_words, depth=depth + 1)
    elif is_given(value):
        yield value


def _json_in(value: object) -> object:
    """Return the list or object that a text is as JSON; None for all else."""
    if not isinstance(value, str) or value[:1] not in ("[", "{"):
        return None
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return None


def _is_media(leaf: object) -> bool:
    if isinstance(leaf, bytes):
        return True
    return isinstance(leaf, str) and _MEDIA_FILE.fullmatch(leaf.strip()) is not None


def _is_words(text: str) -> bool:
    return _WORDS.search(text) is not None and not _is_media(text)


def _is_text(text: str) -> bool:
    return bool(text.strip()) and not _is_media(text)


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(f"{name!r:.80}" for name in names[:_SHOWN])
    return f"{'column' if len(names) == 1 else 'columns'} {shown}"


def _found(fields: Mapping[str, object]) -> str:
    return ", ".join(f"{name!r:.80}" for name in list(fields)[:_SHOWN]) or "none"


def _wanted_words(fields: Mapping[str, object]) -> str:
    return (
        f"Columns wanted: one of {', '.join(shapes.TURN_COLUMNS)}; a question and its answer "
        f"({', '.join(map('/'.join, shapes.PAIRS))}); or one of "
        f"{', '.join(shapes.CAPTION_COLUMNS)}. Columns found: {_found(fields)}. For others: "
        "--columns question=COLUMN,answer=COLUMN, or caption=COLUMN."
    )
