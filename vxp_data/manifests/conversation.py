"""What the human asked and the model answered, whatever the row's shape."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from vxp_data.manifests.base import RowError
from vxp_data.manifests.conversation_shapes import Message, content_text, read_conversation

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
    return _pair(_turns(read_conversation(fields).messages))


def _turns(messages: Iterable[Message]) -> list[tuple[str, str]]:
    """Return the (speaker, words) of every turn; the speaker is 'human' or 'model'."""
    result = []
    for message in messages:
        speaker = message.role
        if speaker in _SILENT:
            continue
        if speaker not in _HUMAN | _MODEL:
            raise RowError(
                f"{message.where} is from {speaker!r}, wanted human and gpt (key 'from') "
                "or user and assistant (key 'role')"
            )
        said = content_text(message)
        result.append(("human" if speaker in _HUMAN else "model", said))
    return result


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
