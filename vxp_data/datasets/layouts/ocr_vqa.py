"""OCR-VQA: questions on book covers, in one JSON object."""

from __future__ import annotations

from collections.abc import Iterator

from vxp_data.datasets.layouts.base import (
    Annotation,
    AnnotationLayout,
    Reader,
    SkippedRow,
    SourceRow,
)
from vxp_data.manifests.base import RowError

_SPLITS = {1: "train", 2: "val", 3: "test"}
_ASK_FOR_WORD = "Answer the question using a single word or phrase."


def ocr_vqa(row: SourceRow) -> Iterator[Annotation]:
    """Read a cover's questions as one conversation. Only the wanted split is read.

    dataset.json: `{"<id>": {imageURL, questions, answers, title, authorName, genre, split}}`,
    `split` being 1 (train), 2 (validation) or 3 (test). The image is called by the id and the
    suffix of its URL, as the authors' loadDataset.py saves it.

    Source:
        ocr-vqa.github.io; open-mmlab/mmpretrain, datasets/ocr_vqa.py.
    """
    number = row.number("split")
    split = _SPLITS.get(number)
    if split is None:
        raise RowError(f"split is {number}, wanted 1, 2 or 3")
    if split != row.split:
        raise SkippedRow(f"split {split}")
    questions, answers = row.items("questions"), row.items("answers")
    if len(questions) != len(answers):
        raise RowError(f"there are {len(questions)} questions and {len(answers)} answers")
    first, *rest = zip(questions, answers, strict=True)
    suffix = row.text("imageURL").rpartition("/")[2].rpartition(".")[2]
    yield Annotation(
        row_id=row.key,
        media=f"{row.key}.{suffix}",
        exchanges=(
            (f"{first[0]}\n{_ASK_FOR_WORD}", str(first[1])),
            *((str(question), str(answer)) for question, answer in rest),
        ),
        is_image=True,
    )


OCR_VQA = AnnotationLayout(reader=Reader.OBJECT, convert=ocr_vqa)
