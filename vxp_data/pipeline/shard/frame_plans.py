"""From a kept row to its sampling plans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from vxp_data.core.frame_sampling import SELECTION_VERSION
from vxp_data.core.frame_shares import media_rules
from vxp_data.core.sampling_plans import SamplingPlan, SamplingRule, draw_plan, image_plan
from vxp_data.core.timeline import unpack_timeline
from vxp_data.records import Modality

_unpack = lru_cache(maxsize=8)(unpack_timeline)
"""Rows about one video often follow each other; a day of video takes 40 MB."""


def media_of(row: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Return the facts of each of a row's media, in its order; none of a text-only row.

    Args:
        row: of `kept_rows`.
    """
    if row["clips"]:
        clips: Sequence[Mapping[str, Any]] = row["clips"]
        return clips
    return [] if row["modality"] == Modality.TEXT else [row]


def rules_of(row: Mapping[str, Any], rule: SamplingRule) -> list[SamplingRule]:
    """Return the rule by which each of a row's media is planned: of several, with its share."""
    media = media_of(row)
    if len(media) < 2:
        return [rule] * len(media)
    return media_rules(rule, [_part_s(medium) for medium in media])


def draw_plans(
    row: Mapping[str, Any],
    rule: SamplingRule,
    num_epochs: int,
    selection_version: int = SELECTION_VERSION,
) -> list[list[SamplingPlan]]:
    """Plan one kept row for the first epochs.

    Args:
        row: of `kept_rows`.
        rule: what the user set.
        num_epochs: epochs 0, 1, ... are planned.
        selection_version: which frames a clip has; see `core.frame_sampling`.

    Returns:
        Of each of its media, in order, a plan for each epoch; an image's has its one frame.
    """
    pairs = zip(media_of(row), rules_of(row, rule), strict=True)
    return [
        draw_medium_plans(
            medium,
            own,
            num_epochs,
            sample_id=row["sample_id"],
            selection_version=selection_version,
        )
        for medium, own in pairs
    ]


def draw_medium_plans(
    medium: Mapping[str, Any],
    rule: SamplingRule,
    num_epochs: int,
    *,
    sample_id: str,
    selection_version: int = SELECTION_VERSION,
) -> list[SamplingPlan]:
    """Plan one medium of a row for the first epochs.

    Args:
        medium: of `media_of`.
        rule: the medium's own, of `rules_of`.
        num_epochs: epochs 0, 1, ... are planned.
        sample_id: the row's.
        selection_version: which frames a clip has; see `core.frame_sampling`.
    """
    if medium["modality"] == Modality.IMAGE:
        return [image_plan(rule, epoch=epoch) for epoch in range(num_epochs)]
    time_s_N = _unpack(medium["timeline"])
    return [
        draw_plan(
            rule,
            sample_id=sample_id,
            epoch=epoch,
            time_s_N=time_s_N,
            duration_s=medium["duration_s"],
            source_fps=medium["fps"],
            clip_start_s=medium["clip_start_s"],
            clip_end_s=medium["clip_end_s"],
            selection_version=selection_version,
        )
        for epoch in range(num_epochs)
    ]


def _part_s(medium: Mapping[str, Any]) -> float | None:
    """Return the length of a medium's part in seconds; None of an image."""
    if medium["modality"] == Modality.IMAGE:
        return None
    end_s = min(medium["clip_end_s"], medium["duration_s"])
    return max(0.0, float(end_s - medium["clip_start_s"]))
