"""ScienceQA: school questions in one JSON object, many of them with an image."""

from __future__ import annotations

from collections.abc import Iterator

from vxp_data.datasets.layouts.base import (
    Annotation,
    AnnotationLayout,
    Reader,
    SkippedRow,
    SourceRow,
    choice_question,
    letter_of,
)


def science_qa(row: SourceRow) -> Iterator[Annotation]:
    """Read a question; its hint, if there is one, comes first. Only the wanted split is read.

    problems.json: `{"<id>": {question, choices, answer (index from 0), hint, image ("image.png" or
    null), lecture, solution, split, ...}}`; the image lies at `<split>/<id>/image.png`. Questions
    without one become rows of text alone.

    Source:
        lupantech/ScienceQA, README.md; scienceqa.github.io.
    """
    split = row.text("split")
    if split != row.split:
        raise SkippedRow(f"split {split}")
    choices = row.items("choices")
    hint = str(row.fields.get("hint") or "").strip()
    question = choice_question(row.text("question"), choices)
    image = row.fields.get("image")
    yield Annotation(
        row_id=row.key,
        media=f"{split}/{row.key}/{image}" if image else "",
        exchanges=((f"{hint}\n{question}" if hint else question, _letter(row)),),
        is_image=True,
    )


def _letter(row: SourceRow) -> str:
    return letter_of(row.number("answer"), row.items("choices"))


SCIENCE_QA = AnnotationLayout(reader=Reader.OBJECT, convert=science_qa)
