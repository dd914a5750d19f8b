"""CinePile: five-way questions on film scenes, as Parquet."""

from __future__ import annotations

import re
from collections.abc import Iterator

from vxp_data.datasets.layouts.base import (
    Annotation,
    AnnotationLayout,
    Reader,
    SourceRow,
    choice_question,
    letter_of,
)
from vxp_data.manifests.base import RowError

_YOUTUBE_ID = re.compile(r"(?:[?&]v=|youtu\.be/|/embed/|/shorts/)([\w-]{11})(?:[^\w-]|$)")


def cinepile(row: SourceRow) -> Iterator[Annotation]:
    """Read a question. The media is the clip's YouTube id: of `videoID`, else of `yt_clip_link`.

    `answer_key_position` is the index of the right one among `choices`, from 0. Subtitles are not
    put into the question.

    Source:
        huggingface.co/datasets/tomg-group-umd/cinepile, README.md (dataset_info).
    """
    video = str(row.fields.get("videoID") or "")
    if not video:
        link = row.text("yt_clip_link")
        match = _YOUTUBE_ID.search(link)
        if match is None:
            raise RowError(f"yt_clip_link is {link[:80]!r}, which holds no YouTube id")
        video = match[1]
    choices = row.items("choices")
    question = choice_question(row.text("question"), choices)
    answer = letter_of(row.number("answer_key_position"), choices)
    yield Annotation(row_id="", media=video, exchanges=((question, answer),))


CINEPILE = AnnotationLayout(
    reader=Reader.PARQUET,
    convert=cinepile,
    columns=("videoID", "yt_clip_link", "question", "choices", "answer_key_position"),
)
