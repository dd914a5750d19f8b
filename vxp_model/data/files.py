"""Bytes of a shard directory, local or remote: a whole small file, or a range of a large one."""

from __future__ import annotations

import os
from collections import OrderedDict
from pathlib import Path
from typing import Any, Final

import fsspec

_OPEN_FILES: Final = 128
"""Local shards that are kept open."""


class Folder:
    """A folder by its path or URL (`s3://...`: what fsspec takes).

    May be pickled and forked: open files stay behind, and a remote client is made anew.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri.rstrip("/")
        self.is_local = "://" not in uri or uri.startswith("file://")
        self._local = Path(uri.removeprefix("file://"))
        self._files: OrderedDict[str, int] = OrderedDict()
        self._pid = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_files": OrderedDict(), "_pid": 0}

    def read(self, name: str) -> bytes:
        """Read a whole file.

        Raises:
            OSError: it is not there or cannot be read.
        """
        if self.is_local:
            return (self._local / name).read_bytes()
        filesystem, root = fsspec.core.url_to_fs(self.uri)
        data: bytes = filesystem.cat_file(f"{root}/{name}")
        return data

    def read_range(self, name: str, start: int, stop: int) -> bytes:
        """Read the bytes [start, stop) of a file; fewer where it ends before.

        Raises:
            OSError: it is not there or cannot be read.
        """
        if not self.is_local:
            filesystem, root = fsspec.core.url_to_fs(self.uri)
            data: bytes = filesystem.cat_file(f"{root}/{name}", start=start, end=stop)
            return data
        file = self._open(name)
        parts = []
        while start < stop and (part := os.pread(file, stop - start, start)):
            parts.append(part)
            start += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def sizes(self) -> dict[str, int]:
        """Give every file of the folder and its bytes, by one listing.

        Raises:
            OSError: the folder is not there.
        """
        if self.is_local:
            files = (path for path in self._local.iterdir() if path.is_file())
            return {path.name: path.stat().st_size for path in files}
        filesystem, root = fsspec.core.url_to_fs(self.uri)
        entries = filesystem.ls(root, detail=True)
        return {entry["name"].rsplit("/", 1)[-1]: int(entry["size"] or 0) for entry in entries}

    def close(self) -> None:
        """Close the shards that are open; they are opened again when needed."""
        while self._files:
            os.close(self._files.popitem()[1])

    def _open(self, name: str) -> int:
        if self._pid != os.getpid():  # forked: the parent's files are not ours to close
            self._files, self._pid = OrderedDict(), os.getpid()
        if name in self._files:
            self._files.move_to_end(name)
        else:
            if len(self._files) >= _OPEN_FILES:
                os.close(self._files.popitem(last=False)[1])
            self._files[name] = os.open(self._local / name, os.O_RDONLY | os.O_CLOEXEC)
        return self._files[name]


def read_media(uri: str) -> bytes:
    """Read a media file at its own path or URL.

    Raises:
        OSError: it is not there or cannot be read.
    """
    filesystem, path = fsspec.core.url_to_fs(uri)
    data: bytes = filesystem.cat_file(path)
    return data
