"""What tells that a file has changed, without reading it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import takewhile
from queue import SimpleQueue
from typing import Final

from vxp_data.errors import UserError
from vxp_data.storage.local import local_file_version
from vxp_data.storage.lookup_plan import HEADS_A_PAGE, Stretch
from vxp_data.storage.object_store import ObjectStore, split_uri
from vxp_data.storage.store_errors import StoreFailedError

_ASKED_AT_ONCE: Final = 32
_PAGED: Final = frozenset({"s3", "gs"})
"""Stores that list a page from anywhere."""
_LIST_FROM: Final = 1000
"""Of others a folder is listed whole where so many of its files are wanted: HDFS holds about a
million in a folder, unless told otherwise, and lists a thousand an answer."""

_Found = dict[str, str]
_Followed = tuple[_Found, Sequence[str], list[Stretch]]
"""Versions by key; what to ask for singly, and what else to look up after it."""


def file_versions(uris: Iterable[str]) -> dict[str, str]:
    """Return each file's size and time of change (in a store: its etag) as one text.

    Objects of S3 and of Google's store are asked for singly or listed, by what is cheaper; see
    `lookup_plan` for the rule. Nothing outside the first and the last of a bucket's is listed, so
    many files can be given part by part, each in the order of their URIs. Requests of all buckets
    go on side by side, _ASKED_AT_ONCE at a time; of a listing no more than these pages are held.

    Returns:
        By URI; '' for a file that is not there or cannot be looked at.

    Raises:
        UserError: a store fails at every attempt.
    """
    versions: dict[str, str] = {}
    buckets: dict[str, list[str]] = defaultdict(list)
    folders: dict[str, list[str]] = defaultdict(list)
    for uri in uris:
        scheme, rest = split_uri(uri)
        if not scheme:
            versions[uri] = local_file_version(uri)
        elif scheme in _PAGED:
            bucket, _, key = rest.partition("/")
            buckets[f"{scheme}://{bucket}"].append(key)
        else:
            folders[uri.rpartition("/")[0]].append(uri)
    with ThreadPoolExecutor(_ASKED_AT_ONCE) as pool:
        try:
            versions |= _Lookup(pool).versions(buckets)
            versions |= _in_folders(folders, pool)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return versions


class _Lookup:
    """Looks up objects of stores that list from anywhere, in the threads of a pool."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self._pool = pool
        self._bucket_of: dict[Future[_Followed], str] = {}
        """Of each request that goes on, or waits for a thread."""
        self._done: SimpleQueue[Future[_Followed]] = SimpleQueue()
        self._unlisted: set[str] = set()
        """Prefixes that we may not list, or that are listed in no order."""

    def versions(self, buckets: Mapping[str, Iterable[str]]) -> _Found:
        """Look up the keys of each bucket; return versions by URI."""
        versions: _Found = {}
        for bucket, keys in buckets.items():
            self._start(bucket, Stretch(sorted(set(keys))))
        while self._bucket_of:
            future = self._done.get()
            bucket = self._bucket_of.pop(future)
            found, singly, stretches = future.result()
            versions |= {f"{bucket}/{key}": version for key, version in found.items()}
            for stretch in stretches:  # first, as more follows from them
                self._start(bucket, stretch)
            self._start_singly(bucket, singly)
        return versions

    def _start(self, bucket: str, stretch: Stretch) -> None:
        if stretch.is_singly or f"{bucket}/{stretch.prefix}" in self._unlisted:
            self._start_singly(bucket, stretch.keys)
        else:
            self._follow(bucket, self._pool.submit(self._list_page, bucket, stretch))

    def _start_singly(self, bucket: str, keys: Sequence[str]) -> None:
        keys_a_call = max(1, min(HEADS_A_PAGE, len(keys) // _ASKED_AT_ONCE))
        for i in range(0, len(keys), keys_a_call):
            asked = self._pool.submit(_asked_singly, bucket, keys[i : i + keys_a_call])
            self._follow(bucket, asked)

    def _follow(self, bucket: str, future: Future[_Followed]) -> None:
        self._bucket_of[future] = bucket
        future.add_done_callback(self._done.put)

    def _list_page(self, bucket: str, stretch: Stretch) -> _Followed:
        keys, where = stretch.keys, f"{bucket}/{stretch.prefix}"
        scheme, name = split_uri(bucket)
        try:
            page = ObjectStore(scheme).page(name, stretch.prefix, keys[0])
        except StoreFailedError as error:
            raise _cannot_list(where, error) from error
        except FileNotFoundError:
            return dict.fromkeys(keys, ""), (), []  # there is no such bucket
        except OSError:
            self._unlisted.add(where)
            folders = stretch.by_folder()
            return ({}, (), folders) if len(folders) > 1 else ({}, keys, [])
        answered = list(takewhile(page.answers_for, keys))
        if not answered:
            return {}, keys[:1], [Stretch(keys[1:], stretch.singly_next)]
        there = {key: page.facts[key].file_version for key in answered if key in page.facts}
        return {**dict.fromkeys(answered, ""), **there}, *stretch.after_page(len(answered))


def _asked_singly(bucket: str, keys: Sequence[str]) -> _Followed:
    return {key: _asked(f"{bucket}/{key}") for key in keys}, (), []


def _in_folders(folders: dict[str, list[str]], pool: ThreadPoolExecutor) -> _Found:
    """Look up files of stores that list a folder whole or not at all."""
    versions: _Found = {}
    single: list[str] = []
    for folder, members in folders.items():
        listed = _listed(folder) if len(members) >= _LIST_FROM else None
        if listed is None:
            single += members
        else:
            versions |= {uri: listed.get(uri.rpartition("/")[2], "") for uri in members}
    return versions | dict(zip(single, pool.map(_asked, single), strict=True))


def _listed(folder: str) -> _Found | None:
    """List a folder; None where that is not allowed."""
    try:
        found = ObjectStore(split_uri(folder)[0]).listing(folder)
    except StoreFailedError as error:
        raise _cannot_list(folder, error) from error
    except OSError:
        return None
    return {name: facts.file_version for name, facts in found.items()}


def _cannot_list(where: str, error: StoreFailedError) -> UserError:
    return UserError(
        f"cannot list {where}: {error.strerror}. Run the same command again when the store answers."
    )


def _asked(uri: str) -> str:
    try:
        return ObjectStore(split_uri(uri)[0]).facts(uri).file_version
    except OSError:
        return ""
