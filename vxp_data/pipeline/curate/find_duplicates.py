"""Near-duplicates of a run, and what of it is in evaluation sets: duplicates.parquet.

Same content (digest) -> same frames (`near_pairs`) -> groups (`core.duplicate_groups`). Touches no
video, and starts workers for many clips only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vxp_data.core.duplicate_groups import choose_representatives
from vxp_data.core.duplicates import MIN_COVERED
from vxp_data.pipeline.curate.clip_views import ClipSource, Found
from vxp_data.pipeline.curate.compared_clips import (
    WHOLE_FILE,
    Compared,
    Facts,
    RunClips,
    SampleClips,
    clip_duration,
    compare_clips,
    duplicate_row,
    subsets,
)
from vxp_data.pipeline.curate.decontaminate import Decontamination, OtherRun
from vxp_data.pipeline.curate.doubled_tuples import doubled_tuples
from vxp_data.pipeline.curate.near_candidates import ClipOrder
from vxp_data.pipeline.curate.near_pairs import find_same
from vxp_data.records import Reason
from vxp_data.schemas import DUPLICATE_SCHEMA
from vxp_data.settings.curation import DuplicatesConfig

_HERE: Final = ""
"""Stands for this run among the sources of clips."""


def find_duplicates(
    clips: RunClips,
    samples: SampleClips,
    config: DuplicatesConfig,
    decontamination: Decontamination,
) -> tuple[pa.Table, int]:
    """Find what is a duplicate, of what, and what is done about it.

    Args:
        clips: of the run.
        samples: rows that were neither quarantined nor filtered.
        config: what is looked for.
        decontamination: what must not be in the run; see `decontamination.read_decontamination`.

    Returns:
        DUPLICATE_SCHEMA, ordered by task, clip and sample, whatever the order of the rows; and how
        many clips have no vectors of `thumbnail`, though these were asked for.

    Raises:
        UserError: embeddings cannot be read, or the folder for temporary files is full.
    """
    facts = clips.media.to_pylist()
    listed = _listed(facts, samples, decontamination)
    rows = list(listed.values())
    samples = samples.without(listed)
    leaked: dict[int, dict[str, Any]] = {}
    unseen: set[tuple[str, int]] = set()
    for other in decontamination.runs:
        indices = sorted(set(samples.clips().tolist()) - set(leaked))
        found, unseen_here = _leaked(clips, facts, indices, other)
        leaked |= found
        unseen |= unseen_here
    rows += _leaked_rows(samples, leaked)
    lost = np.flatnonzero(np.isin(samples.index_N, list(leaked))).tolist()
    lost += [sample for sample, own in samples.several.items() if not leaked.keys().isdisjoint(own)]
    samples = samples.without(lost)
    if config.mode != "off":
        compared = compare_clips(clips, facts, samples)
        unseen |= {(_HERE, index) for index in compared.unseen}
        rows += _doubled(facts, samples, compared, config)
        rows += doubled_tuples(facts, samples, compared, config)
    key = ("task", "uri", "clip_start_s", "clip_end_s", "sample_id")
    rows.sort(key=lambda row: tuple(row[name] for name in key))
    return pa.Table.from_pylist(rows, DUPLICATE_SCHEMA), len(unseen)


def _listed(
    facts: Facts, samples: SampleClips, decontamination: Decontamination
) -> dict[int, dict[str, Any]]:
    """Return the samples that a list of ids names, or a medium of theirs."""
    rows: dict[int, dict[str, Any]] = {}
    if not decontamination.ids:
        return rows
    of_one = {n: (int(samples.index_N[n]),) for n in np.flatnonzero(samples.index_N >= 0).tolist()}
    for sample, own in {**of_one, **samples.several}.items():
        sample_id = str(samples.sample_id[sample])
        for index in own:
            fact = facts[index]
            found = decontamination.listed(sample_id, fact["uri"], fact["media_id"])
            if found is not None and sample not in rows:
                source, name = found
                row = duplicate_row(fact, None, Reason.IN_EVALUATION, "drop", source=source)
                rows[sample] = row | {"sample_id": sample_id, "representative_uri": name}
    return rows


def _leaked_rows(
    samples: SampleClips, leaked: Mapping[int, dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Return a row for each clip of an evaluation set, and for each row one of whose media is."""
    of_one = set(samples.index_N.tolist())
    yield from (row for index, row in leaked.items() if index in of_one)
    for sample, own in samples.several.items():
        if (first := next((index for index in own if index in leaked), None)) is not None:
            yield leaked[first] | {"sample_id": str(samples.sample_id[sample])}


def _leaked(
    clips: RunClips, facts: Facts, indices: list[int], other: OtherRun
) -> tuple[dict[int, dict[str, Any]], set[tuple[str, int]]]:
    """Return those clips that another run has too, by content or by frames.

    And the clips of either that some of the vectors do not show: (run, index in it).
    """
    theirs = other.media.to_pylist()
    known = {fact["media_id"]: fact for fact in reversed(theirs)}
    rows: dict[int, dict[str, Any]] = {}
    for index in indices:
        if (duplicate := known.get(facts[index]["media_id"])) is not None:
            reason = Reason.IN_EVALUATION
            rows[index] = duplicate_row(
                facts[index], duplicate, reason, "drop", source=other.source
            )
    left = [index for index in indices if index not in rows and clips.is_video_C[index]]
    num_theirs, num_all = len(theirs), len(theirs) + len(left)
    video_V = np.flatnonzero(other.is_video_C)
    compared = [*theirs, *(facts[index] for index in left)]
    sources = [
        ClipSource(
            run=other.run,
            clips=other.media.take(pa.array(video_V)),
            index_C=video_V,
            encoder=clips.encoder,
            sampler=other.sampler,
        ),
        clips.source(left, np.arange(num_theirs, num_all)),
    ]
    order = ClipOrder(
        duration_s_C=np.array([clip_duration(fact) for fact in compared]),
        num_rows_C=np.ones(num_all, dtype=np.int64),
        is_other_C=np.arange(num_all) < num_theirs,
        file_C=np.arange(num_all),
        others_only=True,
    )
    same = find_same(sources, order, clips.views, clips.cluster)
    best: dict[int, tuple[int, float]] = {}
    for (duplicate_at, at), found in sorted(same.found.items()):
        index = left[at - num_theirs]
        if index not in best or found.preference > best[index]:
            best[index] = found.preference
            rows[index] = duplicate_row(
                facts[index],
                theirs[duplicate_at],
                Reason.IN_EVALUATION,
                "drop",
                source=other.source,
                found=found,
            )
    unseen = {
        (other.source, at) if at < num_theirs else (_HERE, left[at - num_theirs])
        for at in same.unseen_C.tolist()
    }
    return rows, unseen


def _doubled(
    facts: Facts, samples: SampleClips, compared: Compared, config: DuplicatesConfig
) -> Iterator[dict[str, Any]]:
    """Return the duplicates among the clips of some samples, in each subset or in all together."""
    index_N = samples.index_N
    for task, mine_N in subsets(samples.task, index_N >= 0, config):
        num_rows_M = np.bincount(index_N[mine_N], minlength=len(facts))
        representative_C = choose_representatives(
            compared.pairs, compared.duration_s_C, compared.rows_of(num_rows_M)
        )
        shown_by = [_representative(facts, members, num_rows_M) for members in compared.contents]
        for content, representative in enumerate(representative_C.tolist()):
            if representative < 0:
                continue
            found = compared.match(content, representative)
            for index in compared.contents[content]:
                if num_rows_M[index] and index != shown_by[representative]:
                    row = _double_row(
                        facts[index], facts[shown_by[representative]], found, config.mode
                    )
                    yield row | {"task": task}


def _representative(facts: Facts, members: list[int], num_rows_M: NDArray[np.int64]) -> int:
    """Return the clip that stands for a content: the one with most rows; else the first by name."""
    return min(members, key=lambda index: (-num_rows_M[index], facts[index]["uri"]))


def _double_row(
    fact: Mapping[str, Any], representative: Mapping[str, Any], found: Found | None, mode: str
) -> dict[str, Any]:
    """Return the row that says of a clip that it is a duplicate, and what is done about it.

    Rows can be linked to another file where they are about all of both, or where it holds the very
    same; a part of a longer video has other rows.
    """
    reason, action = Reason.SAME_CONTENT, mode
    if found is not None:
        is_whole = found.match.first_covered >= MIN_COVERED
        reason = Reason.NEAR_DUPLICATE if is_whole else Reason.CONTAINED
        is_file = all(
            (f["clip_start_s"], f["clip_end_s"]) == WHOLE_FILE for f in (fact, representative)
        )
        if mode == "relink" and not (is_whole and is_file):
            action = "report"
    return duplicate_row(fact, representative, reason, action, found=found)
