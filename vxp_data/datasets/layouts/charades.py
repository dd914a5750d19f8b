"""Charades (CSV of scripts and descriptions) and Charades-STA (text lines with moments)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from vxp_data.datasets.layouts.base import Annotation, AnnotationLayout, Reader, SourceRow
from vxp_data.manifests.base import RowError

_MOMENT = re.compile(
    r"(?P<video>\w+)\s+(?P<start>\d+(?:\.\d+)?)\s+(?P<end>\d+(?:\.\d+)?)\s*##\s*(?P<words>.*\S)"
)


def charades(row: SourceRow) -> Iterator[Annotation]:
    """Read a video's descriptions as one caption: the longest of them, the first among equals.

    Columns: `id, subject, scene, quality, relevance, verified, script, objects, descriptions,
    actions, length`. `descriptions` holds what several people wrote after watching, with ';'
    between; `script` is what the actors were told, and stands in where nobody described the video.

    Source:
        README.txt of the dataset, prior.allenai.org/projects/data/charades/README.txt.
    """
    video = row.text("id")
    told = [part.strip() for part in str(row.fields.get("descriptions") or "").split(";")]
    caption = max(told, key=len) or str(row.fields.get("script") or "").strip()
    if not caption:
        raise RowError("the row has neither descriptions nor a script")
    yield Annotation(row_id=video, media=video, exchanges=((row.prompt, caption),))


def charades_sta(row: SourceRow) -> Iterator[Annotation]:
    """Read a line `<video> <start s> <end s>##<sentence>` as a question for the moment.

    Source:
        jiyanggao/TALL, README ("Charades-STA anno").
    """
    line = str(row.fields["line"])
    match = _MOMENT.fullmatch(line.strip())
    if match is None:
        raise RowError(f"got {line.strip()[:80]!r}, wanted '<video> <start> <end>##<sentence>'")
    start_s, end_s = float(match["start"]), float(match["end"])
    if end_s < start_s:
        raise RowError(f"the moment ends at {end_s:g} s, before it begins at {start_s:g} s")
    words = match["words"].strip().rstrip(".")
    question = (
        f'During which part of the video does this happen: "{words}"? '
        "Give the start and the end in seconds."
    )
    answer = f"From {start_s:.1f} to {end_s:.1f} seconds."
    yield Annotation(
        row_id=f"{match['video']}_{match['start']}_{match['end']}",
        media=match["video"],
        exchanges=((question, answer),),
    )


CHARADES = AnnotationLayout(reader=Reader.CSV, convert=charades)
CHARADES_STA = AnnotationLayout(reader=Reader.LINES, convert=charades_sta)
