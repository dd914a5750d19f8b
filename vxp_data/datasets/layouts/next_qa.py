"""NExT-QA: questions on why, how and in which order, as CSV."""

from __future__ import annotations

from collections.abc import Iterator

from vxp_data.datasets.layouts.base import (
    Annotation,
    AnnotationLayout,
    Companion,
    Reader,
    SourceRow,
    choice_question,
    letter_of,
)
from vxp_data.manifests.base import RowError

_OPTIONS = ("a0", "a1", "a2", "a3", "a4")


def multiple_choice(row: SourceRow) -> Iterator[Annotation]:
    """Read a row with five options, `answer` being the index of the right one, from 0.

    Columns: `video, frame_count, width, height, question, answer, qid, type, a0 ... a4`.

    Source:
        doc-doc/NExT-QA, dataset/nextqa/val.csv; the files of VidOR are found by
        map_vid_vidorID.json beside it (README.md there).
    """
    options = [row.text(column) for column in _OPTIONS]
    answer = letter_of(row.number("answer"), options)
    yield _annotation(row, choice_question(_question(row), options), answer)


def open_ended(row: SourceRow) -> Iterator[Annotation]:
    """Read a row of NExT-OE, whose `answer` is text.

    Columns: `video, frame_count, width, height, question, answer, qid, type`.

    Source:
        doc-doc/NExT-OE, dataset/nextqa/train.csv.
    """
    yield _annotation(row, _question(row), row.text("answer"))


def _question(row: SourceRow) -> str:
    """Return the question; NExT-QA writes it without a question mark."""
    question = row.text("question")
    return question if question.endswith("?") else f"{question}?"


def _annotation(row: SourceRow, question: str, answer: str) -> Annotation:
    video = row.text("video")
    media = row.companion.get(video)
    if not isinstance(media, str):
        raise RowError(f"video {video!r} is not in the map of videos (map_vid_vidorID.json)")
    return Annotation(
        row_id=f"{video}_{row.text('qid')}", media=media, exchanges=((question, answer),)
    )


MULTIPLE_CHOICE = AnnotationLayout(
    reader=Reader.CSV, convert=multiple_choice, companion=Companion.OBJECT
)
OPEN_ENDED = AnnotationLayout(reader=Reader.CSV, convert=open_ended, companion=Companion.OBJECT)
