"""Every request to a model, answered once: what it has said is kept beside the scores."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from asks import Answer, Ask, Backend, Failure, Keyed

from vxp_model.errors import UserError
from vxp_model.eval.store import Appended, read_lines

MOST_IN_A_ROW: Final = 16
"""Failures one after another that end the command: before the first answer of any kind, later
those that may be the server's."""
_TOLD_EVERY_S: Final = 30.0


def journal_of(out: Path) -> Path:
    """Return where answers are kept that the scores of a file are made of."""
    return out.with_name(f"{out.name}.answers.jsonl")


def ask_all(
    backend: Backend,
    asks: Iterable[Ask],
    journal: Path,
    say: Callable[[str], None] = lambda text: print(text, file=sys.stderr, flush=True),
) -> dict[str, Answer | Failure]:
    """Return the answer to each request by its key; what is kept is not asked again.

    Args:
        backend: who is asked.
        asks: all requests; the same one twice is asked once.
        journal: file of JSON lines, only ever appended to; a failure is not kept, so that it is
            asked again the next time.
        say: told about the progress.

    Raises:
        UserError: nobody can be asked; what was answered before is kept.
    """
    found: dict[str, Answer | Failure] = {row["key"]: row["answer"] for row in read_lines(journal)}
    watch = _Watch(say, num_kept=len(found))
    with Appended(journal) as kept:
        for key, answer in backend.answers(_new(backend, asks, set(found))):
            found[key] = answer
            if not isinstance(answer, Failure):
                kept.add({"key": key, "answer": answer})
            watch.see(answer)
    return found


def _new(backend: Backend, asks: Iterable[Ask], known: set[str]) -> Iterator[Keyed]:
    for ask in asks:
        key = ask.key(backend.identity)
        if key not in known:
            known.add(key)
            yield key, ask


class _Watch:
    """Counts answers and failures, and ends what has no prospect."""

    def __init__(self, say: Callable[[str], None], *, num_kept: int) -> None:
        self._say = say
        self._num_kept = num_kept
        self._num = 0
        self._num_failed = 0
        self._in_a_row = 0
        self._told_s = time.monotonic()

    def see(self, answer: Answer | Failure) -> None:
        self._num += 1
        if isinstance(answer, Failure):
            self._num_failed += 1
            is_first = self._num == self._num_failed and not self._num_kept
            counts = answer.is_of_all or is_first
            self._in_a_row = self._in_a_row + 1 if counts else 0
            if self._in_a_row >= MOST_IN_A_ROW:
                raise UserError(
                    f"{self._in_a_row} requests in a row have no answer; the last one: "
                    f"{answer.message} What was answered is kept; the same command goes on."
                )
        else:
            self._in_a_row = 0
        if time.monotonic() - self._told_s >= _TOLD_EVERY_S:
            self._told_s = time.monotonic()
            self._say(
                f"{self._num} requests, {self._num_failed} without an answer"
                + (f"; {self._num_kept} were answered before" if self._num_kept else "")
            )
