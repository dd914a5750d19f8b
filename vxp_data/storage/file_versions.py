"""What tells that a file has changed, without reading it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from vxp_data.errors import UserError
from vxp_data.storage.local import local_file_version
from vxp_data.storage.object_store import ObjectStore, split_uri
from vxp_data.storage.store_errors import StoreFailedError

_LIST_FROM: Final = 20
"""A prefix with so many files of ours is listed, 1000 an answer; others are asked for singly."""
_ASKED_AT_ONCE: Final = 32


def file_versions(uris: Iterable[str]) -> dict[str, str]:
    """Return each file's size and time of change (in a store: its etag) as one text.

    Returns:
        By URI; '' for a file that is not there or cannot be looked at.

    Raises:
        UserError: a store fails at every attempt.
    """
    versions: dict[str, str] = {}
    groups: dict[str, list[str]] = defaultdict(list)
    for uri in uris:
        if split_uri(uri)[0]:
            groups[uri.rpartition("/")[0]].append(uri)
        else:
            versions[uri] = local_file_version(uri)
    single: list[str] = []
    for folder, members in groups.items():
        listed = _listed(folder) if len(members) >= _LIST_FROM else None
        if listed is None:
            single += members
        else:
            versions |= {uri: listed.get(uri.rpartition("/")[2], "") for uri in members}
    with ThreadPoolExecutor(_ASKED_AT_ONCE) as pool:
        versions |= zip(single, pool.map(_asked, single), strict=True)
    return versions


def _listed(folder: str) -> dict[str, str] | None:
    """List a prefix; None where that is not allowed."""
    try:
        found = ObjectStore(split_uri(folder)[0]).listing(folder)
    except StoreFailedError as error:
        raise UserError(
            f"cannot list {folder}: {error.strerror}. Run the same command again when the store "
            "answers."
        ) from error
    except OSError:
        return None
    return {name: facts.file_version for name, facts in found.items()}


def _asked(uri: str) -> str:
    try:
        return ObjectStore(split_uri(uri)[0]).facts(uri).file_version
    except OSError:
        return ""
