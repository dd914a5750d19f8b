"""How well captions fit their images, as a run keeps it: image_text_similarity.parquet."""

from __future__ import annotations

import hashlib
from typing import Final

import pyarrow as pa

from vxp_data.pipeline.run_dir.directory import RunDirectory, read_table

SIMILARITY_SCHEMA: Final = pa.schema([("pair", pa.string()), ("similarity", pa.float32())])
"""One row a pair; see `pair_key`."""


def pair_key(media_id: str, text: str, encoder: str) -> str:
    """Name what a similarity is about: the image's content, the caption, the encoder.

    A pair of which one has changed is another one, and is measured anew.
    """
    return hashlib.sha256("\0".join((media_id, encoder, text)).encode()).hexdigest()[:32]


def read_similarities(run: RunDirectory) -> dict[str, float]:
    """Return what was measured, by pair; nothing where no pairs were compared.

    Raises:
        UserError: the file cannot be read.
    """
    if not run.similarities.is_file():
        return {}
    table = read_table(run.similarities)
    return dict(zip(table["pair"].to_pylist(), table["similarity"].to_pylist(), strict=True))
