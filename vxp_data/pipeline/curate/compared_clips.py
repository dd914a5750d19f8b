"""Which clips of a run show the same, and the rows that say so: what looking for duplicates shares.

Shapes: N samples, M clips of media.parquet, U of them once a sample and medium, C contents.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vxp_data.core.duplicate_groups import ClipRank, SamePairs, representative_order
from vxp_data.pipeline.curate.clip_views import ClipSource, Found, View, same_pairs
from vxp_data.pipeline.curate.near_candidates import ClipOrder
from vxp_data.pipeline.curate.near_pairs import find_same
from vxp_data.pipeline.run_dir.directory import RunDirectory
from vxp_data.pipeline.run_dir.stored_frames import clip_seconds
from vxp_data.records import Reason
from vxp_data.schemas import CLIP_KEY
from vxp_data.settings.cluster import ClusterConfig
from vxp_data.settings.curation import DuplicatesConfig

CLIP_COLUMNS: Final = (
    "uri", "clip_start_s", "clip_end_s", "media_id", "width_px", "height_px", "duration_s",
    "file_version",
)  # fmt: skip
"""What must be known of a clip, of media.parquet."""

Facts = Sequence[Mapping[str, Any]]
"""CLIP_COLUMNS of clips."""

WHOLE_FILE: Final = (0.0, math.inf)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunClips:
    """The clips of a run, and the samples about them."""

    run: RunDirectory
    media: pa.Table
    """CLIP_COLUMNS, one row a clip."""
    is_video_C: NDArray[np.bool_]
    encoder: str
    sampler: str
    views: Sequence[View]
    """What they are compared by."""
    cluster: ClusterConfig
    """Where many are compared."""

    def source(self, indices: Sequence[int], order_C: NDArray[np.int64]) -> ClipSource:
        """Return where the frames of some clips lie, and their indices in the order of all."""
        return ClipSource(
            run=self.run,
            clips=self.media.take(pa.array(indices, pa.int64())),
            index_C=order_C,
            encoder=self.encoder,
            sampler=self.sampler,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleClips:
    """N samples, and which of them may be duplicates."""

    sample_id: NDArray[np.object_]
    task: NDArray[np.object_]
    index_N: NDArray[np.int64]
    """Of the sample's clip in RunClips.media; -1 for samples that take no part, and for those with
    several media."""
    several: Mapping[int, tuple[int, ...]]
    """Samples with several media that may be duplicates: their clips, in order."""

    def without(self, gone: Collection[int]) -> SampleClips:
        """Return the same, without some samples."""
        index_N = self.index_N.copy()
        index_N[list(gone)] = -1
        several = {sample: own for sample, own in self.several.items() if sample not in gone}
        return replace(self, index_N=index_N, several=several)

    def clips(self) -> NDArray[np.int64]:
        """Return the clip of every sample that takes part, once a sample and medium."""
        of_several = [index for own in self.several.values() for index in own]
        return np.concatenate(
            [self.index_N[self.index_N >= 0], np.array(of_several, dtype=np.int64)]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """Which of the clips show the same. Contents are numbered in their order of preference."""

    contents: list[list[int]]
    """The clips of each content."""
    content_of: dict[int, int]
    same: Mapping[tuple[int, int], Found]
    """By two contents, the lower first."""
    pairs: SamePairs
    duration_s_C: NDArray[np.float64]
    unseen: frozenset[int]
    """Clips that some of the vectors do not show."""

    def match(self, content: int, representative: int) -> Found | None:
        """Return how a content fits what stands for it; None where they are the same bytes."""
        if content == representative:
            return None
        found = self.same[min(content, representative), max(content, representative)]
        return found.turned() if content < representative else found

    def rows_of(self, num_rows_M: NDArray[np.int64]) -> NDArray[np.int64]:
        """Count the rows about each content, [C], from those about each clip, [M]."""
        return np.array([num_rows_M[members].sum() for members in self.contents], dtype=np.int64)


def compare_clips(clips: RunClips, facts: Facts, samples: SampleClips) -> Compared:
    """Find which of the clips of some samples show the same.

    Raises:
        UserError: embeddings cannot be read, or the folder for temporary files is full.
    """
    index_U = samples.clips()
    contents = _contents(facts, index_U)
    shown = [index for index, *_ in contents if clips.is_video_C[index]]
    content_of = {index: number for number, members in enumerate(contents) for index in members}
    files = {fact: number for number, fact in enumerate(sorted({f["media_id"] for f in facts}))}
    first = [facts[members[0]] for members in contents]
    total_M = np.bincount(index_U, minlength=len(facts))
    order = ClipOrder(
        duration_s_C=np.array([clip_duration(fact) for fact in first]),
        num_rows_C=np.array([total_M[members].sum() for members in contents], dtype=np.int64),
        is_other_C=np.zeros(len(contents), dtype=np.bool_),
        file_C=np.array([files[fact["media_id"]] for fact in first], dtype=np.int64),
        others_only=False,
    )
    source = clips.source(shown, np.array([content_of[index] for index in shown], dtype=np.int64))
    same = find_same([source], order, clips.views, clips.cluster)
    return Compared(
        contents=contents,
        content_of=content_of,
        same=same.found,
        pairs=same_pairs(same.found),
        duration_s_C=order.duration_s_C,
        unseen=frozenset(contents[content][0] for content in same.unseen_C.tolist()),
    )


def subsets(
    task_N: NDArray[np.object_], takes_part_N: NDArray[np.bool_], config: DuplicatesConfig
) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Return the samples among which duplicates are looked for: each subset's, or all under ''."""
    if config.scope != "subset":
        yield "", takes_part_N
        return
    for task in sorted(set(task_N[takes_part_N].tolist())):
        yield task, takes_part_N & (task_N == task)


def _contents(facts: Facts, index_U: NDArray[np.int64]) -> list[list[int]]:
    """Group the clips of some samples by content, in their order of preference."""
    num_rows_M = np.bincount(index_U, minlength=len(facts))
    members: dict[tuple[str, float, float], list[int]] = {}
    for index in np.flatnonzero(num_rows_M).tolist():
        fact = facts[index]
        key = (fact["media_id"], fact["clip_start_s"], fact["clip_end_s"])
        members.setdefault(key, []).append(index)
    groups = [sorted(group, key=lambda index: facts[index]["uri"]) for group in members.values()]
    order = representative_order(
        [
            ClipRank(
                num_pixels=facts[group[0]]["width_px"] * facts[group[0]]["height_px"],
                duration_s=clip_duration(facts[group[0]]),
                num_rows=int(num_rows_M[group].sum()),
                media_id=facts[group[0]]["media_id"],
                clip_start_s=facts[group[0]]["clip_start_s"],
                clip_end_s=facts[group[0]]["clip_end_s"],
            )
            for group in groups
        ]
    )
    return [groups[index] for index in order]


def duplicate_row(
    fact: Mapping[str, Any],
    representative: Mapping[str, Any] | None,
    reason: Reason,
    action: str,
    *,
    source: str = "",
    found: Found | None = None,
) -> dict[str, Any]:
    """Build a row of DUPLICATE_SCHEMA: about a clip, in all subsets, until more is said."""
    match = None if found is None else found.match
    of_representative = representative or {"uri": "", "media_id": ""} | dict(
        zip(CLIP_KEY[1:], WHOLE_FILE, strict=True)
    )
    return {
        "task": "",
        "sample_id": "",
        **{name: fact[name] for name in CLIP_KEY},
        "media_id": fact["media_id"],
        "reason": reason.value,
        "action": action,
        "source": source,
        **{f"representative_{name}": of_representative[name] for name in (*CLIP_KEY, "media_id")},
        "agreement": 1.0 if match is None else match.agreement,
        "offset_s": 0.0 if match is None else match.offset_s,
        "num_matched": 0 if match is None else match.num_matched,
        "found_by": "" if found is None else "+".join(found.by),
    }


def clip_duration(fact: Mapping[str, Any]) -> float:
    """Return how long a clip is, seconds."""
    return clip_seconds(fact["clip_start_s"], fact["clip_end_s"], fact["duration_s"])
