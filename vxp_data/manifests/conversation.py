"""Who says what in a row, and where its media are shown, whatever the row's shape."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Final

from vxp_data.conversation import Part, Role, Turn
from vxp_data.manifests.base import RowError
from vxp_data.manifests.conversation_shapes import (
    Message,
    content_parts,
    read_list,
    read_messages,
)

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


def read_turns(fields: Mapping[str, object]) -> list[Turn]:
    """Return a row's turns as they are there, the markers of media among their words.

    Options follow their question as lines 'A. ...'; a caption is an answer without a question. A
    tool's call is what the assistant says, in the tags in which Qwen writes it.

    Raises:
        RowError: a column is of the wrong type, or a turn comes from nobody we know.
    """
    return [_turn(message) for message in read_messages(fields).messages]


def _turn(message: Message) -> Turn:
    if message.role not in _ROLES:
        raise RowError(
            f"{message.where} is from {message.role!r}, wanted human and gpt (key 'from') or user "
            "and assistant (key 'role'), or system, tool"
        )
    calls = _calls(f"{message.where}: 'tool_calls'", message.tool_calls)
    parts = () if calls and message.content is None else content_parts(message)
    if message.role in _CALLS:
        parts = (Part("text", _call("".join(part.text for part in parts))),)
    return Turn(_ROLES[message.role], _joined([*parts, *calls]))


def _calls(what: str, calls: object) -> list[Part]:
    """Return OpenAI's list of a turn's tool calls, each as text."""
    if calls is None:
        return []
    texts = []
    for call in read_list(what, calls, "a list of calls"):
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
