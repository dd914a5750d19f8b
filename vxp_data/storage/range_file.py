"""An object read as a file: seekable, by ranges, reading ahead where reads follow one another."""

from __future__ import annotations

import io
from typing import Final

from vxp_data.storage.object_store import ObjectStore

_FIRST_BYTES: Final = 1 << 18
_MOST_BYTES: Final = 16 << 20


class RangeFile(io.RawIOBase):
    """A read-only file over an object; at most 16 MiB are held.

    All reads are of one state of the object where the store can tell its states apart (S3).

    Args:
        store: where it lies.
        uri: the object.

    Raises:
        OSError: there is no such object, or the store does not give it.
    """

    def __init__(self, store: ObjectStore, uri: str) -> None:
        self._store = store
        self._uri = uri
        self._facts = store.facts(uri)
        self._at = 0
        self._held = b""
        self._held_at = 0
        self._ahead_bytes = _FIRST_BYTES

    def readable(self) -> bool:
        """Whether it can be read: it can."""
        return True

    def seekable(self) -> bool:
        """Whether it can be moved in: it can."""
        return True

    def tell(self) -> int:
        """Return the position, bytes from the start."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move; nothing is read."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._facts.num_bytes}[whence]
        if base + offset < 0:
            raise ValueError(f"seek to {base + offset}: before the file's start")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: object) -> int:
        """Fill a buffer from the position on; fewer bytes than asked for at the end only."""
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        stop = min(self._at + len(view), self._facts.num_bytes)
        if self._at >= stop:
            return 0
        held_stop = self._held_at + len(self._held)
        if not (self._held_at <= self._at and stop <= held_stop):
            self._fetch(self._at, stop, follows=self._held_at <= self._at <= held_stop)
        num_bytes = stop - self._at
        start = self._at - self._held_at
        view[:num_bytes] = self._held[start : start + num_bytes]
        self._at = stop
        return num_bytes

    def _fetch(self, start: int, stop: int, *, follows: bool) -> None:
        """Hold at least [start, stop), and more the longer reads have followed one another."""
        self._ahead_bytes = min(_MOST_BYTES, self._ahead_bytes * 2) if follows else _FIRST_BYTES
        kept = b""
        if follows:
            kept = self._held[start - self._held_at :]
        stop = min(max(stop, start + self._ahead_bytes), self._facts.num_bytes)
        got = self._store.read(self._uri, start + len(kept), stop, etag=self._facts.etag)
        self._held, self._held_at = kept + got, start
