"""Clips whose mean embeddings are near: which pairs are worth comparing frame by frame.

Shapes: C clips, B a block of queries, K neighbours, W parts of a clip, P pairs, D embedding width.

A clip inside a longer one is not near it in the mean: it is near the mean of a part of it. So the
means of all clips are looked for, and the means of parts of them, among the means of whole clips.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vxp_data.core.duplicates import window_means
from vxp_data.neighbours.base import NeighbourIndex
from vxp_data.neighbours.row_file import RowFile
from vxp_data.pipeline.curate.clip_views import ClipSource, Seen

_PAIRS_AT_ONCE: Final = 1 << 22
_PART_IS_WHOLE: Final = 0.98
"""A part whose mean is so near the whole clip's finds what that finds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipOrder:
    """C clips in their order of preference; see `core.duplicate_groups.representative_order`."""

    duration_s_C: NDArray[np.float64]
    num_rows_C: NDArray[np.int64]
    is_other_C: NDArray[np.bool_]
    """Of another run, whose clips are compared with this run's alone."""
    file_C: NDArray[np.int64]
    """Number of each clip's file; parts of one file are no duplicates of one another."""
    others_only: bool
    """Compare clips of different runs only."""

    def are_wanted(
        self, first_P: NDArray[np.int64], second_P: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Return which pairs of clips are to be compared."""
        others_P = self.is_other_C[first_P].astype(np.int8) + self.is_other_C[second_P]
        allowed_P = others_P == 1 if self.others_only else others_P < 2
        wanted_P: NDArray[np.bool_] = allowed_P & (self.file_C[first_P] != self.file_C[second_P])
        return wanted_P

    def coded(self, first_P: NDArray[np.int64], second_P: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return those of some pairs that are wanted, each once, as ascending numbers.

        A number takes 8 bytes, a pair of Python integers in a set 200: there may be hundreds of
        millions, 32 neighbours of each clip and of each of its parts.
        """
        wanted_P = self.are_wanted(first_P, second_P)
        lower_P = np.minimum(first_P[wanted_P], second_P[wanted_P])
        higher_P = np.maximum(first_P[wanted_P], second_P[wanted_P])
        return np.unique(lower_P * len(self.duration_s_C) + higher_P)

    def decoded(self, code_P: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the lower and the higher indices of pairs."""
        lower_P, higher_P = np.divmod(code_P, len(self.duration_s_C))
        return lower_P, higher_P


def candidate_pairs(
    index: NeighbourIndex,
    sources: Sequence[ClipSource],
    clips: Seen,
    active_C: NDArray[np.bool_],
    asking_C: NDArray[np.bool_],
    order: ClipOrder,
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Find the pairs whose means are near, and the clips that may have more.

    Args:
        index: of the means of all clips.
        sources: for the means of parts.
        clips: how near they must be, and how many neighbours one may have.
        active_C: which clips are searched, where they have such vectors.
        asking_C: those of them whose neighbours are wanted.
        order: which pairs are wanted.

    Returns:
        code_P: see `ClipOrder.coded`.
        full_C: of which even the last neighbour that was looked at is near.
    """
    least = clips.view.thresholds.candidate_cosine
    has_frames_C = clips.num_frames_C > 0
    row_A = np.flatnonzero(active_C & has_frames_C)
    asking_C = asking_C & has_frames_C
    wanted = min(clips.view.neighbours + 1, len(row_A))  # the clip itself is one of them
    code_P = np.zeros(0, dtype=np.int64)
    blocks: list[NDArray[np.int64]] = []
    full_C = np.zeros(len(asking_C), dtype=np.bool_)
    with index.among(row_A) if len(row_A) < len(active_C) else nullcontext(index) as searched:
        for index_B, cosine_BK, row_BK in _answers(searched, sources, clips, asking_C, wanted):
            near_BK = (cosine_BK >= least) & (row_BK >= 0)
            if wanted < len(row_A):
                # Where even the last neighbour is near, there may be more that were not asked for.
                full_C[index_B[near_BK[:, -1]]] = True
            query, rank = np.nonzero(near_BK)
            blocks.append(order.coded(index_B[query], row_BK[query, rank]))
            # Merged when as much has come as there was: a pair is then sorted a few times, not
            # with every block.
            if sum(map(len, blocks)) > max(_PAIRS_AT_ONCE, len(code_P)):
                code_P, blocks = np.unique(np.concatenate([code_P, *blocks])), []
    return np.unique(np.concatenate([code_P, *blocks])), full_C


def _answers(
    index: NeighbourIndex,
    sources: Sequence[ClipSource],
    clips: Seen,
    asking_C: NDArray[np.bool_],
    wanted: int,
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]]:
    """Search for the clips' means, then for those of their parts: whose, cosines, rows."""
    least = clips.view.thresholds.candidate_cosine
    own_C = np.flatnonzero(asking_C)
    for start in range(0, len(own_C), index.queries_at_once):
        index_B = own_C[start : start + index.queries_at_once]
        yield index_B, *index.search_rows(index_B, wanted, least)
    dim = clips.mean_CD.shape[1]
    # A clip has fewer such parts than frames.
    most = min(index.queries_at_once, int(clips.num_frames_C[own_C].sum(dtype=np.int64)))
    index_B = np.empty(most, dtype=np.int64)
    with RowFile(len(index_B), dim, np.float16) as queries:
        size = 0
        for number, part_WD in _parts(sources, clips, asking_C):
            if size + len(part_WD) > len(index_B):
                yield index_B[:size], *index.search(queries.head(size), wanted, least)
                size = 0
            queries.rows[size : size + len(part_WD)] = part_WD
            index_B[size : size + len(part_WD)] = number
            size += len(part_WD)
        if size:
            yield index_B[:size], *index.search(queries.head(size), wanted, least)


def _parts(
    sources: Sequence[ClipSource], clips: Seen, asking_C: NDArray[np.bool_]
) -> Iterator[tuple[int, NDArray[Any]]]:
    """Return the means of the parts of each clip that are not near its own."""
    for source in sources:
        for clip in source.only(asking_C).frames(clips.view.vectors):
            part_WD = window_means(clip.emb_FD).astype(np.float16)
            # Products of such numbers add up exactly in float64: no clip is on either side of it.
            own_W = part_WD.astype(np.float64) @ clips.mean_CD[clip.index].astype(np.float64)
            yield clip.index, part_WD[own_W < _PART_IS_WHOLE]
