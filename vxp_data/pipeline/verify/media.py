"""The part of `verify` about media files: their content is still that of the embeddings."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import pyarrow as pa

from vxp_data.storage.digest import content_digest

_HASHED_AT_ONCE: Final = 8


def check_media(clips: pa.Table, add: Callable[[str], None]) -> tuple[int, int]:
    """Read the files again, and compare their digests.

    Args:
        clips: uri and media_id.
        add: takes a problem.

    Returns:
        How many files were read, and how many lie in stores and were not.
    """
    ids = dict(zip(clips["uri"].to_pylist(), clips["media_id"].to_pylist(), strict=True))
    named = {uri: media_id for uri, media_id in ids.items() if media_id}
    known = {uri: media_id for uri, media_id in named.items() if "://" not in uri}

    def digest(uri: str) -> str:
        try:
            return content_digest(uri)
        except OSError as error:
            return f"unreadable ({error.strerror or error})"

    with ThreadPoolExecutor(_HASHED_AT_ONCE) as pool:
        for uri, now in zip(known, pool.map(digest, known), strict=True):
            if now != known[uri]:
                add(f"{uri}: its content was {known[uri]} and is {now}")
    return len(known), len(named) - len(known)
