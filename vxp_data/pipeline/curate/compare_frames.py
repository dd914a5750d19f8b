"""Pairs of clips compared frame by frame, in tasks; their frames lie in a file meanwhile.

Shapes: W clips that are compared, U of them in a task, P pairs, F frames of the longest, D width.

Parts of a run are read from front to back, and pairs need frames in any order: so those of all
clips that are compared are copied into one file first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vxp_data.core.duplicate_thresholds import PairThresholds
from vxp_data.core.duplicates import MIN_COVERED, ClipTimes, Match, match_clips, own_likeness
from vxp_data.core.similarity import cross_cosines
from vxp_data.neighbours.base import Workers
from vxp_data.neighbours.row_file import RowFile, Rows
from vxp_data.pipeline.curate.clip_views import ClipSource, Pair, Seen

TASK_PAIRS: Final = 1 << 11


@dataclass(frozen=True, slots=True, kw_only=True)
class _ClipFrames:
    """The frames of W clips."""

    emb_WX: NDArray[np.float16]
    """F * D numbers of each, those of fewer frames filled up with zeros."""
    time_s_WF: NDArray[np.float64]
    num_frames_W: NDArray[np.int32]
    duration_s_W: NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class _PairsTask:
    """Pairs of U clips."""

    emb: Rows
    time_s: Rows
    num_frames_U: NDArray[np.int32]
    duration_s_U: NDArray[np.float64]
    first_P: NDArray[np.int64]
    """Positions among the U."""
    second_P: NDArray[np.int64]
    thresholds: PairThresholds

    def clip(self, position: int) -> tuple[NDArray[np.float16], ClipTimes]:
        """Return the frames of a clip."""
        here = slice(position, position + 1)
        num_frames = int(self.num_frames_U[position])
        time_s_F = self.time_s.read(here)[0]
        emb_FD = self.emb.read(here).reshape(len(time_s_F), -1)[:num_frames]
        duration_s = float(self.duration_s_U[position])
        return emb_FD, ClipTimes(time_s_F=time_s_F[:num_frames], duration_s=duration_s)


def compare_pairs(
    sources: Sequence[ClipSource],
    clips: Seen,
    first_P: NDArray[np.int64],
    second_P: NDArray[np.int64],
    workers: Workers,
) -> dict[Pair, Match]:
    """Return those pairs that are the same, and one covers the other.

    Args:
        sources: where the frames lie.
        clips: what is known of them; by which vectors they are compared.
        first_P: indices of the clips of each pair, which all have such vectors.
        second_P: likewise.
        workers: what compares.

    Raises:
        UserError: frames cannot be read, or the folder for temporary files is full.
    """
    wanted_W = np.union1d(first_P, second_P)
    same: dict[Pair, Match] = {}
    with ExitStack() as stack:
        frames = _copied_frames(sources, clips, wanted_W, stack)
        place_P = np.searchsorted(wanted_W, first_P), np.searchsorted(wanted_W, second_P)
        tasks = list(_tasks(frames, *place_P, clips.view.thresholds, workers.share_files))
        for index, matches in workers.run_tasks(_matches, tasks):
            for position, match in matches:
                pair = index * TASK_PAIRS + position
                same[int(first_P[pair]), int(second_P[pair])] = match
    return same


def _copied_frames(
    sources: Sequence[ClipSource], clips: Seen, wanted_W: NDArray[np.int64], stack: ExitStack
) -> _ClipFrames:
    num_clips, most_frames = len(wanted_W), int(clips.num_frames_C[wanted_W].max())
    is_wanted_C = np.zeros(len(clips.num_frames_C), dtype=np.bool_)
    is_wanted_C[wanted_W] = True
    duration_s_W = np.zeros(num_clips)
    time_s_WF = stack.enter_context(RowFile(num_clips, most_frames, np.float64)).rows
    emb_WX: NDArray[np.float16] | None = None
    for source in sources:
        for clip in source.only(is_wanted_C).frames(clips.view.vectors):
            place = int(np.searchsorted(wanted_W, clip.index))
            if emb_WX is None:
                dim = most_frames * clip.emb_FD.shape[1]
                emb_WX = stack.enter_context(RowFile(num_clips, dim, np.float16)).rows
            emb_WX[place, : clip.emb_FD.size] = clip.emb_FD.ravel()
            time_s_WF[place, : len(clip.emb_FD)] = clip.times.time_s_F
            duration_s_W[place] = clip.times.duration_s
    assert emb_WX is not None  # every candidate has frames
    return _ClipFrames(
        emb_WX=emb_WX,
        time_s_WF=time_s_WF,
        num_frames_W=clips.num_frames_C[wanted_W],
        duration_s_W=duration_s_W,
    )


def _tasks(
    frames: _ClipFrames,
    first_P: NDArray[np.int64],
    second_P: NDArray[np.int64],
    thresholds: PairThresholds,
    share_files: bool,
) -> Iterator[_PairsTask]:
    for start in range(0, len(first_P), TASK_PAIRS):
        block = slice(start, start + TASK_PAIRS)
        place_U, own_P = np.unique(
            np.concatenate([first_P[block], second_P[block]]), return_inverse=True
        )
        yield _PairsTask(
            emb=Rows(frames.emb_WX, place_U, share_files=share_files),
            time_s=Rows(frames.time_s_WF, place_U, share_files=share_files),
            num_frames_U=frames.num_frames_W[place_U],
            duration_s_U=frames.duration_s_W[place_U],
            first_P=own_P[: len(own_P) // 2],
            second_P=own_P[len(own_P) // 2 :],
            thresholds=thresholds,
        )


def _matches(task: _PairsTask) -> list[tuple[int, Match]]:
    """Return the pairs of a task that are the same, by their positions in it."""
    least = task.thresholds
    same = []
    for position, pair in enumerate(
        zip(task.first_P.tolist(), task.second_P.tolist(), strict=True)
    ):
        (first_FD, first), (second_GD, second) = map(task.clip, pair)
        match = match_clips(cross_cosines(first_FD, second_GD), first, second)
        covered = max(match.first_covered, match.second_covered)
        if covered < MIN_COVERED or match.agreement < least.agreement:
            continue
        own = own_likeness(match, first_FD, second_GD, first, second)
        if match.is_same(own=own, threshold=least.agreement, contrast=least.contrast):
            same.append((position, match))
    return same
