"""Hear from the kernel which files of a folder are opened: what a run reads, not what it says."""

from __future__ import annotations

import ctypes
import os
import select
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_IN_OPEN: Final = 0x20
_EVENT: Final = struct.Struct("iIII")


class OpenedFiles:
    """The files directly in a folder that were opened, and when (time.monotonic)."""

    def __init__(self, folder: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd = libc.inotify_init1(os.O_NONBLOCK)
        if libc.inotify_add_watch(self._fd, os.fsencode(folder), _IN_OPEN) < 0:
            raise OSError(ctypes.get_errno(), "inotify_add_watch")
        self._opened: list[tuple[float, str]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def between(self, start_s: float, end_s: float = float("inf")) -> Counter[str]:
        """Count how often each file was opened in a stretch of time."""
        return Counter(name for at_s, name in list(self._opened) if start_s <= at_s < end_s)

    def opening_s(self, number: int, start_s: float) -> float | None:
        """Return when so many different files had been opened since then; None: not yet."""
        seen: set[str] = set()
        for at_s, name in list(self._opened):
            if at_s >= start_s:
                seen.add(name)
                if len(seen) == number:
                    return at_s
        return None

    def last_s(self) -> float:
        """Return when a file was opened last."""
        return self._opened[-1][0]

    def close(self) -> None:
        """Stop listening; what had happened before is heard."""
        self._stop.set()
        self._thread.join()
        os.close(self._fd)

    def _listen(self) -> None:
        events = select.poll()  # not select(): it takes no descriptor above 1023
        events.register(self._fd, select.POLLIN)
        while events.poll(100) or not self._stop.is_set():
            try:
                self._take(os.read(self._fd, 1 << 16))
            except BlockingIOError:
                continue

    def _take(self, data: bytes) -> None:
        index = 0
        while index < len(data):
            length = _EVENT.unpack_from(data, index)[3]
            name = data[index + _EVENT.size : index + _EVENT.size + length].rstrip(b"\0")
            index += _EVENT.size + length
            if name:  # else the folder itself
                self._opened.append((time.monotonic(), os.fsdecode(name)))


@contextmanager
def opened_files(folder: Path) -> Iterator[set[str]]:
    """Collect the names of the files that are opened in the block; complete at its end."""
    names: set[str] = set()
    listener = OpenedFiles(folder)
    try:
        yield names
    finally:
        listener.close()
        names |= set(listener.between(0.0))
