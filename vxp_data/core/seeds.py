"""Random choices that are a pure function of what they are about.

No generator state: a choice depends on its parts alone, not on the machine, the order of the work,
or a library's version. SHA-256 is defined to the bit everywhere; a library's random stream is not.
"""

from __future__ import annotations

import hashlib


def hash64(*parts: int | str) -> int:
    """Mix whole numbers and texts into 64 bits.

    Args:
        parts: what the number is about, most general first, e.g. ("order", seed, epoch, sample_id).
            Parts are kept apart: ("ab", "c") and ("a", "bc"), 1 and "1" give unrelated numbers.

    Returns:
        The first 8 bytes, big-endian, of the SHA-256 of, for each part, a letter for its type ('i'
        or 's'), its length in bytes (8 bytes, big-endian), and its decimal digits or UTF-8 text.
    """
    digest = hashlib.sha256()
    for part in parts:
        data = str(part).encode("utf-8", "surrogatepass")
        digest.update(b"s" if isinstance(part, str) else b"i")
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return int.from_bytes(digest.digest()[:8], "big")


def choose(num: int, *parts: int | str) -> int:
    """Choose one of `num` things, each equally often over many parts.

    Args:
        num: how many there are, 1 or more.
        parts: what the choice is about; see `hash64`.

    Returns:
        floor(hash64 * num / 2**64), in [0, num).

    Raises:
        ValueError: there is nothing to choose from.
    """
    if num < 1:
        raise ValueError(f"num must be 1 or more, got {num}")
    return hash64(*parts) * num >> 64
