"""A big file without its images: FFmpeg steps over them, and nobody reads them from the disk."""

from __future__ import annotations

import os
from typing import Self

from vxp_data.storage.digest import digest_of_parts, sampled_ranges


class HollowFile:
    """Gives FFmpeg a file as it is to open it, then zeros, but for the parts of its digest.

    FFmpeg's pass over the packets then costs no reading; what it makes of the images in those parts
    shows whether the index is right about them.

    Args:
        path: a local file that is named by a sampled digest.
    """

    def __init__(self, path: str) -> None:
        self.name = path
        """What PyAV calls it: FFmpeg looks at the suffix too."""
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._num_bytes = os.fstat(self._fd).st_size
        self.there = sampled_ranges(self._num_bytes)
        self._parts = [self._pread(start, stop) for start, stop in self.there]
        self._at = 0
        self._is_hollow = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def digest(self) -> str:
        """Return the file's sampled digest."""
        return digest_of_parts(self._num_bytes, self._parts)

    def hollow_out(self) -> None:
        """Read as zeros from now on, outside the parts that are `there`."""
        self._is_hollow = True

    def read(self, num_bytes: int) -> bytes:
        """Return up to so many bytes; none at the end."""
        stop = min(self._at + num_bytes, self._num_bytes)
        data = b""
        if self._at < stop:
            read = self._known if self._is_hollow else self._pread
            data = read(self._at, stop)
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move; return the new place."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._num_bytes}[whence]
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        """Return the place."""
        return self._at

    def _known(self, start: int, stop: int) -> bytes:
        for (first, last), part in zip(self.there, self._parts, strict=True):
            if first <= start < last:
                return part[start - first : stop - first]
        next_part = min((first for first, _ in self.there if first > start), default=stop)
        return bytes(min(stop, next_part) - start)

    def _pread(self, start: int, stop: int) -> bytes:
        return os.pread(self._fd, stop - start, start)
