"""Which weights a folder holds, told without reading all of them."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from vxp_model.errors import UserError

WEIGHT_SUFFIXES: Final = (".safetensors", ".bin", ".pt", ".pth")

READ_WHOLE: Final = (
    "config.json",
    "generation_config.json",
    "processor_config.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
    "chat_template.jinja",
    "chat_template.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "adapter_config.json",
    "vocab.json",
    "merges.txt",
)
"""What an answer depends on beside the weights. Cards, logs and the like do not count."""

PART_BYTES: Final = 1 << 20
TENSOR_BYTES: Final = 4096
"""Read of each tensor, from its middle: a part of a model may be trained and the rest be frozen."""


def folder_fingerprint(folder: Path | str) -> str:
    """Return a digest of a model's folder: the same for a copy of it, wherever that lies.

    Configuration and tokenizer count whole. Of each weight file count its name, its size, a
    mebibyte each of its beginning, middle and end, and 4 KiB of each tensor of safetensors: what
    training has changed differs there, but a change of a few bytes elsewhere would not be seen.
    Seconds become milliseconds for it.

    Returns:
        digest: 16 hex digits of a SHA-256.

    Raises:
        UserError: there is no config.json, or no weights.
    """
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise UserError(f"{str(folder)!r} holds no model: there is no config.json.")
    weights = sorted(p for p in folder.iterdir() if p.suffix in WEIGHT_SUFFIXES and p.is_file())
    if not weights:
        raise UserError(
            f"{str(folder)!r} holds no weights: no file of {', '.join(WEIGHT_SUFFIXES)}."
        )
    digest = hashlib.sha256()
    for name in READ_WHOLE:
        path = folder / name
        if path.is_file():
            digest.update(f"{name}\0{_sha256(path.read_bytes())}\n".encode())
    for path in weights:
        size = path.stat().st_size
        digest.update(f"{path.name}\0{size}\0{_sha256(_parts(path, size))}\n".encode())
    return digest.hexdigest()[:16]


def _parts(path: Path, size: int) -> bytes:
    """Read beginning, middle and end, and some of each tensor; all of a small file."""
    if size <= 3 * PART_BYTES:
        return path.read_bytes()
    starts = [(0, PART_BYTES), ((size - PART_BYTES) // 2, PART_BYTES)]
    starts.append((size - PART_BYTES, PART_BYTES))
    if path.suffix == ".safetensors":
        starts += [(start, TENSOR_BYTES) for start in _middles(path, size)]
    parts = []
    with path.open("rb") as file:
        for start, length in starts:
            file.seek(start)
            parts.append(file.read(length))
    return b"".join(parts)


def _middles(path: Path, size: int) -> Iterator[int]:
    """Yield where to read of each tensor; nothing where the file is no safetensors after all."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = file.read(length) if length < size else b""
    try:
        spans = [
            one["data_offsets"] for name, one in json.loads(header).items() if name[:2] != "__"
        ]
        places = sorted((int(begin), int(end)) for begin, end in spans)
    except (ValueError, AttributeError, KeyError, TypeError):
        return
    for begin, end in places:
        yield 8 + length + max(begin, (begin + end - TENSOR_BYTES) // 2)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
