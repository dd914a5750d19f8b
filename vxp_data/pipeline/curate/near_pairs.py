"""Which clips show the same: candidates by their mean embeddings, each compared frame by frame.

Shapes: C clips, P pairs.

Means and the frames of candidates lie in files, whatever the number of clips.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np
from numpy.typing import NDArray

from vxp_data.core.duplicate_groups import choose_representatives
from vxp_data.core.duplicates import Match
from vxp_data.neighbours.base import Workers
from vxp_data.neighbours.choose import build_index
from vxp_data.pipeline.curate.clip_views import (
    ClipSource,
    Pair,
    Same,
    Seen,
    View,
    merged,
    same_pairs,
    see_clips,
    unseen_clips,
)
from vxp_data.pipeline.curate.compare_frames import compare_pairs
from vxp_data.pipeline.curate.near_candidates import ClipOrder, candidate_pairs
from vxp_data.pipeline.curate.pair_workers import pair_workers
from vxp_data.settings.cluster import ClusterConfig
from vxp_data.settings.curation import Vectors


def find_same(
    sources: list[ClipSource], order: ClipOrder, views: Sequence[View], cluster: ClusterConfig
) -> Same:
    """Find the pairs of clips that show the same where they lie upon each other.

    Args:
        sources: where the frames of all clips lie.
        order: what is known of them.
        views: by which vectors, each with its rule; a pair is found where one of them finds it.
        cluster: where many clips are compared; few are compared in this process.

    Raises:
        UserError: parts cannot be read, the folder for temporary files is full, a clip has vectors
            of no view, or the engine cannot run here.
    """
    num_clips = len(order.duration_s_C)
    if num_clips < 2:
        return Same(found={}, unseen_C=np.zeros(0, dtype=np.int64))
    with ExitStack() as stack:
        looked = (see_clips(sources, view, num_clips, stack) for view in views)
        seen = [clips for clips in looked if clips is not None]
        unseen_C = unseen_clips(seen, views, sources, num_clips)
        workers = stack.enter_context(pair_workers(cluster, num_clips))
        searches = [_Search(sources, clips, order, workers, stack) for clips in seen]
        same = _rounds(searches, order, views)
    return Same(found=merged(same, views), unseen_C=unseen_C)


def _rounds(
    searches: Sequence[_Search], order: ClipOrder, views: Sequence[View]
) -> dict[Vectors, dict[Pair, Match]]:
    """Search again among the clips that stay, until no pair is new."""
    num_clips = len(order.duration_s_C)
    same: dict[Vectors, dict[Pair, Match]] = {view.vectors: {} for view in views}
    has_frames_C = np.zeros(num_clips, dtype=np.bool_)
    for search in searches:
        has_frames_C |= search.clips.num_frames_C > 0
    active_C = has_frames_C
    asking_C = active_C
    while asking_C.any():
        full_C = np.zeros(num_clips, dtype=np.bool_)
        num_new = 0
        for search in searches:
            found, found_full_C = search.look(active_C, asking_C)
            full_C |= found_full_C
            num_new += search.num_new
            same[search.clips.view.vectors] |= found
        if not num_new:
            break
        representative_C = choose_representatives(
            same_pairs(merged(same, views)), order.duration_s_C, np.maximum(1, order.num_rows_C)
        )
        stays_C = (representative_C == np.arange(num_clips)) | order.is_other_C
        before_C, active_C = active_C, stays_C & has_frames_C
        # Who had more near ones than were looked at asks again among those that stay; so does who
        # was a duplicate of a clip that is one itself now.
        asking_C = active_C & (full_C | ~before_C)
    return same


class _Search:
    """Looks for pairs by one kind of vectors, and compares each pair once."""

    def __init__(
        self,
        sources: Sequence[ClipSource],
        clips: Seen,
        order: ClipOrder,
        workers: Workers,
        stack: ExitStack,
    ) -> None:
        self.clips = clips
        self.num_new = 0
        """Pairs that were compared in the last round."""
        self._sources, self._order, self._workers = sources, order, workers
        least = clips.view.thresholds.candidate_cosine
        self._index = stack.enter_context(build_index(clips.mean_CD, least, workers))
        self._compared_P = np.zeros(0, dtype=np.int64)

    def look(
        self, active_C: NDArray[np.bool_], asking_C: NDArray[np.bool_]
    ) -> tuple[dict[Pair, Match], NDArray[np.bool_]]:
        """Return new pairs that are the same, and the clips that may have more.

        Args:
            active_C: which clips are searched.
            asking_C: those of them whose neighbours are wanted.
        """
        code_P, full_C = candidate_pairs(
            self._index, self._sources, self.clips, active_C, asking_C, self._order
        )
        # A later round, among fewer clips, finds most pairs again.
        new_P = np.setdiff1d(code_P, self._compared_P, assume_unique=True)
        self.num_new = len(new_P)
        if not self.num_new:
            return {}, full_C
        self._compared_P = np.union1d(self._compared_P, new_P)
        first_P, second_P = self._order.decoded(new_P)
        found = compare_pairs(self._sources, self.clips, first_P, second_P, self._workers)
        return found, full_C
