"""Conversations as lists of turns, checked.

A turn is what transformers' chat templates take.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from vxp_model.errors import UserError

Message = Mapping[str, Any]
"""{'role': 'system' | 'user' | 'assistant' | 'tool', 'content': text or a list of parts}, a part
being {'type': 'text', 'text': ...}, {'type': 'video', 'video': ...} or {'type': 'image', 'image':
...}; see `VideoXLProProcessor`."""

ROLES: Final = ("system", "user", "assistant", "tool")


def batch_of(given: Sequence[Any]) -> list[Sequence[Message]]:
    """Return conversations as a list, whether one was given or several."""
    return [given] if given and isinstance(given[0], Mapping) else list(given)


def checked(conversation: Sequence[Message]) -> list[Message]:
    """Return a conversation whose turns and parts are what they should be.

    Raises:
        UserError: one is not.
    """
    if not conversation:
        raise UserError("a conversation of no turns: give one at least.")
    for turn in conversation:
        if turn.get("role") not in ROLES or "content" not in turn:
            raise UserError(
                f"a turn must have a 'role' of {', '.join(ROLES)} and 'content', got {turn!r:.80}."
            )
        for part in parts_of(turn):
            kind = part.get("type")
            if kind not in ("text", "video", "image") or kind not in part:
                raise UserError(
                    "a part of a turn must have a 'type' of text, video or image and a value of "
                    f"that name, got {part!r:.80}."
                )
            if kind != "text" and turn["role"] != "user":
                raise UserError(
                    f"a {kind} may stand in a user's turn, not in the {turn['role']}'s."
                )
    return list(conversation)


def with_tools_joined(turns: Sequence[Message]) -> list[Message]:
    """Write what tools gave in Qwen2.5's tags; neighbouring tool turns become one."""
    joined: list[Message] = []
    for turn in turns:
        if turn["role"] != "tool":
            joined.append(turn)
            continue
        text = "".join(part["text"] for part in parts_of(turn))
        text = f"<tool_response>\n{text}\n</tool_response>"
        if joined and joined[-1]["role"] == "tool":
            text = f"{joined.pop()['content']}\n{text}"
        joined.append({"role": "tool", "content": text})
    return joined


def question_of(turns: Sequence[Message], answer: int) -> int | None:
    """Find the question that an answer answers.

    Args:
        turns: of a conversation.
        answer: its number among them; as many as there are turns: the answer to come.

    Returns:
        The number of the last turn of the user's before it that says something; None: there is
        none.
    """
    for number in range(answer - 1, -1, -1):
        turn = turns[number]
        texts = [part["text"] for part in parts_of(turn) if part["type"] == "text"]
        if turn["role"] == "user" and "".join(texts).strip():
            return number
    return None


def parts_of(turn: Message) -> list[Message]:
    """Return the parts of a turn; text alone is one."""
    content = turn["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)


def visual_parts(conversation: Sequence[Message]) -> list[Message]:
    """Return the videos and images of a conversation, in their order."""
    turns = checked(conversation)
    return [part for turn in turns for part in parts_of(turn) if part["type"] != "text"]
