"""Duplicates among rows with several media: every medium has its counterpart, in order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vxp_data.core.duplicate_groups import choose_representatives
from vxp_data.core.duplicates import MIN_COVERED
from vxp_data.pipeline.curate.compared_clips import (
    Compared,
    Facts,
    SampleClips,
    clip_duration,
    duplicate_row,
    subsets,
)
from vxp_data.records import Reason
from vxp_data.settings.curation import DuplicatesConfig

Clips = tuple[int, ...]
"""Indices of the clips of a row, in its order."""


def doubled_tuples(
    facts: Facts, samples: SampleClips, compared: Compared, config: DuplicatesConfig
) -> Iterator[dict[str, Any]]:
    """Return a row for each sample with several media whose media another sample has all.

    Samples about the very same clips are no duplicates of one another. A row cannot be linked to
    several other files: `relink` reports it.
    """
    takes_part_N = np.zeros(len(samples.task), dtype=np.bool_)
    takes_part_N[list(samples.several)] = True
    action = "report" if config.mode == "relink" else config.mode
    for task, mine_N in subsets(samples.task, takes_part_N, config):
        rows_of: dict[Clips, list[int]] = {}
        for sample in np.flatnonzero(mine_N).tolist():
            rows_of.setdefault(samples.several[sample], []).append(sample)
        stands_for = _stands_for(compared, rows_of, len(facts))
        groups: dict[Clips, list[Clips]] = {}
        for own in rows_of:
            shown = tuple(stands_for[compared.content_of[index]] for index in own)
            groups.setdefault(shown, []).append(own)
        for group in groups.values():
            best, *others = sorted(group, key=lambda own: _rank(facts, own, len(rows_of[own])))
            for own in others:
                is_same = [compared.content_of[i] for i in own] == [
                    compared.content_of[i] for i in best
                ]
                reason = Reason.SAME_CONTENT if is_same else Reason.NEAR_DUPLICATE
                row = duplicate_row(facts[own[0]], facts[best[0]], reason, action)
                for sample in rows_of[own]:
                    yield row | {"task": task, "sample_id": str(samples.sample_id[sample])}


def _stands_for(
    compared: Compared, rows_of: Mapping[Clips, list[int]], num_clips: int
) -> NDArray[np.int64]:
    """Return, for each content, the one that stands for it among those of some rows; else itself.

    Only where each covers the other: what lies inside a longer one is not its counterpart.
    """
    num_rows_M = np.zeros(num_clips, dtype=np.int64)
    for own, rows in rows_of.items():
        num_rows_M[list(own)] += len(rows)
    representative_C = choose_representatives(
        compared.pairs, compared.duration_s_C, compared.rows_of(num_rows_M)
    )
    stands_for_C = np.arange(len(representative_C))
    for content, representative in enumerate(representative_C.tolist()):
        found = None if representative < 0 else compared.match(content, representative)
        if found is None:
            continue
        if min(found.match.first_covered, found.match.second_covered) >= MIN_COVERED:
            stands_for_C[content] = representative
    return stands_for_C


def _rank(facts: Facts, own: Clips, num_rows: int) -> tuple[Any, ...]:
    """Rank a row's media, the preferred lowest: more pixels, longer, more rows; then by content."""
    pixels = sum(facts[index]["width_px"] * facts[index]["height_px"] for index in own)
    seconds = sum(clip_duration(facts[index]) for index in own)
    names = ("media_id", "clip_start_s", "clip_end_s", "uri")
    return (-pixels, -seconds, -num_rows, *(facts[i][name] for i in own for name in names))
