"""Which clips show the same: candidates by their mean embeddings, each compared frame by frame.

Shapes: C clips, B a block of them, K neighbours, F frames of a clip, D embedding width.

A clip inside a longer one is not near it in the mean: it is near the mean of a part of it. So the
means of all clips are looked for, and the means of parts of them, among the means of whole clips.
Means and the frames of candidates lie in files, whatever the number of clips.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vxp_data.core.duplicate_groups import choose_representatives
from vxp_data.core.duplicates import (
    MIN_COVERED,
    ClipTimes,
    Match,
    match_clips,
    own_likeness,
    window_means,
)
from vxp_data.core.similarity import cross_cosines
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
from vxp_data.pipeline.run_dir.stored_frames import MemmapBuffer
from vxp_data.settings.curation import Vectors

_QUERIES_AT_ONCE: Final = 1 << 15
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


def find_same(sources: list[ClipSource], order: ClipOrder, views: Sequence[View]) -> Same:
    """Find the pairs of clips that show the same where they lie upon each other.

    Args:
        sources: where the frames of all clips lie.
        order: what is known of them.
        views: by which vectors, each with its rule; a pair is found where one of them finds it.

    Raises:
        UserError: parts cannot be read, the folder for temporary files is full, or a clip has
            vectors of no view.
    """
    num_clips = len(order.duration_s_C)
    same: dict[Vectors, dict[Pair, Match]] = {view.vectors: {} for view in views}
    if num_clips < 2:
        return Same(found={}, unseen_C=np.zeros(0, dtype=np.int64))
    with ExitStack() as stack:
        looked = (see_clips(sources, view, num_clips, stack) for view in views)
        seen = [clips for clips in looked if clips is not None]
        unseen_C = unseen_clips(seen, views, sources, num_clips)
        has_frames_C = np.zeros(num_clips, dtype=np.bool_)
        for clips in seen:
            has_frames_C |= clips.num_frames_C > 0
        compared_P = {clips.view.vectors: np.zeros(0, dtype=np.int64) for clips in seen}
        active_C = np.flatnonzero(has_frames_C)
        asking = set(active_C.tolist())
        while asking:
            full: set[int] = set()
            num_new = 0
            for clips in seen:
                name = clips.view.vectors
                found_P, has_more = _candidates(sources, clips, active_C, asking, order)
                full |= has_more
                # A later round, among fewer clips, finds most pairs again; each is compared once.
                new_P = np.setdiff1d(found_P, compared_P[name], assume_unique=True)
                if len(new_P):
                    num_new += len(new_P)
                    compared_P[name] = np.union1d(compared_P[name], new_P)
                    same[name] |= _compare(sources, clips, new_P, order)
            if not num_new:
                break
            representative_C = choose_representatives(
                same_pairs(merged(same, views)),
                order.duration_s_C,
                np.maximum(1, order.num_rows_C),
            )
            stays_C = (representative_C == np.arange(num_clips)) | order.is_other_C
            before = set(active_C.tolist())
            active_C = np.flatnonzero(stays_C & has_frames_C)
            # Who had more near ones than were looked at asks again among those that stay; so does
            # who was a duplicate of a clip that is one itself now.
            asking = {index for index in active_C.tolist() if index in full or index not in before}
    return Same(found=merged(same, views), unseen_C=unseen_C)


def _candidates(
    sources: list[ClipSource],
    clips: Seen,
    active_C: NDArray[np.int64],
    asking: set[int],
    order: ClipOrder,
) -> tuple[NDArray[np.int64], set[int]]:
    """Find the pairs whose means are near (`ClipOrder.coded`), and the clips that may have more.

    Args:
        sources: for the means of parts.
        clips: their means, how near they must be, and how many neighbours one may have.
        active_C: ascending indices of the clips that are searched, where they have such vectors.
        asking: those of them whose neighbours are wanted.
        order: which pairs are wanted.
    """
    view, mean_CD = clips.view, clips.mean_CD
    least = view.thresholds.candidate_cosine
    active_C = active_C[clips.num_frames_C[active_C] > 0]
    asking = asking.intersection(active_C.tolist())
    # Taking rows copies them out of the file into memory: not done where all stay.
    index = build_index(mean_CD[active_C] if len(active_C) < len(mean_CD) else mean_CD)
    found_P = np.zeros(0, dtype=np.int64)
    blocks: list[NDArray[np.int64]] = []
    full: set[int] = set()
    for index_B, query_BD in _queries(sources, clips, asking):
        wanted = min(view.neighbours + 1, len(active_C))  # the clip itself is one of them
        cosine_BK, row_BK = index.search(query_BD, wanted, least)
        near_BK = (cosine_BK >= least) & (row_BK >= 0)
        if wanted < len(active_C):
            # Where even the last neighbour is near, there may be more that were not asked for.
            full.update(index_B[near_BK[:, -1]].tolist())
        query, rank = np.nonzero(near_BK)
        blocks.append(order.coded(index_B[query], active_C[row_BK[query, rank]]))
        # Merged when as much has come as there was: a pair is then sorted a few times, not with
        # every block.
        if sum(map(len, blocks)) > max(_PAIRS_AT_ONCE, len(found_P)):
            found_P, blocks = np.unique(np.concatenate([found_P, *blocks])), []
    return np.unique(np.concatenate([found_P, *blocks])), full


def _queries(
    sources: list[ClipSource], clips: Seen, asking: set[int]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Return the clips' means, then those of their parts, in blocks: (whose, vectors)."""
    mean_CD = clips.mean_CD
    asking_C = np.array(sorted(asking), dtype=np.int64)
    for start in range(0, len(asking_C), _QUERIES_AT_ONCE):
        index_B = asking_C[start : start + _QUERIES_AT_ONCE]
        yield index_B, mean_CD[index_B].astype(np.float32)
    indices: list[int] = []
    vectors: list[NDArray[np.float32]] = []
    for source in sources:
        for clip in source.frames(clips.view.vectors):
            if clip.index not in asking:
                continue
            part_WD = window_means(clip.emb_FD)
            part_WD = part_WD[part_WD @ mean_CD[clip.index].astype(np.float32) < _PART_IS_WHOLE]
            vectors.append(part_WD)
            indices += [clip.index] * len(part_WD)
            if len(indices) >= _QUERIES_AT_ONCE:
                yield np.array(indices), np.concatenate(vectors)
                indices, vectors = [], []
    if indices:
        yield np.array(indices), np.concatenate(vectors)


def _compare(
    sources: list[ClipSource], clips: Seen, code_P: NDArray[np.int64], order: ClipOrder
) -> dict[Pair, Match]:
    """Compare pairs frame by frame; return those that are the same, and one covers the other."""
    # Parts of a run are read from front to back, and pairs need frames in any order. So the frames
    # of all candidates are copied into one file first.
    first_P, second_P = order.decoded(code_P)
    wanted = np.union1d(first_P, second_P).tolist()
    first_row_W = np.concatenate([[0], np.cumsum(clips.num_frames_C[wanted])]).astype(np.int64)
    index_in = {index: number for number, index in enumerate(wanted)}
    times: dict[int, ClipTimes] = {}
    least = clips.view.thresholds
    same: dict[Pair, Match] = {}
    with ExitStack() as stack:
        buffer: MemmapBuffer | None = None
        for source in sources:
            for clip in source.frames(clips.view.vectors):
                number = index_in.get(clip.index)
                if number is None:
                    continue
                if buffer is None:
                    dim = clip.emb_FD.shape[1]
                    buffer = stack.enter_context(MemmapBuffer(int(first_row_W[-1]), dim))
                buffer.rows[first_row_W[number] : first_row_W[number + 1]] = clip.emb_FD
                times[clip.index] = clip.times
        assert buffer is not None  # every candidate has frames

        def frames(index: int) -> NDArray[np.float16]:
            number = index_in[index]
            return buffer.rows[first_row_W[number] : first_row_W[number + 1]]

        for first, second in _in_blocks(first_P, second_P):
            cosine_FG = cross_cosines(frames(first), frames(second))
            match = match_clips(cosine_FG, times[first], times[second])
            covered = max(match.first_covered, match.second_covered)
            if covered < MIN_COVERED or match.agreement < least.agreement:
                continue
            own = own_likeness(match, frames(first), frames(second), times[first], times[second])
            if match.is_same(own=own, threshold=least.agreement, contrast=least.contrast):
                same[first, second] = match
    return same


def _in_blocks(first_P: NDArray[np.int64], second_P: NDArray[np.int64]) -> Iterator[Pair]:
    """Return pairs one by one, as Python integers, of which only a block's are there at a time."""
    for start in range(0, len(first_P), _PAIRS_AT_ONCE):
        block = slice(start, start + _PAIRS_AT_ONCE)
        yield from zip(first_P[block].tolist(), second_P[block].tolist(), strict=True)
