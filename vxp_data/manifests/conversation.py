"""What the human asked and the model answered, from the layouts that public sets use."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Final

from vxp_data.manifests.base import RowError, type_name

TURN_COLUMNS: Final = ("conversations", "messages")
"""Lists of turns: LLaVA's `{from, value}` or OpenAI's `{role, content}`, or such a list as JSON."""
OPTION_COLUMNS: Final = ("options", "choices", "candidates")
NUMBERED_OPTION_COLUMNS: Final = ("a0", "a1", "a2", "a3", "a4")
"""How NExT-QA names the options of its multiple-choice half."""
CAPTION_COLUMNS: Final = ("caption", "captions")
COLUMNS: Final = (
    *TURN_COLUMNS,
    "question",
    "answer",
    *OPTION_COLUMNS,
    *NUMBERED_OPTION_COLUMNS,
    *CAPTION_COLUMNS,
)
"""Every column read here; the first layout that a row has counts, in this order."""

_HUMAN: Final = frozenset({"human", "user"})
_MODEL: Final = frozenset({"gpt", "assistant", "model"})
_SILENT: Final = frozenset({"system", "tool", "function", "observation"})


def read_turns(fields: Mapping[str, object]) -> list[tuple[str, str]]:
    """Return a row's (question, answer) pairs; none where it has no conversation.

    A question without an answer has the answer ''; an answer without a question, as in a
    `caption` column, has the question ''. Options follow their question as lines 'A. ...'.

    Raises:
        RowError: a column is of the wrong type, or a turn comes from nobody we know.
    """
    for column in TURN_COLUMNS:
        if is_given(fields.get(column)) and fields[column] != []:
            return _pair(_turns(column, fields[column]))
    if is_given(fields.get("question")):
        question = _text("question", fields["question"])
        lines = [question, *_option_lines(fields)]
        answer = fields.get("answer")
        return [("\n".join(lines), "" if answer is None else str(answer))]
    for column in CAPTION_COLUMNS:
        if is_given(fields.get(column)) and fields[column] != []:
            caption = fields[column]
            return [("", caption if isinstance(caption, str) else json.dumps(caption, default=str))]
    return []


def is_given(value: object) -> bool:
    """Whether a column holds something; null and '' (an empty CSV cell) are nothing."""
    return value is not None and value != ""


def _turns(column: str, value: object) -> list[tuple[str, str]]:
    """Return the (speaker, words) of every turn; the speaker is 'human' or 'model'."""
    turns = _list(column, value, "a list of turns")
    result = []
    for number, turn in enumerate(turns, start=1):
        if not isinstance(turn, Mapping):
            raise RowError(f"{column}: turn {number} is {type_name(turn)}, wanted an object")
        who, words = ("from", "value") if "from" in turn else ("role", "content")
        speaker = str(turn.get(who))
        if speaker in _SILENT:
            continue
        if speaker not in _HUMAN | _MODEL:
            raise RowError(
                f"{column}: turn {number} is from {speaker!r}, wanted human and gpt (key 'from') "
                "or user and assistant (key 'role')"
            )
        said = _words(f"{column}: turn {number}: {words!r}", turn.get(words))
        result.append(("human" if speaker in _HUMAN else "model", said))
    return result


def _words(what: str, value: object) -> str:
    """Return a turn's text; OpenAI's content may be a list of parts, of which the text counts."""
    if not isinstance(value, list):
        return _text(what, value)
    parts = []
    for part in value:
        if not isinstance(part, Mapping):
            raise RowError(f"{what} has a part that is {type_name(part)}, wanted an object")
        kind = part.get("type")
        if kind in ("image", "video"):
            parts.append(f"<{kind}>")
        elif is_given(part.get("text")):
            parts.append(_text(what, part["text"]))
    return "\n".join(parts)


def _pair(turns: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    exchanges: list[tuple[str, str]] = []
    is_open = False
    for speaker, words in turns:
        if speaker == "human":
            exchanges.append((words, ""))
        elif is_open:
            exchanges[-1] = (exchanges[-1][0], words)
        else:
            exchanges.append(("", words))
        is_open = speaker == "human"
    return exchanges


def _option_lines(fields: Mapping[str, object]) -> list[str]:
    options: list[object] = []
    for column in OPTION_COLUMNS:
        if is_given(fields.get(column)):
            value = fields[column]
            held = value.values() if isinstance(value, Mapping) else None
            options = list(held or _list(column, value, "a list of options"))
            break
    else:
        numbered = (fields.get(column) for column in NUMBERED_OPTION_COLUMNS)
        options = [value for value in numbered if is_given(value)]
    return [f"{chr(ord('A') + index)}. {option}" for index, option in enumerate(options[:26])]


def _list(column: str, value: object, wanted: str) -> list[object]:
    """Return a list that may be written as JSON, as CSV and Parquet columns have it."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise RowError(
                f"{column} is text that is not JSON ({error}), wanted {wanted}"
            ) from error
    if not isinstance(value, list):
        raise RowError(f"{column} is {type_name(value)}, wanted {wanted}")
    return value


def _text(what: str, value: object) -> str:
    if not isinstance(value, str):
        raise RowError(f"{what} is {type_name(value)}, wanted text")
    return value
