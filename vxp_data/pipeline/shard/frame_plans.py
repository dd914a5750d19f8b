"""From a kept row to its sampling plans."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from vxp_data.core.frame_sampling import SELECTION_VERSION
from vxp_data.core.sampling_plans import SamplingPlan, SamplingRule, draw_plan, image_plan
from vxp_data.core.timeline import unpack_timeline
from vxp_data.records import Modality

_unpack = lru_cache(maxsize=8)(unpack_timeline)
"""Rows about one video often follow each other; a day of video takes 40 MB."""


def draw_plans(
    row: Mapping[str, Any],
    rule: SamplingRule,
    num_epochs: int,
    selection_version: int = SELECTION_VERSION,
) -> list[SamplingPlan]:
    """Plan one kept row for the first epochs.

    Args:
        row: of `kept.kept_rows`.
        rule: what the user set.
        num_epochs: epochs 0, 1, ... are planned.
        selection_version: which frames a clip has; see `core.frame_sampling`.

    Returns:
        A plan for each epoch; of an image its one frame; nothing for a text-only row.
    """
    if row["modality"] == Modality.TEXT:
        return []
    if row["modality"] == Modality.IMAGE:
        return [image_plan(rule, epoch=epoch) for epoch in range(num_epochs)]
    time_s_N = _unpack(row["timeline"])
    return [
        draw_plan(
            rule,
            sample_id=row["sample_id"],
            epoch=epoch,
            time_s_N=time_s_N,
            duration_s=row["duration_s"],
            source_fps=row["fps"],
            clip_start_s=row["clip_start_s"],
            clip_end_s=row["clip_end_s"],
            selection_version=selection_version,
        )
        for epoch in range(num_epochs)
    ]
