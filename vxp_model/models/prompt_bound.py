"""How many positions a prompt's text may take at most, without a tokenizer.

A token of a byte-level tokenizer, such as Qwen's, stands for one byte of UTF-8 at least. Qwen's
normalises text to NFC first, which makes at most three bytes of one (Unicode's own bound), and
leaves ASCII as it is. What the template adds (see `processor.CHAT_TEMPLATE`) is counted as bytes
too: `<|im_start|>`, the role and a line break, `<|im_end|>` and a line break.

Shapes: N rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

NFC_GROWTH: Final = 3
"""Bytes of UTF-8 that NFC makes of one, at most."""
_SYSTEM, _ANSWER, _QUESTION = (4 + len(role) for role in ("system", "assistant", "user"))
_TOOL: Final = _QUESTION + len("<tool_response>\n") + len("\n</tool_response>")
_ADDED: Final = {"system": _SYSTEM, "assistant": _ANSWER, "user": _QUESTION, "tool": _TOOL}
"""Positions that a turn of a role takes beside its text, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptBound:
    """Bounds for conversations, of which those without a system turn get one.

    Attributes:
        system: text of that turn.
    """

    system: str

    def of_counts(
        self,
        *,
        text_bytes_N: NDArray[np.int64],
        answer_bytes_N: NDArray[np.int64],
        num_answers_N: NDArray[np.int32],
        num_media_N: NDArray[np.int32],
    ) -> NDArray[np.int64]:
        """Return the bound for rows of which only this is known.

        How many turns the others have is not known: each shows a medium, or says a byte.

        Args:
            text_bytes_N: of all turns.
            answer_bytes_N: of the assistant's.
            num_answers_N: turns of the assistant's that say something.
            num_media_N: of the row, all shown in the user's turns.
        """
        media_N = num_media_N.astype(np.int64)
        others_N = text_bytes_N.astype(np.int64) - answer_bytes_N + media_N
        turns_N = _ANSWER * num_answers_N.astype(np.int64) + _TOOL * others_N
        return NFC_GROWTH * text_bytes_N.astype(np.int64) + turns_N + media_N + self._system

    def of_turns(self, turns: Iterable[tuple[str, str, int]]) -> int:
        """Return the bound for one conversation.

        Args:
            turns: role, text, and how many media each shows, with a line break after it.
        """
        own = sum(_ADDED[role] + _num_bytes(text) + media for role, text, media in turns)
        return own + self._system

    @property
    def _system(self) -> int:
        return _SYSTEM + _num_bytes(self.system)


def _num_bytes(text: str) -> int:
    return len(text) if text.isascii() else NFC_GROWTH * len(text.encode())
