"""The nearest vectors of many queries, of hits that come in any order.

Shapes: B queries, K neighbours, H hits.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from vxp_data.neighbours.products import Hits, joined
from vxp_data.neighbours.ranking import greatest

_HITS_AT_ONCE: Final = 1 << 22


class TopHits:
    """Keeps the nearest ones; what is kept does not depend on the order in which hits come.

    Args:
        num_queries: B.
        num_neighbours: K.
    """

    def __init__(self, num_queries: int, num_neighbours: int) -> None:
        self._num_queries, self._num_neighbours = num_queries, num_neighbours
        self._pieces: list[Hits] = []
        self._num_kept = self._num_new = 0

    def add(self, hits: Hits) -> None:
        """Take in hits: queries, rows and products."""
        self._pieces.append(hits)
        self._num_new += len(hits[0])
        # When as much has come as there was: a hit is then ranked a few times, not every time.
        if self._num_new > max(_HITS_AT_ONCE, self._num_kept):
            self._pieces = [self.ranked()]
            self._num_kept, self._num_new = len(self._pieces[0][0]), 0

    def ranked(self) -> Hits:
        """Return the nearest, query by query, the nearest first."""
        query_H, row_H, value_H = joined(self._pieces)
        kept_H, _ = greatest(query_H, row_H, value_H, self._num_neighbours)
        return query_H[kept_H], row_H[kept_H], value_H[kept_H]

    def table(self, hits: Hits) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return ranked hits as cosine_BK and row_BK, see `NeighbourIndex.search`."""
        query_H, row_H, cosine_H = hits
        shape = self._num_queries, self._num_neighbours
        cosine_BK = np.full(shape, -np.inf, dtype=np.float32)
        row_BK = np.full(shape, -1, dtype=np.int64)
        rank_H = np.arange(len(query_H)) - np.searchsorted(query_H, query_H)
        cosine_BK[query_H, rank_H] = cosine_H
        row_BK[query_H, rank_H] = row_H
        return cosine_BK, row_BK
