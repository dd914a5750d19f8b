"""What clips are compared by: the vectors of the run's encoder, and those kept beside them.

Shapes: C clips, D embedding width, P pairs of clips.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vxp_data.core.duplicate_groups import SamePairs
from vxp_data.core.duplicate_thresholds import BESIDE, PairThresholds, thresholds_of
from vxp_data.core.duplicates import MIN_COVERED, Match, clip_mean
from vxp_data.errors import UserError
from vxp_data.neighbours.row_file import RowFile
from vxp_data.pipeline.run_dir.clip_means import MeanBatch, clip_means
from vxp_data.pipeline.run_dir.directory import RunDirectory
from vxp_data.pipeline.run_dir.stored_frames import StoredFrames, stored_frames
from vxp_data.settings.curation import DuplicatesConfig, Vectors

Pair = tuple[int, int]
"""Indices of two clips in their order, the lower first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One kind of vectors, and what makes two clips the same by them."""

    vectors: Vectors
    thresholds: PairThresholds
    neighbours: int
    """Nearest clips that are looked at in one go."""


def views_of(config: DuplicatesConfig, encoder: str) -> list[View]:
    """Return what clips are compared by.

    Args:
        config: what is looked for; thresholds that it names are the run's encoder's.
        encoder: name of that.
    """
    own = thresholds_of(encoder)
    thresholds: dict[Vectors, PairThresholds] = {
        "encoder": PairThresholds(
            agreement=_given(config.threshold, own.agreement),
            candidate_cosine=_given(config.candidate_cosine, own.candidate_cosine),
            contrast=_given(config.contrast, own.contrast),
        ),
        "thumbnail": BESIDE,
    }
    # Beside itself `thumbnail` keeps nothing: its vectors are the run's.
    names = config.vectors if encoder != "thumbnail" else ("encoder",)
    return [
        View(vectors=name, thresholds=thresholds[name], neighbours=config.neighbours)
        for name in names
    ]


def _given(value: float | None, default: float) -> float:
    return default if value is None else value


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipSource:
    """Where the frames of some clips lie."""

    run: RunDirectory
    clips: pa.Table
    """Those clips, of media.parquet, in any order."""
    index_C: NDArray[np.int64]
    """Their indices in the order of all clips."""
    encoder: str
    sampler: str

    def only(self, wanted_C: NDArray[np.bool_]) -> ClipSource:
        """Return where some of its clips lie.

        Args:
            wanted_C: by index in the order of all clips.
        """
        here = np.flatnonzero(wanted_C[self.index_C])
        return replace(self, clips=self.clips.take(pa.array(here)), index_C=self.index_C[here])

    def frames(self, vectors: Vectors) -> Iterator[StoredFrames]:
        """Return the frames of those that have such vectors, with their indices in the order."""
        found = stored_frames(
            self.run,
            self.clips,
            encoder=self.encoder,
            sampler=self.sampler,
            beside=vectors == "thumbnail",
        )
        for clip in found:
            yield replace(clip, index=int(self.index_C[clip.index]))

    def means(self) -> Iterator[MeanBatch]:
        """Return the means of the encoder's vectors, with their indices in the order."""
        fingerprints = {"encoder": self.encoder, "sampler": self.sampler}
        for batch in clip_means(self.run, self.clips, **fingerprints):
            yield replace(batch, index_B=self.index_C[batch.index_B])


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Clips as one kind of vectors shows them."""

    view: View
    mean_CD: NDArray[np.float16]
    """In a file for temporary files."""
    num_frames_C: NDArray[np.int32]
    """0 for a clip without such vectors: it takes no part."""


def see_clips(
    sources: Sequence[ClipSource], view: View, num_clips: int, stack: ExitStack
) -> Seen | None:
    """Read the means of all clips.

    Args:
        sources: where their frames lie.
        view: by which vectors.
        num_clips: how many there are.
        stack: closes what is opened.

    Returns:
        None where no clip has such vectors.
    """
    num_frames_C = np.zeros(num_clips, dtype=np.int32)
    buffer: RowFile | None = None

    def rows(dim: int) -> NDArray[np.float16]:
        nonlocal buffer
        if buffer is None:
            buffer = stack.enter_context(RowFile(num_clips, dim, np.float16))
        return buffer.rows

    if view.vectors == "encoder":
        for batch in (batch for source in sources for batch in source.means()):
            rows(batch.mean_BD.shape[1])[batch.index_B] = batch.mean_BD
            num_frames_C[batch.index_B] = batch.num_frames_B
    else:  # means of these are not stored
        for clip in (clip for source in sources for clip in source.frames(view.vectors)):
            rows(clip.emb_FD.shape[1])[clip.index] = clip_mean(clip.emb_FD)
            num_frames_C[clip.index] = len(clip.emb_FD)
    if buffer is None:
        return None
    return Seen(view=view, mean_CD=buffer.rows, num_frames_C=num_frames_C)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """How two clips fit together, and by which vectors that was found."""

    match: Match
    """By the first of `by`."""
    by: tuple[Vectors, ...]
    """In the order of the views."""
    rank: int
    """Of the first of `by` among the views."""

    @property
    def preference(self) -> tuple[int, float]:
        """Order what two clips are found by, the better the greater.

        Cosines of two encoders say nothing beside one another: the earlier view comes first.
        """
        return -self.rank, self.match.agreement

    def turned(self) -> Found:
        """Return the same with the clips in the other order."""
        return replace(self, match=self.match.turned())


@dataclass(frozen=True, slots=True, kw_only=True)
class Same:
    """What a search among clips has found."""

    found: Mapping[Pair, Found]
    """The pairs of which one covers the other, and how they fit."""
    unseen_C: NDArray[np.int64]
    """Clips that a view does not show: they have no vectors of `thumbnail`."""


def unseen_clips(
    seen: Sequence[Seen],
    views: Sequence[View],
    sources: Sequence[ClipSource],
    num_clips: int,
) -> NDArray[np.int64]:
    """Return the videos that have no vectors of `thumbnail`, where these were asked for.

    Args:
        seen: what has been read.
        views: what was asked for.
        sources: of all clips that are to be compared.
        num_clips: how many there are.

    Raises:
        UserError: nothing else was asked for: they would be compared by nothing at all.
    """
    shown_C = np.zeros(num_clips, dtype=np.bool_)
    for clips in seen:
        if clips.view.vectors == "thumbnail":
            shown_C = clips.num_frames_C > 0
    names = [view.vectors for view in views]
    if "thumbnail" not in names:
        return np.zeros(0, dtype=np.int64)
    unseen = []
    for source in sources:
        unseen.append(source.index_C[~shown_C[source.index_C]])
        if len(unseen[-1]) and names == ["thumbnail"]:
            raise UserError(
                f"duplicates.vectors is [thumbnail], and {len(unseen[-1])} videos of "
                f"{source.run.root} have no vectors of `thumbnail` beside the encoder's: they were "
                "made without them. Add 'encoder' to duplicates.vectors, or prune into a new "
                "directory."
            )
    return np.unique(np.concatenate(unseen))


def merged(
    same: Mapping[Vectors, Mapping[Pair, Match]], views: Sequence[View]
) -> dict[Pair, Found]:
    """Unite the pairs that each kind of vectors has found."""
    found: dict[Pair, Found] = {}
    for rank, view in enumerate(views):
        for pair, match in same[view.vectors].items():
            earlier = found.get(pair)
            if earlier is None:
                found[pair] = Found(match=match, by=(view.vectors,), rank=rank)
            else:
                found[pair] = replace(earlier, by=(*earlier.by, view.vectors))
    return found


def same_pairs(found: Mapping[Pair, Found]) -> SamePairs:
    """Convert pairs to columns."""
    pairs = sorted(found)
    matches = [found[pair].match for pair in pairs]
    # An agreement lies in [-1, 1].
    preference_P = [found[pair].match.agreement - 3 * found[pair].rank for pair in pairs]
    return SamePairs(
        first_P=np.array([first for first, _ in pairs], dtype=np.int64),
        second_P=np.array([second for _, second in pairs], dtype=np.int64),
        preference_P=np.array(preference_P, dtype=np.float64),
        first_covers_P=np.array([m.second_covered >= MIN_COVERED for m in matches], dtype=np.bool_),
        second_covers_P=np.array([m.first_covered >= MIN_COVERED for m in matches], dtype=np.bool_),
    )
