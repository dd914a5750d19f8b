"""What of a conversation other trainers can train on: questions and answers by turns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from enum import StrEnum

from vxp_data.conversation import Part, Role, Turn


class LeftOut(StrEnum):
    """What is left out, as the user is told."""

    BLANK = "turns that say nothing"
    UNANSWERED = "turns after the last answer"
    UNASKED = "answers before any question"
    SECOND = "answers right after another answer"
    ROW = "rows without an answer"
    ROW_OF_MEDIA = "rows that show their video or image after the last answer"


def trained_turns(turns: Sequence[Turn], left_out: Counter[LeftOut]) -> list[Turn]:
    """Return the turns that can be trained on; none where there is no answer to learn.

    Trainers want the user's and the assistant's turns to alternate. So what the user says in
    several turns running becomes one, and of several answers the first stays. System and tool
    turns stay where they are, and the last turn is an answer.

    Args:
        turns: the row's.
        left_out: counted up.
    """
    own: Counter[LeftOut] = Counter()
    kept: list[Turn] = []
    last: Role | None = None
    for turn in turns:
        if turn.is_blank:
            own[LeftOut.BLANK] += 1
        elif turn.role is Role.ASSISTANT and last in (None, Role.ASSISTANT):
            own[LeftOut.UNASKED if last is None else LeftOut.SECOND] += 1
        elif kept and turn.role is kept[-1].role is Role.USER:
            kept[-1] = _joined(kept[-1], turn)
        else:
            kept.append(turn)
            last = last if turn.role is Role.SYSTEM else turn.role
    end = max((i for i, turn in enumerate(kept, 1) if turn.role is Role.ASSISTANT), default=0)
    if not end:
        own = Counter([LeftOut.ROW])
    elif any(turn.num_media for turn in kept[end:]):
        own, end = Counter([LeftOut.ROW_OF_MEDIA]), 0
    elif kept[end:]:
        own[LeftOut.UNANSWERED] += len(kept) - end
    left_out.update(own)
    return kept[:end]


def _joined(first: Turn, second: Turn) -> Turn:
    parts = list(first.parts)
    for part in ((Part("text", "\n"),) if first.text else ()) + second.parts:
        if parts and part.type == parts[-1].type == "text":
            parts[-1] = Part("text", parts[-1].text + part.text)
        else:
            parts.append(part)
    return Turn(first.role, tuple(parts))
