"""Where the annotation files of a dataset lie: as its record says, or as its download unpacks."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath
from typing import Final

from vxp_data.datasets.record import AnnotationFile
from vxp_data.errors import UserError
from vxp_data.manifests.base import AnyFile
from vxp_data.storage.folder import Folder

Found = tuple[tuple[str, AnyFile], ...]
"""(path below the root, file) of each, by path."""

_DEEPEST: Final = 3
"""So many folders below the root an unpacked download may lie."""


class FileLocator:
    """Finds files below a root; a store is listed once."""

    def __init__(self, root: Folder) -> None:
        self._root = root
        self._stored: list[str] | None = None

    def annotations(self, file: AnnotationFile, taken: Collection[str] = ()) -> Found:
        """Return the files that an entry of a record stands for.

        They are where the record says; else in a folder of the root (a download in its own
        folder); else in the root itself (the root is a folder of the download).

        Args:
            file: the entry.
            taken: files that other entries stand for.

        Raises:
            UserError: several folders hold a file that there is one of.
        """
        return self._first_of((file.path, *file.also), taken)

    def companion(self, file: AnnotationFile, beside: str) -> AnyFile | None:
        """Return the second file of an entry: beside the first, or found like it.

        Raises:
            UserError: see `annotations`.
        """
        near = PurePosixPath(beside).parent / PurePosixPath(file.companion).name
        found = self._first_of((str(near), file.companion), ())
        return found[0][1] if found else None

    def _first_of(self, patterns: tuple[str, ...], taken: Collection[str]) -> Found:
        for pattern in _places(patterns):
            found = [name for name in self._matches(pattern) if name not in taken]
            if len(found) > 1 and "*" not in patterns[0]:
                raise UserError(
                    f"{self._root}: {patterns[0]} is there {len(found)} times: "
                    f"{', '.join(found[:3])}. Give --root the folder with the right one."
                )
            if found:
                return tuple((name, self._file(name)) for name in found)
        return ()

    def _file(self, name: str) -> AnyFile:
        return self._root.file(name) if self._root.is_remote else Path(self._root.uri) / name

    def _matches(self, pattern: str) -> list[str]:
        if "*" not in pattern:
            return [pattern] if self._root.exists(pattern) else []
        if not self._root.is_remote:
            base = Path(self._root.uri)
            files = (path for path in base.glob(pattern) if path.is_file())
            return sorted(path.relative_to(base).as_posix() for path in files)
        if self._stored is None:
            self._stored = sorted(self._root.walk())
        parts = re.compile(re.escape(pattern).replace(r"\*", "[^/]*"))
        return [name for name in self._stored if parts.fullmatch(name)]


def _places(patterns: tuple[str, ...]) -> Iterator[str]:
    """Return where to look, the likeliest first."""
    yield from patterns
    for depth in range(1, _DEEPEST + 1):
        yield from ("*/" * depth + pattern for pattern in patterns)
    for pattern in patterns:
        parts = pattern.split("/")
        yield from ("/".join(parts[start:]) for start in range(1, len(parts)))
