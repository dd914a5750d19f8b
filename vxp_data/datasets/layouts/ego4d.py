"""Ego4D: summaries that narrators wrote of parts of long first-person videos."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from vxp_data.datasets.layouts.base import (
    Annotation,
    AnnotationLayout,
    Reader,
    SkippedRow,
    SourceRow,
)
from vxp_data.manifests.base import RowError

_PASSES = ("narration_pass_1", "narration_pass_2")
_TAG = re.compile(r"#\s*(?:unsure|summary|C|O)\b\s*", re.IGNORECASE)


def narrations(row: SourceRow) -> Iterator[Annotation]:
    """Read the summaries of a video as captions of its parts; of two passes, the first with any.

    narration.json: `{"videos": {"<video_uid>": {"narration_pass_1": {"narrations": [...],
    "summaries": [{start_sec, end_sec, summary_text}]}, "narration_pass_2": ...}}}`. The narrators'
    marks go ('#C' the wearer, '#O' others, '#unsure'): 'C' stands for the wearer in what is left.

    Source:
        ego4d-data.org/docs/data/annotations-schemas (narration.json).
    """
    for name in _PASSES:
        narrated = row.fields.get(name)
        summaries = narrated.get("summaries") if isinstance(narrated, Mapping) else None
        if summaries:
            break
    else:
        raise SkippedRow("no summary")
    for number, summary in enumerate(summaries):
        if not isinstance(summary, Mapping):
            raise RowError(f"summary {number} of {name} is no object")
        words = _TAG.sub("", SourceRow(fields=summary).text("summary_text")).strip()
        yield Annotation(
            row_id=f"{row.key}_{number}",
            media=row.key,
            exchanges=((row.prompt, words),),
            clip_start_s=_seconds(summary, "start_sec"),
            clip_end_s=_seconds(summary, "end_sec"),
        )


def _seconds(summary: Mapping[str, object], column: str) -> float:
    value = summary.get(column)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RowError(f"{column} is {value!r:.80}, wanted seconds")
    return float(value)


NARRATIONS = AnnotationLayout(reader=Reader.OBJECT, convert=narrations, inside="videos")
