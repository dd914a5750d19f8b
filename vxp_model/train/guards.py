"""What a run must heed around it: requests to stop, and other runs in its directory."""

from __future__ import annotations

import fcntl
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Self

from vxp_model.errors import UserError


class StopRequest:
    """Notes SIGTERM and Ctrl-C, so that the step under way is finished and saved.

    A second one acts as ever. Only where signals can be caught: in the main thread. What is ignored
    stays ignored: a shell starts what a script runs in the background without Ctrl-C.
    """

    def __init__(self) -> None:
        self.came = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        """Begin to note."""
        for number in (signal.SIGTERM, signal.SIGINT):
            if signal.getsignal(number) is signal.SIG_IGN:
                continue
            try:
                self._before[number] = signal.signal(number, self._note)
            except ValueError:  # not the main thread
                break
        return self

    def __exit__(self, *error: object) -> None:
        """Restore the handlers that signals had before."""
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self.came = True
        self._restore()

    def _restore(self) -> None:
        while self._before:
            signal.signal(*self._before.popitem())


@contextmanager
def only_run(folder: Path) -> Iterator[None]:
    """Keep a run directory for this process.

    Raises:
        UserError: another process trains in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"another process trains in {str(folder)!r}: wait for it, or set run.out."
            ) from None
        yield
