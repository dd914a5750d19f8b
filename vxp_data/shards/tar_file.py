"""Tar shards: the same members give the same bytes; every member's offset is known.

GNU format, members owned by nobody, dated 1970: nothing of the machine, the user or the day gets
in. Reading walks the headers and extracts nothing to disk.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import BinaryIO, Final, Self

_MODE: Final = 0o644
_COPY_BYTES: Final = 1 << 20
_END: Final = bytes(2 * tarfile.BLOCKSIZE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One file in a tar."""

    name: str
    offset: int
    """Of its first byte in the tar."""
    num_bytes: int


class TarWriter:
    """Writes members one after another into a file opened for writing, from its beginning."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._tar = tarfile.TarFile(
            fileobj=file, mode="w", format=tarfile.GNU_FORMAT, copybufsize=_COPY_BYTES
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            # Two empty blocks end a tar; a failed one gets none. TarFile.close would fill it up to
            # a multiple of 10 KiB, a tenth of an image.
            self._file.write(_END)

    def add(self, name: str, data: bytes | BinaryIO, num_bytes: int | None = None) -> Member:
        """Add one member.

        Args:
            name: unique in the tar.
            data: its bytes, or a file read from its position on.
            num_bytes: how many of the file's bytes.

        Raises:
            OSError: the file ends before `num_bytes`; the tar is then not to be used.
        """
        info = tarfile.TarInfo(name)
        info.mode = _MODE
        if isinstance(data, bytes):
            num_bytes = len(data)
            data = io.BytesIO(data)
        if num_bytes is None:
            raise ValueError(f"{name}: num_bytes is wanted with a file")
        info.size = num_bytes
        self._tar.addfile(info, data)
        padded_bytes = -(-num_bytes // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
        return Member(name=name, offset=self._tar.offset - padded_bytes, num_bytes=num_bytes)


def read_members(file: BinaryIO) -> Iterator[Member]:
    """Return every member of a tar, in order; the file's position is the caller's again after each.

    Raises:
        ValueError: it is no tar, is cut short or broken half-way, or holds anything but plain
            files.
    """
    file.seek(0)
    try:
        with tarfile.open(fileobj=file, mode="r:", format=tarfile.GNU_FORMAT) as tar:
            for info in tar:
                if not info.isreg():
                    raise ValueError(f"member {info.name!r} is not a plain file")
                yield Member(name=info.name, offset=info.offset_data, num_bytes=info.size)
            ended = tar.offset
    except tarfile.TarError as error:
        raise ValueError(f"not a whole tar: {error}") from error
    # Python's reader takes a header that makes no sense for the end of the tar.
    file.seek(ended)
    end = file.read(len(_END))
    if end != _END:
        what = "cut short there" if len(end) < len(_END) else "no header of a member"
        raise ValueError(f"the members end at byte {ended}: {what}")


def read_bytes(file: BinaryIO, member: Member) -> bytes:
    """Read one member's bytes.

    Raises:
        ValueError: the tar ends before it.
    """
    file.seek(member.offset)
    data = file.read(member.num_bytes)
    if len(data) != member.num_bytes:
        raise ValueError(f"member {member.name!r} has {len(data)} of {member.num_bytes} bytes")
    return data
