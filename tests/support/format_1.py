"""Shards of format 1, which no version writes any more.

`shards_of_format_1.tar.xz` was written by the last version that did, from seven rows over two
videos, an image and a conversation alone: `video/` and `frames/`, one a payload; `samples.json`,
what its loader gave of each in three epochs, of which two are stored, and the tokens that its
trainer made of it (`VideoXLProProcessor(byte_tokenizer(), image_px=28, group_tokens=4)`).
"""

from __future__ import annotations

import tarfile
from pathlib import Path

STORED = Path(__file__).with_name("shards_of_format_1.tar.xz")
PAYLOADS = ("video", "frames")


def stored_shards(folder: Path) -> Path:
    """Unpack the shards that the last version of format 1 wrote."""
    with tarfile.open(STORED) as tar:
        tar.extractall(folder, filter="data")
    return folder
