"""What is asked about a watched video, and the conversation that it becomes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vxp_model.errors import require


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One question, and what goes with it."""

    text: str
    """Alone decides which visual tokens stay."""
    history: Sequence[tuple[str, str]] = ()
    """Questions and answers before it."""
    system: str | None = None
    """The system turn; None: the processor's own."""
    prime: str = ""
    """What the answer is made to begin with; no part of what is given back. It is tokenised by
    itself, and so is what follows: a prime ends where a word may begin."""
    texts: Sequence[tuple[float, str]] = ()
    """Pairs (seconds, text) in time order, each a line right before the first group of frames that
    begins later. No question drops it."""
    max_new_tokens: int = 256
    """Longest answer; room for it is kept below the context limit."""

    def __post_init__(self) -> None:
        require(
            self.max_new_tokens >= 1,
            f"max_new_tokens must be 1 or more, got {self.max_new_tokens}.",
        )

    def conversation(self) -> list[dict[str, Any]]:
        """Return the turns."""
        return conversation(self.text, self.history, system=self.system)


def conversation(
    question: str, history: Sequence[tuple[str, str]] = (), *, system: str | None = None
) -> list[dict[str, Any]]:
    """Write questions and answers as turns, the video at the beginning of the first question."""
    turns: list[dict[str, Any]] = []
    for asked, answered in history:
        turns += [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
    turns.append({"role": "user", "content": question})
    video, text = {"type": "video", "video": None}, {"type": "text", "text": turns[0]["content"]}
    turns[0] = {"role": "user", "content": [video, text]}
    return turns if system is None else [{"role": "system", "content": system}, *turns]
