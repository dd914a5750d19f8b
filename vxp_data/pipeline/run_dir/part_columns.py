"""Parts built of clips and their vectors, with the scores and the mean of each.

A score's column says by which version of which measure it is. A part lacks what was not known when
it was written: then it is worked out from the vectors, to the same bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vxp_data.core.duplicates import clip_mean
from vxp_data.core.similarity import Measure, score_videos
from vxp_data.pipeline.run_dir.embedding_column import embedding_column
from vxp_data.registry import MEASURES

MEAN: Final = "mean"
"""The column of means: float16 [D] unit row, little-endian; null where the clip failed."""

Embeddings = Sequence[NDArray[np.float16] | None]
"""float16 [F, D] of each clip; None for one that failed."""


def all_measures() -> list[Measure]:
    """Return the measures that there are."""
    return [MEASURES.load(name) for name in MEASURES.names()]


def score_column(measure: Measure) -> str:
    """Return the name of a measure's column in parts."""
    return f"score:{measure.name}@{measure.version}"


def part_of(facts: pa.Table, embeddings: Embeddings) -> pa.Table:
    """Build a part of clips.

    Args:
        facts: EMBEDDING_FACTS of each.
        embeddings: of each.
    """
    for name, column in _derived(embeddings).items():
        facts = facts.append_column(name, column)
    return facts.append_column("embedding", embedding_column(embeddings))


def _derived(embeddings: Embeddings) -> dict[str, pa.Array]:
    """Work out all that parts hold beside vectors, by the names of the columns.

    Vectors that are no unit rows have no scores here: what scores the run says what is wrong.
    """
    measures = all_measures()
    try:
        scores = scores_of(embeddings, measures)
    except ValueError:
        scores = [pa.nulls(len(embeddings), pa.float64()) for _ in measures]
    columns = dict(zip(map(score_column, measures), scores, strict=True))
    return columns | {MEAN: means_of(embeddings)}


def scores_of(embeddings: Embeddings, measures: Sequence[Measure]) -> list[pa.Array]:
    """Score clips by each measure; null where one failed.

    Raises:
        ValueError: a vector is no unit row.
    """
    there = [emb_FD for emb_FD in embeddings if emb_FD is not None]
    failed_R = np.array([emb_FD is None for emb_FD in embeddings], dtype=np.bool_)
    by_measure = score_videos(there, measures)
    columns = []
    for measure in measures:
        score_R = np.zeros(len(embeddings))
        score_R[~failed_R] = by_measure[measure.name]
        columns.append(pa.array(score_R, mask=failed_R))
    return columns


def means_of(embeddings: Embeddings) -> pa.Array:
    """Work out the column of means."""
    means = [None if emb_FD is None else clip_mean(emb_FD) for emb_FD in embeddings]
    return embedding_column([None if m is None else m.astype(np.float16) for m in means])
