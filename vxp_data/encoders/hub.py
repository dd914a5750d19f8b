"""Files of the Hugging Face hub: in this machine's cache, or fetched into it."""

from __future__ import annotations

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

TIMEOUT_S: Final = 5.0
"""How long the one question to the hub may take before it counts as unreachable."""

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
            get_hf_file_metadata(hf_hub_url(repo, name), timeout=TIMEOUT_S)
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
        get_hf_file_metadata(hf_hub_url(repo, name), timeout=TIMEOUT_S)
    except Exception:  # noqa: BLE001 - whatever its client raises, the remedy is one
        return False
    return True
