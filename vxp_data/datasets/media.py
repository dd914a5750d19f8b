"""Where the media of annotations lie below a dataset's root, and which of them are not there."""

from __future__ import annotations

import hashlib
import os
import posixpath
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Final

from vxp_data.datasets.record import AnnotationFile
from vxp_data.manifests.media_path import MediaPaths, RemoteMediaPaths
from vxp_data.storage.folder import Folder

_REMEMBERED: Final = 1 << 16
"""Names whose files are not looked for again: rows about one media mostly stand together."""
_FOLDERS: Final = 32
"""In so many folders a media is looked for that is not where it should be."""


class MediaFinder:
    """Looks for media, and counts each once.

    Of every different media some 100 bytes are held (a number of 8, and Python's own); of a store,
    the names of all files below the root besides.
    """

    def __init__(self, root: Folder) -> None:
        self.num_media = 0
        """Different media that were named."""
        self.num_extracted = 0
        """Media that were written out of annotation files."""
        self._root = root
        self._paths = RemoteMediaPaths(root) if root.is_remote else MediaPaths(Path(root.uri))
        self._stored = frozenset(root.walk()) if root.is_remote else None
        self._seen: set[int] = set()
        self._is_there = lru_cache(_REMEMBERED)(self._look)
        self._hits: list[str] = []
        self._folders: list[str] | None = None

    def name(self, file: AnnotationFile, folder: str, media: str) -> str:
        """Return a media's path below the root.

        Args:
            file: says how the media of its rows are called.
            folder: where the annotation file lies, below the root.
            media: as the row names it.

        Raises:
            RowError: FORBIDDEN: the path leads out of the root, or is a URL.
        """
        name = file.media.replace("{folder}", folder).replace("{media}", media).lstrip("/")
        names = _with_suffixes(name, file.suffixes)
        for name in names:
            self._paths.resolve(name)
            if self._is_there(name):
                return name
        return self._elsewhere(_with_suffixes(media, file.suffixes), folder) or names[0]

    def _elsewhere(self, names: list[str], folder: str) -> str | None:
        """Return a media's path in whatever folder the download was unpacked to; None: nowhere."""
        for base in dict.fromkeys([*self._hits, folder, "", *self._inner_folders()]):
            for name in names:
                path = posixpath.normpath(posixpath.join(base, name))
                self._paths.resolve(path)
                if self._is_there(path):
                    self._hits = [base, *(hit for hit in self._hits if hit != base)]
                    return path
        return None

    def is_newly_missing(self, name: str) -> bool:
        """Count a media; return whether it is not there, and was not asked for before."""
        digest = hashlib.blake2b(name.encode(errors="replace"), digest_size=8).digest()
        key = int.from_bytes(digest)
        if key in self._seen:
            return False
        self._seen.add(key)
        self.num_media += 1
        return not self._is_there(name)

    def _inner_folders(self) -> list[str]:
        """Return folders of the root, and theirs, by depth and name: the first of thousands."""
        if self._folders is None:
            found = [path for path in self._all_folders() if not path.startswith(".")]
            found.sort(key=lambda path: (path.count("/"), path))
            self._folders = found[:_FOLDERS]
        return self._folders

    def _all_folders(self) -> set[str]:
        if self._stored is not None:
            parents = (name.split("/")[:-1] for name in self._stored)
            return {"/".join(path[:depth]) for path in parents for depth in (1, 2) if path}
        outer = _folders_in(self._root.uri)
        inner = {
            f"{name}/{one}" for name in outer for one in _folders_in(f"{self._root.uri}/{name}")
        }
        return outer | inner

    def extract(self, name: str, data: bytes) -> None:
        """Write a media that stands in its annotation file, unless its file is there.

        Raises:
            UserError: it cannot be written.
        """
        if self._look(name):
            return
        self._root.write_bytes(name, data)
        self.num_extracted += 1
        if self._stored is not None:
            self._stored |= {name}
        self._is_there.cache_clear()

    def _look(self, name: str) -> bool:
        if self._stored is not None:
            return name in self._stored
        return os.path.isfile(os.path.join(self._root.uri, name))  # noqa: PTH113, PTH118 - millions


def _with_suffixes(name: str, suffixes: tuple[str, ...]) -> list[str]:
    if not suffixes or PurePosixPath(name).suffix.lower() in suffixes:
        return [name]
    return [name + suffix for suffix in suffixes]


def _folders_in(folder: str) -> set[str]:
    with os.scandir(folder) as entries:
        return {entry.name for entry in entries if entry.is_dir()}
