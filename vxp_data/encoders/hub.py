"""Files of the Hugging Face hub: in this machine's cache, or fetched into it."""

from __future__ import annotations

import queue
import threading
from pathlib import Path
from typing import Final

from huggingface_hub import (
    constants,
    get_hf_file_metadata,
    hf_hub_download,
    hf_hub_url,
    try_to_load_from_cache,
)
from huggingface_hub.errors import EntryNotFoundError

TIMEOUT_S: Final = 3.0
"""How long the one question to the hub may take before it counts as unreachable: its name server,
its addresses and its answer together."""

CACHE: Final[str] = constants.HF_HUB_CACHE
"""Folder of the cache."""


class NotFetchedError(Exception):
    """A file cannot be had from the hub; says why."""


def cached(repo: str, names: tuple[str, ...]) -> Path | None:
    """Return the first of these files of a repository that is in the cache; None: none is."""
    for name in names:
        path = try_to_load_from_cache(repo, name)
        if isinstance(path, str):
            return Path(path)
    return None


def fetch(repo: str, names: tuple[str, ...]) -> Path:
    """Download the first of these files that the repository has, into the cache.

    The hub is asked once, for `TIMEOUT_S` at most, before any download starts.

    Raises:
        NotFetchedError: it has none of them, or cannot be reached.
    """
    for name in names:
        try:
            _ask(hf_hub_url(repo, name))
            return Path(hf_hub_download(repo, name))
        except EntryNotFoundError:
            continue
        except Exception as error:
            first_line = str(error).partition("\n")[0]
            raise NotFetchedError(f"{type(error).__name__}: {first_line}") from error
    raise NotFetchedError("the hub repository has no such file")


def offers(repo: str, name: str) -> bool:
    """Whether the hub can be reached and has that file."""
    try:
        _ask(hf_hub_url(repo, name))
    except Exception:  # noqa: BLE001 - whatever its client raises, the remedy is one
        return False
    return True


def _ask(url: str) -> None:
    """Ask the hub for a file's metadata, in a thread of its own: looking up its name has no limit.

    Raises:
        TimeoutError: it does not answer in time.
        Exception: what its client raises.
    """
    failures: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()

    def ask() -> None:
        try:
            get_hf_file_metadata(url, timeout=TIMEOUT_S)
        except Exception as error:  # noqa: BLE001 - raised again below
            failures.put(error)
        else:
            failures.put(None)

    threading.Thread(target=ask, name="ask the hub", daemon=True).start()
    try:
        failure = failures.get(timeout=TIMEOUT_S)
    except queue.Empty:
        raise TimeoutError(f"the hub does not answer within {TIMEOUT_S:g} s") from None
    if failure is not None:
        raise failure
