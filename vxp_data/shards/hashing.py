"""Files that hash what goes through them, so that nothing is read a second time for its digest."""

from __future__ import annotations

import hashlib
import io
from typing import Any, BinaryIO


class HashingWriter(io.RawIOBase):
    """Hashes and counts what is written, on its way to another file or, for None, to nowhere."""

    def __init__(self, file: BinaryIO | None) -> None:
        super().__init__()
        self._file = file
        self._digest = hashlib.sha256()
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
    """Hashes what is read from a file; one that ends early is an EOFError, never a short read."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._file = file
        self._digest = hashlib.sha256()

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
