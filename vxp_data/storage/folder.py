"""A folder of files, on a disk or in an object store, behind one class.

Object stores have neither rename nor locks. So a file is written whole in one go, on a disk beside
its name and then renamed, in a store by one final put; and `create` lets one writer win, by an
exclusive open or a conditional put.
"""

from __future__ import annotations

import errno
import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, TextIO, cast, overload

from vxp_data.errors import UserError
from vxp_data.storage.local import cannot_write, create_file, remove_unfinished, whole_file
from vxp_data.storage.object_store import RETRY_POLICY, ObjectStore, RetryPolicy, split_uri
from vxp_data.storage.range_file import RangeFile


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder on a disk or a prefix in a store; made by `open_folder`. Pickles, costs nothing."""

    uri: str
    """An absolute path, or 's3://bucket/prefix' without a slash at its end."""
    retry_policy: RetryPolicy = RETRY_POLICY
    """With stores; disks are not asked twice."""

    def __str__(self) -> str:
        """Return the URI."""
        return self.uri

    @property
    def is_remote(self) -> bool:
        """Whether it lies in a store."""
        return "://" in self.uri

    def child(self, name: str) -> Folder:
        """Return a folder inside this one; whether it exists is not asked."""
        return Folder(self.where(name), self.retry_policy)

    def file(self, name: str) -> File:
        """Name a file inside; whether it exists is not asked."""
        return File(self, name)

    def where(self, name: str) -> str:
        """Return the path or URI of a file inside, as messages name it."""
        return f"{self.uri.rstrip('/')}/{name}"

    def walk(self) -> list[str]:
        """List all objects below a prefix by the rest of their keys, in order; stores only.

        Raises:
            OSError: it cannot be listed.
        """
        return self._store.walk(self.uri)

    def names(self) -> list[str]:
        """List the files directly inside, by name; without hidden and half-written ones.

        A folder that is not there has none.

        Raises:
            OSError: it cannot be listed.
        """
        if self.is_remote:
            return [name for name in self._store.listing(self.uri) if not name.startswith(".")]
        try:
            with os.scandir(self.uri) as entries:
                found = [entry.name for entry in entries if entry.is_file()]
        except FileNotFoundError:
            return []
        return sorted(name for name in found if not name.startswith("."))

    def sizes(self) -> dict[str, int]:
        """List the files directly inside with their sizes in bytes; see `names`.

        Raises:
            OSError: it cannot be listed.
        """
        if self.is_remote:
            found = self._store.listing(self.uri).items()
            return {name: facts.num_bytes for name, facts in found if not name.startswith(".")}
        sizes: dict[str, int] = {}
        for name in self.names():
            with suppress(FileNotFoundError):  # removed by now
                sizes[name] = self.size_bytes(name)
        return sizes

    def exists(self, name: str) -> bool:
        """Whether there is such a file."""
        if not self.is_remote:
            return self._path(name).is_file()
        try:
            self._store.facts(self.where(name))
        except FileNotFoundError:
            return False
        return True

    def size_bytes(self, name: str) -> int:
        """Return a file's size.

        Raises:
            OSError: it is not there, or cannot be looked at.
        """
        if self.is_remote:
            return self._store.facts(self.where(name)).num_bytes
        return self._path(name).stat().st_size

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading; it can be moved in.

        Raises:
            OSError: it is not there, or cannot be read; reading may raise it too.
        """
        if not self.is_remote:
            return self._path(name).open("rb")
        file = RangeFile(self._store, self.where(name))
        return cast(BinaryIO, io.BufferedReader(file, buffer_size=1 << 16))

    def read_bytes(self, name: str) -> bytes:
        """Read a whole small file, one state of it.

        Raises:
            OSError: it is not there, or cannot be read.
        """
        while True:
            try:
                with self.open(name) as file:
                    return file.read()
            except OSError as error:
                if not self.is_remote or error.errno != errno.ESTALE:
                    raise  # else it was replaced between two requests: read the new one

    @contextmanager
    def write_path(self, name: str) -> Iterator[Path]:
        """Return a local path to write a file at; it is there when the block ends well, else not.

        For a store that is a temporary file, put in one go at the end: so that what is written may
        move in it, and an error half-way leaves nothing behind.

        Raises:
            UserError: the place cannot be written to, or the disk is full.
        """
        if not self.is_remote:
            with whole_file(self._path(name)) as beside:
                yield beside
            return
        try:
            with tempfile.TemporaryDirectory(prefix="vxp-write-") as scratch:
                path = Path(scratch) / name
                yield path
                self._store.put(self.where(name), path)
        except OSError as error:
            raise cannot_write(self.where(name), error) from error

    @contextmanager
    def write(self, name: str) -> Iterator[BinaryIO]:
        """Open a file for writing; it is there when the block ends well, else not.

        Raises:
            UserError: the place cannot be written to, or the disk is full.
        """
        with self.write_path(name) as path, path.open("wb") as file:
            yield file

    def write_bytes(self, name: str, data: bytes) -> None:
        """Write a whole small file.

        Raises:
            UserError: the place cannot be written to, or the disk is full.
        """
        if not self.is_remote:
            with whole_file(self._path(name)) as beside:
                beside.write_bytes(data)
            return
        try:
            self._store.put_bytes(self.where(name), data)
        except OSError as error:
            raise cannot_write(self.where(name), error) from error

    def write_text(self, name: str, text: str) -> None:
        """Write a whole small file as UTF-8.

        Raises:
            UserError: the place cannot be written to, or the disk is full.
        """
        self.write_bytes(name, text.encode())

    def create(self, name: str, data: bytes) -> bool:
        """Write a small file unless there is one; of several writers at once, one hears True.

        Raises:
            UserError: the place cannot be written to, or the disk is full.
        """
        try:
            if self.is_remote:
                return self._store.create(self.where(name), data)
            return create_file(self._path(name), data)
        except OSError as error:
            raise cannot_write(self.where(name), error) from error

    def remove(self, name: str) -> None:
        """Remove a file; one that is not there is as good.

        Raises:
            UserError: the place cannot be written to.
        """
        try:
            if self.is_remote:
                self._store.remove(self.where(name))
                return
            with suppress(FileNotFoundError):
                self._path(name).unlink()
        except OSError as error:
            raise cannot_write(self.where(name), error) from error

    def remove_unfinished(self) -> None:
        """Remove what killed writers left half-written beside its name; stores keep no such files.

        Raises:
            UserError: the folder cannot be listed or written to.
        """
        if not self.is_remote:
            remove_unfinished(Path(self.uri))

    @property
    def _store(self) -> ObjectStore:
        return ObjectStore(split_uri(self.uri)[0], self.retry_policy)

    def _path(self, name: str) -> Path:
        return Path(self.uri) / name


@dataclass(frozen=True, slots=True)
class File:
    """A file in a folder, with those methods of a `Path` that readers of manifests use."""

    folder: Folder
    name: str

    def __str__(self) -> str:
        """Return the path or URI."""
        return self.folder.where(self.name)

    @property
    def suffix(self) -> str:
        """Return the name's last part from its dot on; '' without a dot."""
        return Path(self.name).suffix

    @property
    def stem(self) -> str:
        """Return the name without its suffix."""
        return Path(self.name).stem

    @property
    def parent(self) -> Folder:
        """Return the folder that it lies in."""
        return self.folder

    def as_folder(self) -> Folder:
        """Return the name as that of a folder."""
        return self.folder.child(self.name)

    def read_bytes(self) -> bytes:
        """Read all of it.

        Raises:
            OSError: it is not there, or cannot be read.
        """
        return self.folder.read_bytes(self.name)

    def is_file(self) -> bool:
        """Whether there is such a file."""
        return self.folder.exists(self.name)

    def is_dir(self) -> bool:
        """Whether anything lies below it in its store."""
        uri = str(self)
        return ObjectStore(split_uri(uri)[0], self.folder.retry_policy).is_prefix(uri)

    @overload
    def open(self, mode: Literal["rb"] = "rb") -> BinaryIO: ...

    @overload
    def open(
        self, mode: Literal["r"] = "r", *, encoding: str, newline: str | None = None
    ) -> TextIO: ...

    def open(
        self, mode: str = "r", *, encoding: str | None = None, newline: str | None = None
    ) -> BinaryIO | TextIO:
        """Open for reading, bytes where no encoding is given.

        Raises:
            OSError: it is not there, or cannot be read; reading may raise it too.
        """
        del mode  # 'r' and 'rb' are told apart by the encoding
        raw = self.folder.open(self.name)
        return raw if encoding is None else io.TextIOWrapper(raw, encoding, newline=newline)


def find_file(uri: str | Path) -> Path | File:
    """Name a file by a path or by a URI of a store.

    Raises:
        UserError: a scheme that we do not speak, or a URI that names no more than a bucket.
    """
    scheme, rest = split_uri(str(uri))
    if not scheme:
        return Path(uri)
    parent, slash, name = rest.strip("/").rpartition("/")
    if not slash:
        raise UserError(f"{uri}: names no file. Wanted: {scheme}://BUCKET/FILE.")
    return File(open_folder(f"{scheme}://{parent}"), name)


def find_folder(uri: str | Path) -> Path | Folder:
    """Name a folder by a path, kept as it is, or by a URI of a store.

    Raises:
        UserError: a scheme that we do not speak, or a URI without a bucket.
    """
    return open_folder(uri) if split_uri(str(uri))[0] else Path(uri)


def open_folder(uri: str | Path, retry_policy: RetryPolicy = RETRY_POLICY) -> Folder:
    """Name a folder by a path, which may be relative, or by a URI of a store.

    Raises:
        UserError: a scheme that we do not speak, or a URI without a bucket.
    """
    scheme, rest = split_uri(str(uri))
    if not scheme:
        return Folder(str(Path(uri).absolute()), retry_policy)
    if not rest.strip("/"):
        raise UserError(f"{uri}: names no bucket. Wanted: {scheme}://BUCKET/FOLDER.")
    return Folder(f"{scheme}://{rest.strip('/')}", retry_policy)
