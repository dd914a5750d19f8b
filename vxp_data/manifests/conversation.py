"""Who says what in a row, from the layouts that public sets use."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Final

from vxp_data.conversation import MEDIA_TYPES, Part, Role, Turn
from vxp_data.manifests.base import RowError, type_name
from vxp_data.media_markers import place_media

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

_ROLES: Final[Mapping[str, Role]] = {
    "human": Role.USER,
    "user": Role.USER,
    "gpt": Role.ASSISTANT,
    "assistant": Role.ASSISTANT,
    "model": Role.ASSISTANT,
    "function_call": Role.ASSISTANT,
    "tool_call": Role.ASSISTANT,
    "system": Role.SYSTEM,
    "developer": Role.SYSTEM,
    "tool": Role.TOOL,
    "tool_response": Role.TOOL,
    "function": Role.TOOL,
    "observation": Role.TOOL,
}
_CALLS: Final = frozenset({"function_call", "tool_call"})
"""Assistants' turns that hold nothing but the JSON of a tool's call."""


def read_conversation(fields: Mapping[str, object], kinds: Sequence[str]) -> tuple[Turn, ...]:
    """Return a row's conversation, its media at their places; empty where it has none.

    Args:
        fields: of the row.
        kinds: 'video' or 'image' of each medium that the row names, in order.

    Raises:
        RowError: a column is of the wrong type, a turn comes from nobody we know, or shows a medium
            that the row does not name.
    """
    try:
        return place_media(read_turns(fields), kinds)
    except ValueError as error:
        raise RowError(str(error)) from error


def read_turns(fields: Mapping[str, object]) -> list[Turn]:
    """Return a row's turns as they are there, the markers of media among their words.

    Options follow their question as lines 'A. ...'; a caption is an answer without a question. A
    tool's call is what the assistant says, in the tags in which Qwen writes it.

    Raises:
        RowError: see `read_conversation`.
    """
    for column in TURN_COLUMNS:
        if is_given(fields.get(column)) and fields[column] != []:
            return _turns(column, fields[column])
    if is_given(fields.get("question")):
        question = _text("question", fields["question"])
        turns = [Turn.of_text(Role.USER, "\n".join([question, *_option_lines(fields)]))]
        if is_given(answer := fields.get("answer")):
            turns.append(Turn.of_text(Role.ASSISTANT, str(answer)))
        return turns
    for column in CAPTION_COLUMNS:
        if is_given(fields.get(column)) and fields[column] != []:
            caption = fields[column]
            text = caption if isinstance(caption, str) else json.dumps(caption, default=str)
            return [Turn.of_text(Role.ASSISTANT, text)]
    return []


def is_given(value: object) -> bool:
    """Whether a column holds something; null and '' (an empty CSV cell) are nothing."""
    return value is not None and value != ""


def _turns(column: str, value: object) -> list[Turn]:
    turns = _list(column, value, "a list of turns")
    return [_turn(f"{column}: turn {number}", turn) for number, turn in enumerate(turns, start=1)]


def _turn(what: str, turn: object) -> Turn:
    if not isinstance(turn, Mapping):
        raise RowError(f"{what} is {type_name(turn)}, wanted an object")
    who, words = ("from", "value") if "from" in turn else ("role", "content")
    speaker = str(turn.get(who))
    if speaker not in _ROLES:
        raise RowError(
            f"{what} is from {speaker!r}, wanted human and gpt (key 'from') or user and assistant "
            "(key 'role'), or system, tool"
        )
    calls = _calls(f"{what}: 'tool_calls'", turn.get("tool_calls"))
    said = turn.get(words)
    parts = () if calls and said is None else _parts(f"{what}: {words!r}", said)
    if speaker in _CALLS:
        parts = (Part("text", _call("".join(part.text for part in parts))),)
    return Turn(_ROLES[speaker], _joined([*parts, *calls]))


def _parts(what: str, value: object) -> tuple[Part, ...]:
    """Return a turn's parts; OpenAI's content may be a list of them."""
    if not isinstance(value, list):
        return (Part("text", _text(what, value)),)
    parts = []
    for part in value:
        if not isinstance(part, Mapping):
            raise RowError(f"{what} has a part that is {type_name(part)}, wanted an object")
        if (kind := part.get("type")) in MEDIA_TYPES:
            parts.append(Part(str(kind)))
        elif is_given(part.get("text")):
            parts.append(Part("text", _text(what, part["text"])))
    return tuple(parts)


def _calls(what: str, calls: object) -> list[Part]:
    """Return OpenAI's list of a turn's tool calls, each as text."""
    if calls is None:
        return []
    texts = []
    for call in _list(what, calls, "a list of calls"):
        function = call.get("function", call) if isinstance(call, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise RowError(f"{what} holds {call!r:.80}, wanted an object with a function's name")
        given = function.get("arguments")
        arguments = given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)
        name = json.dumps(function["name"], ensure_ascii=False)
        texts.append(Part("text", _call(f'{{"name": {name}, "arguments": {arguments}}}')))
    return texts


def _call(text: str) -> str:
    return f"<tool_call>\n{text.strip()}\n</tool_call>"


def _joined(parts: Sequence[Part]) -> tuple[Part, ...]:
    """Join neighbouring texts by a line break: a turn has no two of them in a row."""
    joined: list[Part] = []
    for part in parts:
        if not (part.type != "text" or part.text):
            continue
        if part.type == "text" and joined and joined[-1].type == "text":
            joined[-1] = Part("text", f"{joined[-1].text}\n{part.text}")
        else:
            joined.append(part)
    return tuple(joined)


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
