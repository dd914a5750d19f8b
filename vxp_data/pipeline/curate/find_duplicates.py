"""Near-duplicates of a run, and what of it is in evaluation sets: duplicates.parquet.

Same content (digest) -> same frames (`near_pairs`) -> groups (`core.duplicate_groups`). Touches no
video, starts no Ray.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vxp_data.core.duplicate_groups import ClipFacts, choose_keepers, keeper_order
from vxp_data.core.duplicates import MIN_COVERED, Match
from vxp_data.pipeline.curate.decontaminate import Evaluation, OtherRun
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
from vxp_data.schemas import DUPLICATE_SCHEMA
from vxp_data.settings.prune import DuplicatesConfig

CLIP_COLUMNS: Final = (
    "uri", "clip_start_s", "clip_end_s", "media_id", "width_px", "height_px", "duration_s",
    "file_stamp",
)  # fmt: skip
"""What must be known of a clip, of media.parquet."""

Facts = Sequence[Mapping[str, Any]]
"""CLIP_COLUMNS of clips."""

_KEY: Final = ("uri", "clip_start_s", "clip_end_s")
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

    def source(self, places: Sequence[int], order_C: NDArray[np.int64]) -> ClipSource:
        """Say where the frames of some clips lie, and their places in the order of all."""
        return ClipSource(
            run=self.run,
            clips=self.media.take(pa.array(places, pa.int64())),
            place_C=order_C,
            encoder=self.encoder,
            sampler=self.sampler,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleClips:
    """N samples that may be duplicates; the others have place -1."""

    sample_id: NDArray[np.object_]
    task: NDArray[np.object_]
    place_N: NDArray[np.int64]
    """Of the sample's clip in RunClips.media."""


def find_duplicates(
    clips: RunClips, samples: SampleClips, config: DuplicatesConfig, evaluation: Evaluation
) -> pa.Table:
    """Find what is a duplicate, of what, and what is done about it.

    Args:
        clips: of the run.
        samples: rows that were neither quarantined nor filtered.
        config: what is looked for.
        evaluation: what must not be in the run; see `evaluation.read_evaluation`.

    Returns:
        DUPLICATE_SCHEMA, ordered by task, clip and sample. Which rows come in which order does not
        change it.

    Raises:
        UserError: embeddings cannot be read, or the folder for temporary files is full.
    """
    facts = clips.media.to_pylist()
    rows = _listed(facts, samples, evaluation)
    gone_N = np.isin(samples.sample_id, [row["sample_id"] for row in rows])
    place_N = np.where(gone_N, -1, samples.place_N)
    leaked: dict[int, dict[str, Any]] = {}
    for other in evaluation.runs:
        places = sorted(set(place_N[place_N >= 0].tolist()) - set(leaked))
        leaked |= _leaked(clips, facts, places, other, config)
    rows += leaked.values()
    place_N = np.where(np.isin(place_N, list(leaked)), -1, place_N)
    if config.mode != "off":
        rows += _doubled(clips, facts, place_N, samples.task, config)
    key = ("task", "uri", "clip_start_s", "clip_end_s", "sample_id")
    rows.sort(key=lambda row: tuple(row[name] for name in key))
    return pa.Table.from_pylist(rows, DUPLICATE_SCHEMA)


def _listed(facts: Facts, samples: SampleClips, evaluation: Evaluation) -> list[dict[str, Any]]:
    """Give the samples that a list of ids names."""
    rows = []
    for sample in np.flatnonzero(samples.place_N >= 0).tolist() if evaluation.ids else ():
        fact, sample_id = facts[samples.place_N[sample]], str(samples.sample_id[sample])
        found = evaluation.listed(sample_id, fact["uri"], fact["media_id"])
        if found is not None:
            source, name = found
            row = _row(fact, None, Reason.IN_EVALUATION, "drop", source=source)
            rows.append(row | {"sample_id": sample_id, "keeper_uri": name})
    return rows


def _leaked(
    clips: RunClips, facts: Facts, places: list[int], other: OtherRun, config: DuplicatesConfig
) -> dict[int, dict[str, Any]]:
    """Give those clips that another run has too, by content or by frames."""
    theirs = other.media.to_pylist()
    known = {fact["media_id"]: fact for fact in reversed(theirs)}
    rows: dict[int, dict[str, Any]] = {}
    for place in places:
        if (twin := known.get(facts[place]["media_id"])) is not None:
            reason = Reason.IN_EVALUATION
            rows[place] = _row(facts[place], twin, reason, "drop", source=other.source)
    left = [place for place in places if place not in rows and clips.is_video_C[place]]
    num_theirs, num_all = len(theirs), len(theirs) + len(left)
    compared = [*theirs, *(facts[place] for place in left)]
    sources = [
        ClipSource(
            run=other.run,
            clips=other.media,
            place_C=np.arange(num_theirs),
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
    for (twin_at, at), match in sorted(find_same(sources, order, _rule(config)).items()):
        place = left[at - num_theirs]
        if match.agreement > best.get(place, -2.0):
            best[place] = match.agreement
            rows[place] = _row(
                facts[place],
                theirs[twin_at],
                Reason.IN_EVALUATION,
                "drop",
                source=other.source,
                match=match,
            )
    return rows


def _doubled(
    clips: RunClips,
    facts: Facts,
    place_N: NDArray[np.int64],
    task_N: NDArray[np.object_],
    config: DuplicatesConfig,
) -> list[dict[str, Any]]:
    """Give the duplicates among the clips of some samples, in each subset or in all together."""
    contents = _contents(facts, place_N)
    shown = [place for place, *_ in contents if clips.is_video_C[place]]
    content_of = {place: number for number, members in enumerate(contents) for place in members}
    files = {fact: number for number, fact in enumerate(sorted({f["media_id"] for f in facts}))}
    first = [facts[members[0]] for members in contents]
    total_M = np.bincount(place_N[place_N >= 0], minlength=len(facts))
    order = ClipOrder(
        own_C=clips.own_C[[members[0] for members in contents]],
        duration_s_C=np.array([_seconds(fact) for fact in first]),
        num_rows_C=np.array([total_M[members].sum() for members in contents], dtype=np.int64),
        is_other_C=np.zeros(len(contents), dtype=np.bool_),
        file_C=np.array([files[fact["media_id"]] for fact in first], dtype=np.int64),
        others_only=False,
    )
    source = clips.source(shown, np.array([content_of[place] for place in shown], dtype=np.int64))
    same = find_same([source], order, _rule(config))
    pairs, rows = same_pairs(same), []
    by_subset = config.scope == "subset"
    for task in sorted(set(task_N[place_N >= 0].tolist())) if by_subset else [""]:
        mine_N = place_N if not by_subset else np.where(task_N == task, place_N, -1)
        num_rows_M = np.bincount(mine_N[mine_N >= 0], minlength=len(facts))
        num_rows_C = np.array([num_rows_M[members].sum() for members in contents], dtype=np.int64)
        keeper_C = choose_keepers(pairs, order.duration_s_C, num_rows_C)
        shown_by = [_representative(facts, members, num_rows_M) for members in contents]
        for content, keeper in enumerate(keeper_C.tolist()):
            if keeper < 0:
                continue
            match = None
            if content != keeper:
                match = same[min(content, keeper), max(content, keeper)]
                match = match.turned() if content < keeper else match
            for place in contents[content]:
                if num_rows_M[place] and place != shown_by[keeper]:
                    row = _double_row(facts[place], facts[shown_by[keeper]], match, config.mode)
                    rows.append(row | {"task": task})
    return rows


def _contents(facts: Facts, place_N: NDArray[np.int64]) -> list[list[int]]:
    """Group the clips of some samples by content, in their order of preference."""
    num_rows_M = np.bincount(place_N[place_N >= 0], minlength=len(facts))
    members: dict[tuple[str, float, float], list[int]] = {}
    for place in np.flatnonzero(num_rows_M).tolist():
        fact = facts[place]
        key = (fact["media_id"], fact["clip_start_s"], fact["clip_end_s"])
        members.setdefault(key, []).append(place)
    groups = [sorted(group, key=lambda place: facts[place]["uri"]) for group in members.values()]
    order = keeper_order(
        [
            ClipFacts(
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
    return [groups[place] for place in order]


def _representative(facts: Facts, members: list[int], num_rows_M: NDArray[np.int64]) -> int:
    """Give the clip that stands for a content: the one with most rows; else the first by name."""
    return min(members, key=lambda place: (-num_rows_M[place], facts[place]["uri"]))


def _double_row(
    fact: Mapping[str, Any], keeper: Mapping[str, Any], match: Match | None, mode: str
) -> dict[str, Any]:
    """Say of a clip that it is a duplicate, and what is done about it.

    Rows can be linked to another file where they are about all of both, or where it holds the very
    same; a part of a longer video has other rows.
    """
    reason, action = Reason.SAME_CONTENT, mode
    if match is not None:
        is_whole = match.first_covered >= MIN_COVERED
        reason = Reason.NEAR_DUPLICATE if is_whole else Reason.CONTAINED
        is_file = all((f["clip_start_s"], f["clip_end_s"]) == _WHOLE for f in (fact, keeper))
        if mode == "relink" and not (is_whole and is_file):
            action = "report"
    return _row(fact, keeper, reason, action, match=match)


def _row(
    fact: Mapping[str, Any],
    keeper: Mapping[str, Any] | None,
    reason: Reason,
    action: str,
    *,
    source: str = "",
    match: Match | None = None,
) -> dict[str, Any]:
    of_keeper = keeper or {"uri": "", "media_id": ""} | dict(zip(_KEY[1:], _WHOLE, strict=True))
    return {
        "task": "",
        "sample_id": "",
        **{name: fact[name] for name in _KEY},
        "media_id": fact["media_id"],
        "reason": reason.value,
        "action": action,
        "source": source,
        **{f"keeper_{name}": of_keeper[name] for name in (*_KEY, "media_id")},
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
