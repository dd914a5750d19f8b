"""Bytes of a shard directory, local or in an object store: a whole small file, or a range."""

from __future__ import annotations

import os
from collections import OrderedDict
from pathlib import Path
from typing import Final

from vxp_data.storage.folder import find_file, open_folder
from vxp_data.storage.object_store import ObjectStore, split_uri
from vxp_data.storage.store_errors import StoreFailedError
from vxp_model.errors import UserError

_OPEN_FILES: Final = 128
"""Local shards that are kept open."""


class ShardFolder:
    """A folder by its path or URI ('s3://bucket/shards').

    May be pickled and forked: open files stay behind.

    Raises:
        UserError: a URI of a kind that we do not speak.
    """

    def __init__(self, uri: str) -> None:
        self._folder = open_folder(uri)
        self.uri = self._folder.uri
        self._files = _OpenFiles()

    @property
    def is_remote(self) -> bool:
        """Whether it lies in an object store."""
        return self._folder.is_remote

    def read(self, name: str) -> bytes:
        """Read a whole file.

        Raises:
            OSError: it is not there or cannot be read.
        """
        return self._folder.read_bytes(name)

    def read_range(self, name: str, start: int, stop: int) -> bytes:
        """Read the bytes [start, stop) of a file; from a disk fewer, where it ends before.

        Raises:
            OSError: it is not there or cannot be read.
            UserError: the object store fails again and again.
        """
        if self._folder.is_remote:
            uri = self._folder.where(name)
            try:
                return ObjectStore(split_uri(uri)[0], self._folder.retry_policy).read(
                    uri, start, stop
                )
            except (StoreFailedError, PermissionError) as error:  # not this clip's fault
                raise _store_fails(uri, error) from error
        if self._files.pid != os.getpid():
            self._files = _OpenFiles()
        file = self._files.descriptor(Path(self.uri) / name)
        parts = []
        while start < stop and (part := os.pread(file, stop - start, start)):
            parts.append(part)
            start += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def wrong_size(self, num_bytes: dict[str, int]) -> tuple[str, str] | None:
        """Find a file that is missing or, on a disk, of another size.

        Args:
            num_bytes: wanted, by name.

        Returns:
            The first such file, and what was found; None where all is well.

        Raises:
            OSError: the folder cannot be looked at.
        """
        there = set(self._folder.names())
        for name, wanted in num_bytes.items():
            if name not in there:
                return name, "no such file"
            if not self._folder.is_remote and (got := self._folder.size_bytes(name)) != wanted:
                return name, f"{got} bytes"
        return None

    def close(self) -> None:
        """Close the shards that are open; they are opened again when needed."""
        self._files.close()


class _OpenFiles:
    """The files used last; open until it is closed or nobody holds it any more."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        """Of the process whose files they are: a forked one leaves them alone."""
        self._descriptors: OrderedDict[Path, int] = OrderedDict()

    def __del__(self) -> None:
        if self.pid == os.getpid():
            self.close()

    def __reduce__(self) -> tuple[type[_OpenFiles], tuple[()]]:
        return _OpenFiles, ()

    def descriptor(self, path: Path) -> int:
        """Return a file's descriptor, opened if it is not yet.

        Raises:
            OSError: it cannot be opened.
        """
        if path in self._descriptors:
            self._descriptors.move_to_end(path)
        else:
            if len(self._descriptors) >= _OPEN_FILES:
                os.close(self._descriptors.popitem(last=False)[1])
            self._descriptors[path] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        return self._descriptors[path]

    def close(self) -> None:
        """Close all."""
        while self._descriptors:
            os.close(self._descriptors.popitem()[1])


def read_media(uri: str) -> bytes:
    """Read a media file at its own path or URI.

    Raises:
        OSError: it is not there or cannot be read.
        UserError: the object store fails again and again, or the URI is of no kind that we speak.
    """
    try:
        return find_file(uri).read_bytes()
    except StoreFailedError as error:
        raise _store_fails(uri, error) from error


def _store_fails(uri: str, error: OSError) -> UserError:
    return UserError(
        f"{uri}: the object store fails: {error.strerror or error}. Nothing is lost: resume from "
        "the last checkpoint when it works again."
    )
