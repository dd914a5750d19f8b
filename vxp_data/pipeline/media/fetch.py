"""Files in object stores, brought to the machine that decodes them: whole, or as far as needed.

The decoding child has no network; the worker fetches into a scratch file of the full length and
gives the child its path. What was not fetched is a hole there and takes no room. A file lives while
it is read; one of a worker that was killed is removed by the next worker that uses the folder.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar

from vxp_data.errors import MediaError, UserError
from vxp_data.pipeline.media.near_names import named_nearly, other_spellings
from vxp_data.records import Reason
from vxp_data.settings.prune import FetchConfig
from vxp_data.storage.listed_page import ObjectFacts
from vxp_data.storage.object_store import ObjectStore, RetryPolicy, split_uri

T = TypeVar("T")

PIECE_BYTES: Final = 8 << 20
"""Most bytes of one request."""
_PIECES_AT_ONCE: Final = 4
GAP_BYTES: Final = 1 << 18
"""Two ranges that lie closer are fetched as one: a request costs more than these bytes."""
_PREFIX: Final = "vxp-fetch-"
_LOCK: Final = "in-use"
_SUFFIX: Final = re.compile(r"\.[A-Za-z0-9]{1,8}$")

Range = tuple[int, int]
"""Bytes [start, stop)."""


class Fetcher:
    """Fetches one file after another into a scratch folder of its own, made when first needed."""

    def __init__(self, config: FetchConfig) -> None:
        self._config = config
        self._retry_policy = RetryPolicy(attempts=config.attempts, timeout_s=config.timeout_s)
        self._folder: Path | None = None
        self._lock_fd = -1

    def open(self, uri: str) -> FetchedFile:
        """Begin with a file: nothing of it is there yet but its length.

        Raises:
            MediaError: `missing`, `unreadable` or `fetch_failed`.
            UserError: the scratch folder cannot be used.
        """
        store = ObjectStore(split_uri(uri)[0], self._retry_policy)
        try:
            facts = _or_media_error(uri, lambda: store.facts(uri))
        except MediaError as error:
            if error.reason is not Reason.MISSING:
                raise
            there = next((other for other in other_spellings(uri) if _is_there(store, other)), "")
            raise MediaError(error.reason, error.message + named_nearly(there)) from error
        suffix = _SUFFIX.search(uri)
        path = self._scratch() / f"media{suffix.group() if suffix else ''}"
        return FetchedFile(store, uri, facts, path, self._config.max_bytes)

    def close(self) -> None:
        """Remove the scratch folder."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            os.close(self._lock_fd)
            self._folder = None

    def _scratch(self) -> Path:
        if self._folder is None:
            above = Path(self._config.scratch_dir or tempfile.gettempdir())
            try:
                above.mkdir(parents=True, exist_ok=True)
                _remove_abandoned(above)
                new = Path(tempfile.mkdtemp(prefix=".vxp-", dir=above))
                self._lock_fd = os.open(new / _LOCK, os.O_CREAT | os.O_RDWR)
                fcntl.flock(self._lock_fd, fcntl.LOCK_EX)
                self._folder = new.rename(above / f"{_PREFIX}{new.name[5:]}")  # locked by now
            except OSError as error:
                raise _no_scratch(above, error) from error
        return self._folder


class FetchedFile:
    """One file of a store as a local file, as far as it was fetched."""

    def __init__(
        self, store: ObjectStore, uri: str, facts: ObjectFacts, path: Path, max_bytes: int
    ) -> None:
        self.uri = uri
        self.num_bytes = facts.num_bytes
        self.file_version = facts.file_version
        self._store = store
        self._etag = facts.etag
        self._path = path
        self._max_bytes = max_bytes
        self._there: list[Range] = []
        try:
            self._fd = os.open(path, os.O_CREAT | os.O_TRUNC | os.O_RDWR, 0o600)
            os.truncate(self._fd, self.num_bytes)
        except OSError as error:
            raise _no_scratch(path.parent, error) from error

    @property
    def path(self) -> str:
        """Where it lies locally."""
        return str(self._path)

    @property
    def bytes_fetched(self) -> int:
        """How much of it is there."""
        return _total(self._there)

    @property
    def is_whole(self) -> bool:
        """Whether all of it is there."""
        return self.bytes_fetched == self.num_bytes

    def fetch(self, ranges: Iterable[Range]) -> None:
        """Fetch some ranges, as far as they are not there yet.

        Raises:
            MediaError: `fetch_failed`, or `too_large`: more would be fetched than allowed.
            UserError: the scratch folder is full.
        """
        within = ((max(0, start), min(stop, self.num_bytes)) for start, stop in ranges)
        wanted = _merged([*within, *self._there], gap=GAP_BYTES)
        if _total(wanted) > self._max_bytes:
            raise MediaError(
                Reason.TOO_LARGE,
                f"{_total(wanted)} of its {self.num_bytes} bytes are needed; at most "
                f"{self._max_bytes} (fetch.max_bytes)",
            )
        with ThreadPoolExecutor(_PIECES_AT_ONCE) as pool:
            for _ in pool.map(self._fetch_piece, _pieces(wanted, self._there)):
                pass
        self._there = wanted

    def has(self, ranges: Iterable[Range]) -> bool:
        """Whether these ranges are there."""
        return all(
            any(start <= first and last <= stop for start, stop in self._there)
            for first, last in ranges
        )

    def fetch_all(self) -> None:
        """Fetch what is not there yet; raises as `fetch`."""
        self.fetch([(0, self.num_bytes)])

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes [start, stop), fetched if need be with those around; see `fetch`."""
        if not self.has([(start, stop)]):
            self.fetch([(start, max(stop, start + GAP_BYTES))])
        return os.pread(self._fd, stop - start, start)

    def close(self) -> None:
        """Remove the local file."""
        os.close(self._fd)
        self._path.unlink(missing_ok=True)

    def _fetch_piece(self, piece: Range) -> None:
        data = _or_media_error(
            self.uri, lambda: self._store.read(self.uri, *piece, etag=self._etag)
        )
        try:
            os.pwrite(self._fd, data, piece[0])
        except OSError as error:
            raise _no_scratch(self._path.parent, error) from error


def _pieces(wanted: list[Range], there: list[Range]) -> Iterator[Range]:
    """Cut what is wanted and not there into requests."""
    for start, stop in wanted:
        at = start
        for have_start, have_stop in [*there, (stop, stop)]:
            while at < min(have_start, stop):
                end = min(at + PIECE_BYTES, have_start, stop)
                yield at, end
                at = end
            if have_start <= at:
                at = max(at, have_stop)


def _merged(ranges: list[Range], *, gap: int) -> list[Range]:
    """Join ranges that overlap or lie closer than a gap; in order, empty ones left out."""
    merged: list[Range] = []
    for start, stop in sorted(each for each in ranges if each[0] < each[1]):
        if merged and start <= merged[-1][1] + gap:
            merged[-1] = (merged[-1][0], max(merged[-1][1], stop))
        else:
            merged.append((start, stop))
    return merged


def _total(ranges: list[Range]) -> int:
    return sum(stop - start for start, stop in ranges)


def _or_media_error(uri: str, call: Callable[[], T]) -> T:
    """Raise a store's failure as the media's."""
    try:
        return call()
    except FileNotFoundError as error:
        raise MediaError(Reason.MISSING, f"{error.strerror}: {uri}") from error
    except PermissionError as error:
        raise MediaError(Reason.UNREADABLE, f"{error.strerror}: {uri}") from error
    except OSError as error:
        raise MediaError(Reason.FETCH_FAILED, f"{error.strerror or error}: {uri}") from error


def _is_there(store: ObjectStore, uri: str) -> bool:
    try:
        return bool(store.facts(uri))
    except OSError:
        return False


def _remove_abandoned(above: Path) -> None:
    """Remove scratch folders whose owners are no more: theirs is the only lock."""
    for folder in above.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            fd = os.open(folder / _LOCK, os.O_RDWR)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(fd)


def _no_scratch(folder: Path, error: OSError) -> UserError:
    words = "is full" if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else "fails"
    return UserError(
        f"the scratch folder {folder} {words}: {error.strerror or error}. It takes files from "
        "object stores while they are decoded: make room there, or name another on each machine's "
        "own disk with --set fetch.scratch_dir=DIR."
    )
