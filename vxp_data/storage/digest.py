"""Digests that name a file by its content."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

CHUNK_BYTES: Final = 4 << 20
"""Bytes of each of the three parts (head, middle, tail) of a sampled digest, and of a read."""

FULL_BYTES: Final = 64 << 20
"""Files up to this size are hashed whole. A bigger one in an object store is read in parts only,
and has to have the name there that it has on a disk."""


def content_digest(path: str | Path) -> str:
    """Name a file by its content: whole up to 64 MiB, sampled above.

    Returns:
        'sha256:' and 64 hex digits of the SHA-256 of all bytes, or what `sampled_digest` gives.

    Raises:
        OSError: the file cannot be read.
    """
    with Path(path).open("rb") as file:
        if _size_bytes(file) > FULL_BYTES:
            return _sampled(file)
        return f"sha256:{stream_sha256(file)}"


def sampled_digest(path: str | Path) -> str:
    """Name a file by its size and its first, middle and last 4 MiB, whatever its size.

    Reads 12 MiB at most, so that a file of hundreds of gigabytes costs no more than a small one.
    Two files of one size that differ only elsewhere get the same digest: good to tell weights and
    recordings apart, no proof that a file is undamaged.

    Returns:
        'sampled:' and 64 hex digits of the SHA-256 of the size (8 bytes, big-endian) and the three
        parts; they overlap in files under 12 MiB.

    Raises:
        OSError: the file cannot be read.
    """
    with Path(path).open("rb") as file:
        return _sampled(file)


def digest_of_parts(num_bytes: int, parts: Iterable[bytes]) -> str:
    """Return what `sampled_digest` gives for a file of this size with these `sampled_ranges`."""
    digest = hashlib.sha256(num_bytes.to_bytes(8, "big"))
    for part in parts:
        digest.update(part)
    return f"sampled:{digest.hexdigest()}"


def stream_sha256(file: BinaryIO) -> str:
    """Hash what is left of a file: 64 hex digits.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    while chunk := file.read(CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()


def sampled_ranges(num_bytes: int) -> list[tuple[int, int]]:
    """Return the byte ranges [start, stop) of which a sampled digest is made."""
    last = max(0, num_bytes - CHUNK_BYTES)
    return [(at, min(at + CHUNK_BYTES, num_bytes)) for at in (0, last // 2, last)]


def _size_bytes(file: BinaryIO) -> int:
    size = file.seek(0, 2)
    file.seek(0)
    return size


def _sampled(file: BinaryIO) -> str:
    return digest_of_parts(_size_bytes(file), _parts(file))


def _parts(file: BinaryIO) -> Iterator[bytes]:
    for start, stop in sampled_ranges(_size_bytes(file)):
        file.seek(start)
        yield file.read(stop - start)
