"""A row's conversation: who says what, and where its media are shown.

As JSON it is what chat templates take: a list of `{"role", "content"}`, where content is the text,
or, in a turn that shows media, a list of parts `{"type": "text", "text": ...}`, `{"type": "video"}`
and `{"type": "image"}`. The n-th such place is that of the row's n-th medium, so that no word of
the text ever stands for a medium.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

MEDIA_TYPES: Final = ("video", "image")


class Role(StrEnum):
    """Who speaks; the names are those of chat templates."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    """The only turns that a model learns to say."""
    TOOL = "tool"
    """What a tool gave back."""


_ROLES: Final = {role.value: role for role in Role}
_KEYS: Final = frozenset({"role", "content"})


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a turn: words, or the place of a medium."""

    type: str
    """'text', 'video' or 'image'."""
    text: str = ""
    """Of a 'text'."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What one side says at a time."""

    role: Role
    parts: tuple[Part, ...]

    @classmethod
    def of_text(cls, role: Role, text: str) -> Turn:
        """Make a turn of words alone."""
        return cls(role, (Part("text", text),) if text else ())

    @property
    def text(self) -> str:
        """All its words, without the places of media."""
        parts = self.parts
        return parts[0].text if len(parts) == 1 else "".join([part.text for part in parts])

    @property
    def num_media(self) -> int:
        """How many media it shows."""
        return len([part for part in self.parts if part.type != "text"])

    @property
    def is_blank(self) -> bool:
        """Whether it says and shows nothing."""
        return not self.num_media and not self.text.strip()

    @property
    def message(self) -> dict[str, Any]:
        """The turn as chat templates take it."""
        if not self.num_media:
            return {"role": self.role.value, "content": self.text}
        parts = [
            {"type": "text", "text": part.text} if part.type == "text" else {"type": part.type}
            for part in self.parts
        ]
        return {"role": self.role.value, "content": parts}


def conversation_json(turns: Iterable[Turn]) -> str:
    """Write a conversation as `conversation_from_json` reads it, on one line.

    What is no Unicode text, a lone surrogate, becomes '?'.
    """
    messages = [turn.message for turn in turns]
    text = json.dumps(messages, ensure_ascii=False, separators=(",", ":"))
    return text.encode(errors="replace").decode()


def conversation_from_json(text: str) -> tuple[Turn, ...]:
    """Read a conversation.

    Raises:
        ValueError: it is not a JSON list of messages as this module's page says; which one is not.
    """
    messages = json.loads(text)
    if not isinstance(messages, list):
        raise ValueError(f"a conversation is {type(messages).__name__}, wanted a list")
    return tuple(_turn(number, message) for number, message in enumerate(messages, start=1))


def question_answer_pairs(turns: Iterable[Turn]) -> list[tuple[str, str]]:
    """Return who asked what and what was answered: what rules over a row's words look at.

    A question without an answer has the answer '', an answer without a question the question ''.
    System and tool turns do not count.
    """
    pairs: list[tuple[str, str]] = []
    is_open = False
    for turn in turns:
        if turn.role is Role.USER:
            pairs.append((turn.text.strip() if turn.num_media else turn.text, ""))
        elif turn.role is not Role.ASSISTANT:
            continue
        elif is_open:
            pairs[-1] = (pairs[-1][0], turn.text)
        else:
            pairs.append(("", turn.text))
        is_open = turn.role is Role.USER
    return pairs


def turns_of_pairs(pairs: Iterable[Sequence[str]]) -> tuple[Turn, ...]:
    """Return the turns of (question, answer) pairs; what is '' was not said."""
    return tuple(
        Turn.of_text(role, text)
        for pair in pairs
        for role, text in zip((Role.USER, Role.ASSISTANT), pair, strict=True)
        if text
    )


def _turn(number: int, message: object) -> Turn:
    if not isinstance(message, dict) or message.keys() != _KEYS:
        raise ValueError(f"turn {number} is {message!r:.80}, wanted an object of role and content")
    said, content = message["role"], message["content"]
    role = _ROLES.get(said) if isinstance(said, str) else None
    if role is None:
        raise ValueError(f"turn {number}: role is {said!r:.80}, wanted {', '.join(Role)}")
    if isinstance(content, str):
        return Turn.of_text(role, content)
    if not isinstance(content, list):
        raise ValueError(f"turn {number}: content is {content!r:.80}, wanted text or parts")
    return Turn(role, tuple([_part(number, part) for part in content]))


def _part(number: int, part: object) -> Part:
    if isinstance(part, dict):
        kind, text = part.get("type"), part.get("text")
        if kind == "text" and isinstance(text, str) and len(part) == 2:
            return Part("text", text)
        if kind in MEDIA_TYPES and len(part) == 1:
            return Part(kind)
    raise ValueError(f"turn {number}: a part is {part!r:.80}, wanted a text, video or image")
