"""Object stores: the one place that talks to them, and the one place that tries again.

Every call goes through `ObjectStore._ask`: a failure that may pass (5xx, slow-down, a broken or
silent connection, a body shorter than was announced) is tried again after a pause that doubles; any
other becomes a plain OSError. The libraries' own retries are off, so that attempts do not multiply
(gcsfs has some of its own that cannot be turned off).
"""

from __future__ import annotations

import errno
import os
import random
import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeVar

from vxp_data.errors import UserError
from vxp_data.extras import require_extra
from vxp_data.storage.listed_page import ObjectFacts, Page, facts_of, gs_page, s3_page
from vxp_data.storage.store_errors import StoreFailedError, plain_error, words_of

T = TypeVar("T")

_FSSPEC_NAMES: Final = {"s3": "s3", "gs": "gcs", "hdfs": "hdfs"}
_EXTRA_OF: Final = {"s3": "s3", "gs": "gcs"}
SCHEMES: Final = tuple(_FSSPEC_NAMES)
"""What may stand before '://'."""

_RENAMING: Final = frozenset({"hdfs"})
"""File systems without a final put: written beside the name, then renamed."""

_PART_BYTES: Final = 16 << 20
"""A bigger file goes up to S3 in parts of this size or more."""
_MOST_PARTS: Final = 10_000
_PARTS_AT_ONCE: Final = 4
_CONNECTIONS: Final = 64
"""To one store at a time; the library's own 10 would be all that go on at once."""
_SLOWEST_BYTES_PER_S: Final = 1 << 17
"""A transfer that is slower than this is given up and tried again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How long a store may fail before we give up."""

    attempts: int = 6
    """Calls in all, 1 or more."""
    first_wait_s: float = 0.2
    """Pause before the second attempt; it doubles, with up to half of it taken off at random."""
    max_wait_s: float = 10.0
    timeout_s: float = 30.0
    """A connection silent for so long is broken."""

    def wait_s(self, attempt: int) -> float:
        """Return the pause after the failed attempt of that number, from 1."""
        longest_s = min(self.max_wait_s, self.first_wait_s * 2.0 ** (attempt - 1))
        return longest_s * (0.5 + 0.5 * random.random())


RETRY_POLICY: Final = RetryPolicy()


@dataclass(frozen=True, slots=True)
class ObjectStore:
    """One kind of store; paths are URIs below `scheme://`. Holds no connection, so it pickles."""

    scheme: str
    retry_policy: RetryPolicy = RETRY_POLICY

    def facts(self, uri: str) -> ObjectFacts:
        """Ask for an object's size and etag.

        Raises:
            FileNotFoundError: there is no such object; a mere prefix is none.
            OSError: as every method here: PermissionError, StoreFailedError, others.
        """
        info = self._ask(uri, lambda fs: fs.info(uri))
        if info["type"] != "file":
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), uri)
        return facts_of(info)

    def read(self, uri: str, start: int, stop: int, *, etag: str = "") -> bytes:
        """Read bytes [start, stop) of an object; no fewer.

        Args:
            uri: the object.
            start: first byte.
            stop: byte after the last, within the object.
            etag: what the object must still be, as far as the store can tell; '': anything.
        """
        if start >= stop:
            return b""
        from fsspec.asyn import sync

        def call(fs: Any) -> bytes:
            deadline = self._deadline(fs, stop - start)
            if self.scheme == "s3":
                body: bytes = sync(fs.loop, _s3_range, fs, uri, start, stop, etag, **deadline)
            else:
                body = fs.cat_file(uri, start=start, end=stop, **deadline)
            if len(body) != stop - start:
                raise ConnectionError(f"got {len(body)} of {stop - start} bytes at {start}")
            return body

        return self._ask(uri, call)

    def listing(self, uri: str) -> dict[str, ObjectFacts]:
        """List the objects directly below a prefix by their last names; none is no error."""

        def call(fs: Any) -> dict[str, ObjectFacts]:
            try:
                entries = fs.ls(uri, detail=True)
            except FileNotFoundError:
                return {}
            files = (entry for entry in entries if entry["type"] == "file")
            named = {entry["name"].rpartition("/")[2]: facts_of(entry) for entry in files}
            return {name: named[name] for name in sorted(named) if name}

        return self._ask(uri, call)

    def page(self, bucket: str, prefix: str, first: str) -> Page:
        """List the next thousand objects of a bucket below a prefix, at all depths.

        Args:
            bucket: without a scheme; S3's and Google's alone.
            prefix: of the keys, '' or with a slash at its end.
            first: list keys from this one on, below the prefix.

        Raises:
            OSError: also where the store lists in another order than that of the keys.
        """
        uri = f"{self.scheme}://{bucket}/{prefix}"
        list_page = s3_page if self.scheme == "s3" else gs_page

        def call(fs: Any) -> Page:
            return list_page(fs, bucket, prefix, first, self._deadline(fs, 0))

        found = self._ask(uri, call)
        if not found.is_ordered(first):
            raise OSError(errno.ENOTSUP, "listed in no order", uri)
        return found

    def is_prefix(self, uri: str) -> bool:
        """Whether it is no object, and objects lie below it."""

        def call(fs: Any) -> bool:
            try:
                return bool(fs.info(uri)["type"] == "directory")
            except FileNotFoundError:
                return False

        return self._ask(uri, call)

    def walk(self, uri: str) -> list[str]:
        """List all objects below a prefix by the rest of their keys; none is no error."""

        def call(fs: Any) -> list[str]:
            below = uri.partition("://")[2].rstrip("/") + "/"
            found = (name.lstrip("/") for name in fs.find(uri))
            return [name.removeprefix(below) for name in found if not name.endswith("/")]

        return sorted(self._ask(uri, call))

    def put(self, uri: str, path: Path) -> None:
        """Upload a local file under its final name: there whole or not at all."""
        num_bytes = path.stat().st_size
        if self.scheme in _RENAMING:
            self._ask(uri, lambda fs: put_and_rename(fs, path, uri))
        elif num_bytes <= _PART_BYTES:
            self.put_bytes(uri, path.read_bytes())
        elif self.scheme == "s3":
            self._put_in_parts(uri, path, num_bytes)
        else:
            self._ask(uri, lambda fs: fs.put_file(str(path), uri, **self._deadline(fs, num_bytes)))

    def put_bytes(self, uri: str, data: bytes) -> None:
        """Write a small object under its final name."""
        self._ask(uri, lambda fs: fs.pipe_file(uri, data, **self._deadline(fs, len(data))))

    def create(self, uri: str, data: bytes) -> bool:
        """Write a small object unless there is one; return whether it was put.

        An answer that got lost makes a second attempt find our own object; hence the check.
        """

        def call(fs: Any) -> bool:
            try:
                fs.pipe_file(uri, data, mode="create", **self._deadline(fs, len(data)))
            except FileExistsError:
                return False
            return True

        return self._ask(uri, call) or self._holds(uri, data)

    def remove(self, uri: str) -> None:
        """Remove an object; one that is not there is as good."""

        def call(fs: Any) -> None:
            try:
                fs.rm_file(uri)
            except FileNotFoundError:
                return

        self._ask(uri, call)

    def _put_in_parts(self, uri: str, path: Path, num_bytes: int) -> None:
        """Upload parts, each tried again by itself; complete at the end, abort on an error."""
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        where = {"Bucket": bucket, "Key": key}
        started = self._s3(uri, "create_multipart_upload", **where)
        where["UploadId"] = started["UploadId"]
        part_bytes = max(_PART_BYTES, -(-num_bytes // _MOST_PARTS))

        def upload(number: int) -> dict[str, Any]:
            with path.open("rb") as file:
                file.seek((number - 1) * part_bytes)
                body = file.read(part_bytes)
            answer = self._s3(uri, "upload_part", PartNumber=number, Body=body, **where)
            return {"PartNumber": number, "ETag": answer["ETag"]}

        num_parts = -(-num_bytes // part_bytes)
        try:
            with ThreadPoolExecutor(_PARTS_AT_ONCE) as pool:
                parts = list(pool.map(upload, range(1, num_parts + 1)))
            self._s3(uri, "complete_multipart_upload", MultipartUpload={"Parts": parts}, **where)
        except FileNotFoundError:  # an answer got lost, and the upload was completed all the same
            facts = self.facts(uri)
            if facts.num_bytes != num_bytes or not facts.etag.endswith(f"-{num_parts}"):
                raise
        except BaseException:
            with suppress(OSError):
                self._s3(uri, "abort_multipart_upload", **where)
            raise

    def _s3(self, uri: str, method: str, **parameters: Any) -> dict[str, Any]:
        num_bytes = len(parameters.get("Body", b""))
        answer: dict[str, Any] = self._ask(
            uri, lambda fs: fs.call_s3(method, **parameters, **self._deadline(fs, num_bytes))
        )
        return answer

    def _holds(self, uri: str, data: bytes) -> bool:
        try:
            return self.facts(uri).num_bytes == len(data) and (self.read(uri, 0, len(data)) == data)
        except FileNotFoundError:
            return False

    def _deadline(self, fs: Any, num_bytes: int) -> dict[str, float]:
        if not fs.async_impl:
            return {}
        return {"timeout": 2 * self.retry_policy.timeout_s + num_bytes / _SLOWEST_BYTES_PER_S}

    def _ask(self, uri: str, call: Callable[[Any], T]) -> T:
        """Make one call, again while it fails in a way that may pass."""
        fs = _file_system(self.scheme, self.retry_policy.timeout_s, os.getpid())
        for attempt in range(1, self.retry_policy.attempts + 1):
            try:
                return call(fs)
            except Exception as error:
                plain = plain_error(uri, error)
                if plain is not None:
                    raise plain from error
                if attempt == self.retry_policy.attempts:
                    raise StoreFailedError(
                        errno.EIO, f"{words_of(error)} ({attempt} attempts)", uri
                    ) from error
            time.sleep(self.retry_policy.wait_s(attempt))
        raise AssertionError("attempts is 1 or more")


def split_uri(uri: str) -> tuple[str, str]:
    """Split 'scheme://rest'; the scheme is '' for a path.

    Raises:
        UserError: a scheme that we do not speak.
    """
    scheme, colon, rest = uri.partition("://")
    if not colon or "/" in scheme:
        return "", uri
    if scheme not in SCHEMES:
        known = ", ".join(f"{name}://" for name in SCHEMES)
        raise UserError(
            f"{uri}: unknown kind of storage {scheme + '://'!r}. Known: {known} and plain paths."
        )
    return scheme, rest


def require_store(uri: str) -> None:
    """Check that the client of a store is installed; a path needs none.

    Raises:
        UserError: it is not, with the extra that brings it; or we do not speak the scheme.
    """
    scheme = split_uri(uri)[0]
    if scheme in _EXTRA_OF:
        require_extra(_EXTRA_OF[scheme], f"{scheme}://")


@cache
def _file_system(scheme: str, timeout_s: float, pid: int) -> Any:  # noqa: ARG001 - one a process
    require_store(f"{scheme}://")
    import fsspec

    options: dict[str, Any] = {"skip_instance_cache": True}
    if scheme == "s3":
        options |= {
            "config_kwargs": {
                "connect_timeout": timeout_s,
                "read_timeout": timeout_s,
                "max_pool_connections": _CONNECTIONS,
                "retries": {"mode": "standard", "total_max_attempts": 1},
            },
        }
    if scheme in ("s3", "gs"):
        options["use_listings_cache"] = False
    try:
        fs = fsspec.filesystem(_FSSPEC_NAMES[scheme], **options)
    except (ImportError, OSError) as error:
        raise UserError(
            f"{scheme}:// cannot be used here: {error}. "
            "hdfs:// needs Hadoop's libhdfs and a CLASSPATH; or mount it and give the path."
        ) from error
    if scheme == "s3":
        fs.retries = 1
    return fs


async def _s3_range(fs: Any, uri: str, start: int, stop: int, etag: str) -> bytes:
    """Get a range of an object, provided that it still is what `etag` says ('': anything)."""
    bucket, key, _ = fs.split_path(uri)
    must = {"IfMatch": f'"{etag}"'} if etag else {}
    where = f"bytes={start}-{stop - 1}"
    answer = await fs._call_s3("get_object", Bucket=bucket, Key=key, Range=where, **must)
    try:
        body: bytes = await answer["Body"].read()
    finally:
        answer["Body"].close()
    return body


def put_and_rename(fs: Any, path: Path, uri: str) -> None:
    """Write beside the name, then rename; an old file is gone for a moment before."""
    folder, _, name = uri.rpartition("/")
    beside = f"{folder}/.{name}.{secrets.token_hex(4)}.part"
    fs.makedirs(folder, exist_ok=True)
    try:
        fs.put_file(str(path), beside)
        if fs.exists(uri):  # HDFS renames over nothing
            fs.rm_file(uri)
        fs.mv(beside, uri)
    finally:
        if fs.exists(beside):
            fs.rm_file(beside)
