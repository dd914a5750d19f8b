"""The words `<video>` and `<image>`, by which rows say where their media go.

They are markup only where a medium is. In rows without media, in answers, in system and tool turns
they are words like any other, and so is one in a question that the row has no medium for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from vxp_data.conversation import MEDIA_TYPES, Part, Role, Turn

MARKERS: Final[Mapping[str, str]] = {kind: f"<{kind}>" for kind in MEDIA_TYPES}
"""By kind of medium. LLaVA writes `<image>` for videos too."""
MARKER: Final = re.compile(r"<(video|image)>")

_MARKERS_ALONE: Final = re.compile(r"(?:\s|<(?:video|image)>)*")


class _Place(IntEnum):
    """How sure it is that a marker is markup, the surest first."""

    PART = 0
    """A part of its own: nothing that is said."""
    ALONE = 1
    """At the beginning of the turn, or on a line without words."""
    END = 2
    INSIDE = 3
    """Among words: it may be talk about HTML."""


@dataclass(frozen=True, slots=True)
class _Marker:
    """One marker: of which turn and part of it, and where in the part's text."""

    turn: int
    part: int
    start: int
    end: int
    kind: str
    place: _Place


def place_media(turns: Sequence[Turn], kinds: Sequence[str]) -> tuple[Turn, ...]:
    """Put a row's media into its conversation.

    Each marker that stands for a medium becomes its place; of too many markers in the users' turns,
    the surest are taken. One too many goes where it can be nothing but markup (alone on its line,
    or at the beginning of a turn), and stays a word otherwise. A medium without a marker is shown
    at the beginning of the user's first turn; where the user says nothing, before the first answer.
    A line break after media at the beginning of a turn is markup as well.

    Args:
        turns: of the row; text as it is there, and media where it has them as parts.
        kinds: 'video' or 'image' of each of the row's media, in their order.

    Raises:
        ValueError: a turn has a medium as a part that no row can show: the row names none, or it
            is not the user's turn.
    """
    _check_parts(turns, kinds)
    if not kinds or not turns:
        return tuple(turns)
    found = list(_markers(turns))
    by_sureness = sorted(found, key=lambda marker: (marker.place, marker.kind not in kinds))
    taken = set(by_sureness[: len(kinds)])
    spare = {marker for marker in found if marker not in taken and marker.place <= _Place.ALONE}
    left = iter(kinds)
    num_missing = len(kinds) - len(taken)
    missing = tuple(Part(next(left)) for _ in range(num_missing))
    users = [number for number, turn in enumerate(turns) if turn.role is Role.USER]
    result: list[Turn] = []
    for number, turn in enumerate(turns):
        if missing and not users and turn.role is Role.ASSISTANT:
            result.append(Turn(Role.USER, missing))
            missing = ()
        own = [marker for marker in found if marker.turn == number]
        parts = _placed(turn, own, taken, spare, left) if own else turn.parts
        if users and number == users[0]:
            parts = missing + parts
        result.append(turn if parts is turn.parts else Turn(turn.role, parts))
    return tuple(result)


def shown_order(turns: Sequence[Turn], kinds: Sequence[str]) -> list[int]:
    """Return a row's media in the order in which its conversation shows them.

    Where there is a marker of its own kind for each, the n-th marker of a kind is of the n-th
    medium of that kind; else the order is the row's own.

    Args:
        turns: of the row, as `place_media` takes them.
        kinds: of its media, in the row's order.
    """
    surest = sorted(_markers(turns), key=lambda marker: (marker.place, marker.kind not in kinds))
    taken = sorted(
        surest[: len(kinds)], key=lambda marker: (marker.turn, marker.part, marker.start)
    )
    shown = [marker.kind for marker in taken]
    if sorted(shown) != sorted(kinds):
        return list(range(len(kinds)))
    of_kind = {kind: iter([i for i, own in enumerate(kinds) if own == kind]) for kind in kinds}
    return [next(of_kind[kind]) for kind in shown]


def marked_text(turn: Turn, markers: Mapping[str, str] = MARKERS) -> str:
    """Write a turn as one text, a marker for each of its media; `place_media` reads it back."""
    text, is_beginning = "", True
    for part in turn.parts:
        if part.type != "text":
            text += ("\n" if text and is_beginning else "") + markers[part.type]
            continue
        text += ("\n" if text and is_beginning else "") + part.text
        is_beginning = False
    return text


def num_markers(turns: Sequence[Turn]) -> int:
    """Count the places of media, and the markers that stayed words, in the users' turns.

    More than the row has media: it marks media that it does not name, or talks about HTML.
    """
    asked = [turn for turn in turns if turn.role is Role.USER]
    return sum(turn.num_media + len(MARKER.findall(turn.text)) for turn in asked)


def num_unplaced(turns: Sequence[Turn]) -> int:
    """Count the markers in the users' turns that can be nothing but markup and stand for no medium.

    They are alone on their line, or at the beginning of a turn; elsewhere it may be talk about
    HTML. `place_media` leaves such markers only where the row names no media at all.

    Args:
        turns: with its media at their places.
    """
    return sum(marker.place is _Place.ALONE for marker in _markers(turns))


def _check_parts(turns: Sequence[Turn], kinds: Sequence[str]) -> None:
    for number, turn in enumerate(turns, start=1):
        if not turn.num_media:
            continue
        kind = next(part.type for part in turn.parts if part.type != "text")
        if turn.role is not Role.USER:
            raise ValueError(
                f"turn {number}, the {turn.role.value}'s, shows media of type {kind}, wanted text: "
                "only a user's turn may show any"
            )
        if not kinds:
            raise ValueError(f"turn {number} shows a {kind}, and the row names none")


def _markers(turns: Sequence[Turn]) -> Iterator[_Marker]:
    for number, turn in enumerate(turns):
        if turn.role is not Role.USER:
            continue
        is_beginning = True
        for index, part in enumerate(turn.parts):
            if part.type != "text":
                yield _Marker(number, index, 0, 0, part.type, _Place.PART)
                continue
            for match in MARKER.finditer(part.text):
                place = _place(part.text, match, is_beginning)
                yield _Marker(number, index, *match.span(), match[1], place)
            is_beginning = False


def _place(text: str, match: re.Match[str], is_beginning: bool) -> _Place:
    before, after = text[: match.start()], text[match.end() :]
    line = before[before.rfind("\n") + 1 :] + after.partition("\n")[0]
    if _MARKERS_ALONE.fullmatch(line) or (is_beginning and _MARKERS_ALONE.fullmatch(before)):
        return _Place.ALONE
    return _Place.END if _MARKERS_ALONE.fullmatch(after) else _Place.INSIDE


def _placed(
    turn: Turn,
    markers: Sequence[_Marker],
    taken: set[_Marker],
    spare: set[_Marker],
    left: Iterator[str],
) -> tuple[Part, ...]:
    """Return a user's turn with media where the markers taken are, and without the spare ones."""
    parts: list[Part] = []
    for index, part in enumerate(turn.parts):
        text, at = "", 0
        for marker in markers:
            if marker.part != index or marker not in taken | spare:
                continue
            text += part.text[at : marker.start]
            at = marker.end
            has_break = part.text[at : at + 1] == "\n"
            if marker in taken:
                parts += [Part("text", text)] * bool(text) + [Part(next(left))]
                text = ""
                at += has_break and all(part.type != "text" for part in parts)
            elif has_break:
                at += 1
            else:
                text = text.removesuffix("\n")
        text += part.text[at:]
        parts += [Part("text", text)] * bool(text)
    return tuple(parts)
