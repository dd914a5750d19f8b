"""Files that hash what goes through them, so that nothing is read a second time for its digest."""

from __future__ import annotations

import hashlib
import io
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, BinaryIO, Final, Protocol, Self, TypeVar

T = TypeVar("T")

_HANDED_BYTES: Final = 1 << 18
"""Fewer are not worth handing over."""
_MOST_WAITING: Final = 16
"""Times handed over before whoever hands over waits; each is 1 MiB or little more."""


class Digest(Protocol):
    """SHA-256 as `hashlib` has it, or in another thread."""

    def update(self, data: bytes, /) -> None:
        """Take more bytes."""

    def hexdigest(self) -> str:
        """Return 64 hex digits for what was taken so far."""


class HashingThread:
    """A thread that hashes, while another reads and writes: SHA-256 takes longer than copying.

    `hashlib` lets go of Python's lock. What comes from one thread is hashed in its order.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1)
        self._waiting: deque[Future[Any]] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def sha256(self) -> ThreadedSha256:
        """Begin a digest."""
        return ThreadedSha256(self)

    def submit(self, call: Callable[..., T], *arguments: Any) -> Future[T]:
        """Call in the thread, after all that was submitted before; wait if that is too much."""
        if len(self._waiting) == _MOST_WAITING:
            self._waiting.popleft().result()
        future = self._pool.submit(call, *arguments)
        self._waiting.append(future)
        return future


class ThreadedSha256:
    """A digest that a HashingThread works out."""

    def __init__(self, thread: HashingThread) -> None:
        self._thread = thread
        self._digest = hashlib.sha256()
        self._held: list[bytes] = []
        self._num_held = 0

    def update(self, data: bytes, /) -> None:
        """Take more bytes, not to be changed any more."""
        self._held.append(data)
        self._num_held += len(data)
        if self._num_held >= _HANDED_BYTES:
            self._hand_over()

    def hexdigest(self) -> str:
        """Wait, and return 64 hex digits for what was taken so far."""
        return self.future().result()

    def future(self) -> Future[str]:
        """Return 64 hex digits for what was taken so far, as soon as they are known."""
        self._hand_over()
        return self._thread.submit(self._digest.hexdigest)

    def _hand_over(self) -> None:
        self._thread.submit(self._update_all, self._held)
        self._held, self._num_held = [], 0

    def _update_all(self, pieces: Iterable[bytes]) -> None:
        for piece in pieces:
            self._digest.update(piece)


class HashingWriter(io.RawIOBase):
    """Hashes and counts what is written, on its way to another file or, for None, to nowhere.

    Args:
        file: the other file.
        digest: what hashes; None: `hashlib`.
    """

    def __init__(self, file: BinaryIO | None, digest: Digest | None = None) -> None:
        super().__init__()
        self._file = file
        self._digest = hashlib.sha256() if digest is None else digest
        self.num_bytes = 0

    @property
    def sha256(self) -> str:
        """Return 64 hex digits for what was written so far."""
        return self._digest.hexdigest()

    def writable(self) -> bool:
        """Whether it is for writing: it is."""
        return True

    def write(self, data: Any) -> int:
        """Write all of some bytes."""
        self._digest.update(data)
        self.num_bytes += len(data)
        if self._file is not None:
            self._file.write(data)
        return len(data)

    def tell(self) -> int:
        """Return the number of bytes written."""
        return self.num_bytes


class HashingReader(io.RawIOBase):
    """Hashes what is read from a file; one that ends early is an EOFError, never a short read.

    Args:
        file: what is read.
        digest: what hashes; None: `hashlib`.
    """

    def __init__(self, file: BinaryIO, digest: Digest | None = None) -> None:
        super().__init__()
        self._file = file
        self._digest = hashlib.sha256() if digest is None else digest

    @property
    def sha256(self) -> str:
        """Return 64 hex digits for what was read so far."""
        return self._digest.hexdigest()

    def read(self, num_bytes: int = -1) -> bytes:
        """Read exactly so many bytes.

        Raises:
            EOFError: the file ends before.
        """
        data = self._file.read(num_bytes)
        if len(data) < num_bytes:
            raise EOFError(f"{len(data)} of {num_bytes} bytes")
        self._digest.update(data)
        return data
