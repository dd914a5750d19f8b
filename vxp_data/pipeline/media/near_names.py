"""The file that is there under nearly the name that a row gives: for the message, never to read.

Names differ in writing only: composed or decomposed accents (a Mac's and everybody else's), `%20`
for a space, a backslash for a slash, capitals.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote

_MOST_NAMES: Final = 200_000
"""Looked through of one folder."""


def near_file(path: str) -> str:
    """Return a file that is there and whose path differs from a missing one's in writing only.

    Args:
        path: where there is no file.

    Returns:
        Its path as it is on the disk; '' where there is none.
    """
    root = Path("/" if path.startswith("/") else ".")
    found = _below(root, [part for part in _plain(path).split("/") if part not in ("", ".")])
    return str(found) if found is not None else ""


def other_spellings(uri: str) -> Iterator[str]:
    """Return what a missing object may be called instead, likely ones first, each once.

    Args:
        uri: of an object store, in which nobody lists a folder to find one name.
    """
    scheme, _, rest = uri.partition("://")
    bucket, _, key = rest.partition("/")
    stem, dot, suffix = key.rpartition(".")
    spellings = (
        *(unicodedata.normalize(form, key) for form in ("NFC", "NFD")),
        *(unquote(key), quote(key), key.replace("\\", "/")),
        *(stem + dot + suffix.lower(), stem + dot + suffix.upper(), key.lower()),
    )
    yield from (
        f"{scheme}://{bucket}/{key}"
        for key in dict.fromkeys(spellings)
        if f"{bucket}/{key}" != rest
    )


def named_nearly(there: str) -> str:
    """Return what a message about a missing file goes on with; '' for no such file."""
    return f"; there is {there!r}: correct the row, or rename the file" if there else ""


def _below(folder: Path, parts: list[str]) -> Path | None:
    """Find a file below a folder, part of its path by part; names as they are given come first."""
    if not parts:
        return folder if folder.is_file() else None
    found = _below(folder / parts[0], parts[1:]) if (folder / parts[0]).exists() else None
    if found is not None:
        return found
    names = _names(folder)
    for length in range(1, len(parts) + 1):  # a name may hold backslashes: several of our parts
        for name in names.get("/".join(parts[:length]).casefold(), ()):
            found = _below(folder / name, parts[length:])
            if found is not None:
                return found
    return None


def _names(folder: Path) -> dict[str, list[str]]:
    """List a folder's names by what they are when written plainly; nothing where it is none."""
    try:
        return _listed(folder, folder.stat().st_mtime_ns)
    except OSError:
        return {}


@lru_cache(maxsize=8)
def _listed(folder: Path, _: int) -> dict[str, list[str]]:
    listed: dict[str, list[str]] = {}
    for name in sorted(path.name for path in islice(folder.iterdir(), _MOST_NAMES)):
        listed.setdefault(_plain(name).casefold(), []).append(name)
    return listed


def _plain(name: str) -> str:
    """Write a name with composed accents, decoded, and with slashes."""
    return unicodedata.normalize("NFC", unquote(name)).replace("\\", "/")
