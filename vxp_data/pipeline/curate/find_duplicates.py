"""Near-duplicates of a run, and what of it is in evaluation sets: duplicates.parquet.

Same content (digest) -> same frames (`near_pairs`) -> groups (`core.duplicate_groups`). Touches no
video, starts no workers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vxp_data.core.duplicate_groups import ClipRank, choose_representatives, representative_order
from vxp_data.core.duplicates import MIN_COVERED, Match
from vxp_data.pipeline.curate.decontaminate import Decontamination, OtherRun
from vxp_data.pipeline.curate.near_pairs import (
    ClipOrder,
    ClipSource,
    PairRule,
    find_same,
    same_pairs,
)
from vxp_data.pipeline.run_dir.directory import RunDirectory
from vxp_data.pipeline.run_dir.stored_frames import clip_seconds
from vxp_data.records import Reason
from vxp_data.schemas import CLIP_KEY, DUPLICATE_SCHEMA
from vxp_data.settings.prune import DuplicatesConfig

CLIP_COLUMNS: Final = (
    "uri", "clip_start_s", "clip_end_s", "media_id", "width_px", "height_px", "duration_s",
    "file_version",
)  # fmt: skip
"""What must be known of a clip, of media.parquet."""

Facts = Sequence[Mapping[str, Any]]
"""CLIP_COLUMNS of clips."""

_WHOLE: Final = (0.0, math.inf)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunClips:
    """The clips of a run, and the samples about them."""

    run: RunDirectory
    media: pa.Table
    """CLIP_COLUMNS, one row a clip."""
    own_C: NDArray[np.float64]
    """mean_pairwise of each clip; NaN where it failed."""
    is_video_C: NDArray[np.bool_]
    encoder: str
    sampler: str

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
    """N samples that may be duplicates; the others have index -1."""

    sample_id: NDArray[np.object_]
    task: NDArray[np.object_]
    index_N: NDArray[np.int64]
    """Of the sample's clip in RunClips.media."""


def find_duplicates(
    clips: RunClips,
    samples: SampleClips,
    config: DuplicatesConfig,
    decontamination: Decontamination,
) -> pa.Table:
    """Find what is a duplicate, of what, and what is done about it.

    Args:
        clips: of the run.
        samples: rows that were neither quarantined nor filtered.
        config: what is looked for.
        decontamination: what must not be in the run; see `decontamination.read_decontamination`.

    Returns:
        DUPLICATE_SCHEMA, ordered by task, clip and sample. Which rows come in which order does not
        change it.

    Raises:
        UserError: embeddings cannot be read, or the folder for temporary files is full.
    """
    facts = clips.media.to_pylist()
    rows = _listed(facts, samples, decontamination)
    gone_N = np.isin(samples.sample_id, [row["sample_id"] for row in rows])
    index_N = np.where(gone_N, -1, samples.index_N)
    leaked: dict[int, dict[str, Any]] = {}
    for other in decontamination.runs:
        indices = sorted(set(index_N[index_N >= 0].tolist()) - set(leaked))
        leaked |= _leaked(clips, facts, indices, other, config)
    rows += leaked.values()
    index_N = np.where(np.isin(index_N, list(leaked)), -1, index_N)
    if config.mode != "off":
        rows += _doubled(clips, facts, index_N, samples.task, config)
    key = ("task", "uri", "clip_start_s", "clip_end_s", "sample_id")
    rows.sort(key=lambda row: tuple(row[name] for name in key))
    return pa.Table.from_pylist(rows, DUPLICATE_SCHEMA)


def _listed(
    facts: Facts, samples: SampleClips, decontamination: Decontamination
) -> list[dict[str, Any]]:
    """Return the samples that a list of ids names."""
    rows = []
    for sample in np.flatnonzero(samples.index_N >= 0).tolist() if decontamination.ids else ():
        fact, sample_id = facts[samples.index_N[sample]], str(samples.sample_id[sample])
        found = decontamination.listed(sample_id, fact["uri"], fact["media_id"])
        if found is not None:
            source, name = found
            row = _row(fact, None, Reason.IN_EVALUATION, "drop", source=source)
            rows.append(row | {"sample_id": sample_id, "representative_uri": name})
    return rows


def _leaked(
    clips: RunClips, facts: Facts, indices: list[int], other: OtherRun, config: DuplicatesConfig
) -> dict[int, dict[str, Any]]:
    """Return those clips that another run has too, by content or by frames."""
    theirs = other.media.to_pylist()
    known = {fact["media_id"]: fact for fact in reversed(theirs)}
    rows: dict[int, dict[str, Any]] = {}
    for index in indices:
        if (duplicate := known.get(facts[index]["media_id"])) is not None:
            reason = Reason.IN_EVALUATION
            rows[index] = _row(facts[index], duplicate, reason, "drop", source=other.source)
    left = [index for index in indices if index not in rows and clips.is_video_C[index]]
    num_theirs, num_all = len(theirs), len(theirs) + len(left)
    compared = [*theirs, *(facts[index] for index in left)]
    sources = [
        ClipSource(
            run=other.run,
            clips=other.media,
            index_C=np.arange(num_theirs),
            encoder=clips.encoder,
            sampler=other.sampler,
        ),
        clips.source(left, np.arange(num_theirs, num_all)),
    ]
    own_C = np.concatenate([other.scores["mean_pairwise"].to_numpy(), clips.own_C[left]])
    order = ClipOrder(
        own_C=own_C,
        duration_s_C=np.array([_seconds(fact) for fact in compared]),
        num_rows_C=np.ones(num_all, dtype=np.int64),
        is_other_C=np.arange(num_all) < num_theirs,
        file_C=np.arange(num_all),
        others_only=True,
    )
    best: dict[int, float] = {}
    for (duplicate_at, at), match in sorted(find_same(sources, order, _rule(config)).items()):
        index = left[at - num_theirs]
        if match.agreement > best.get(index, -2.0):
            best[index] = match.agreement
            rows[index] = _row(
                facts[index],
                theirs[duplicate_at],
                Reason.IN_EVALUATION,
                "drop",
                source=other.source,
                match=match,
            )
    return rows


def _doubled(
    clips: RunClips,
    facts: Facts,
    index_N: NDArray[np.int64],
    task_N: NDArray[np.object_],
    config: DuplicatesConfig,
) -> list[dict[str, Any]]:
    """Return the duplicates among the clips of some samples, in each subset or in all together."""
    contents = _contents(facts, index_N)
    shown = [index for index, *_ in contents if clips.is_video_C[index]]
    content_of = {index: number for number, members in enumerate(contents) for index in members}
    files = {fact: number for number, fact in enumerate(sorted({f["media_id"] for f in facts}))}
    first = [facts[members[0]] for members in contents]
    total_M = np.bincount(index_N[index_N >= 0], minlength=len(facts))
    order = ClipOrder(
        own_C=clips.own_C[[members[0] for members in contents]],
        duration_s_C=np.array([_seconds(fact) for fact in first]),
        num_rows_C=np.array([total_M[members].sum() for members in contents], dtype=np.int64),
        is_other_C=np.zeros(len(contents), dtype=np.bool_),
        file_C=np.array([files[fact["media_id"]] for fact in first], dtype=np.int64),
        others_only=False,
    )
    source = clips.source(shown, np.array([content_of[index] for index in shown], dtype=np.int64))
    same = find_same([source], order, _rule(config))
    pairs, rows = same_pairs(same), []
    by_subset = config.scope == "subset"
    for task in sorted(set(task_N[index_N >= 0].tolist())) if by_subset else [""]:
        mine_N = index_N if not by_subset else np.where(task_N == task, index_N, -1)
        num_rows_M = np.bincount(mine_N[mine_N >= 0], minlength=len(facts))
        num_rows_C = np.array([num_rows_M[members].sum() for members in contents], dtype=np.int64)
        representative_C = choose_representatives(pairs, order.duration_s_C, num_rows_C)
        shown_by = [_representative(facts, members, num_rows_M) for members in contents]
        for content, representative in enumerate(representative_C.tolist()):
            if representative < 0:
                continue
            match = None
            if content != representative:
                match = same[min(content, representative), max(content, representative)]
                match = match.turned() if content < representative else match
            for index in contents[content]:
                if num_rows_M[index] and index != shown_by[representative]:
                    row = _double_row(
                        facts[index], facts[shown_by[representative]], match, config.mode
                    )
                    rows.append(row | {"task": task})
    return rows


def _contents(facts: Facts, index_N: NDArray[np.int64]) -> list[list[int]]:
    """Group the clips of some samples by content, in their order of preference."""
    num_rows_M = np.bincount(index_N[index_N >= 0], minlength=len(facts))
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
                duration_s=_seconds(facts[group[0]]),
                num_rows=int(num_rows_M[group].sum()),
                media_id=facts[group[0]]["media_id"],
                clip_start_s=facts[group[0]]["clip_start_s"],
                clip_end_s=facts[group[0]]["clip_end_s"],
            )
            for group in groups
        ]
    )
    return [groups[index] for index in order]


def _representative(facts: Facts, members: list[int], num_rows_M: NDArray[np.int64]) -> int:
    """Return the clip that stands for a content: the one with most rows; else the first by name."""
    return min(members, key=lambda index: (-num_rows_M[index], facts[index]["uri"]))


def _double_row(
    fact: Mapping[str, Any], representative: Mapping[str, Any], match: Match | None, mode: str
) -> dict[str, Any]:
    """Return the row that says of a clip that it is a duplicate, and what is done about it.

    Rows can be linked to another file where they are about all of both, or where it holds the very
    same; a part of a longer video has other rows.
    """
    reason, action = Reason.SAME_CONTENT, mode
    if match is not None:
        is_whole = match.first_covered >= MIN_COVERED
        reason = Reason.NEAR_DUPLICATE if is_whole else Reason.CONTAINED
        is_file = all(
            (f["clip_start_s"], f["clip_end_s"]) == _WHOLE for f in (fact, representative)
        )
        if mode == "relink" and not (is_whole and is_file):
            action = "report"
    return _row(fact, representative, reason, action, match=match)


def _row(
    fact: Mapping[str, Any],
    representative: Mapping[str, Any] | None,
    reason: Reason,
    action: str,
    *,
    source: str = "",
    match: Match | None = None,
) -> dict[str, Any]:
    of_representative = representative or {"uri": "", "media_id": ""} | dict(
        zip(CLIP_KEY[1:], _WHOLE, strict=True)
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
    }


def _seconds(fact: Mapping[str, Any]) -> float:
    return clip_seconds(fact["clip_start_s"], fact["clip_end_s"], fact["duration_s"])


def _rule(config: DuplicatesConfig) -> PairRule:
    return PairRule(
        threshold=config.threshold,
        candidate_cosine=config.candidate_cosine,
        neighbours=config.neighbours,
    )
