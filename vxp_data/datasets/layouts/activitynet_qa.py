"""ActivityNet-QA: questions in one JSON array, answers in another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from vxp_data.datasets.layouts.base import (
    Annotation,
    AnnotationLayout,
    Companion,
    Reader,
    SourceRow,
)
from vxp_data.manifests.base import RowError

_ASK_FOR_WORD = "Answer the question using a single word or phrase."


def activitynet_qa(row: SourceRow) -> Iterator[Annotation]:
    """Join a question with its answer; files are called `v_<video_name>`.

    Questions: `{video_name, question, question_id}`; answers: `{answer, type, question_id}`.

    Source:
        MILVLG/activitynet-qa, dataset/README.md.
    """
    question_id, question = row.text("question_id"), row.text("question")
    answer = row.companion.get(question_id)
    if not isinstance(answer, Mapping) or not str(answer.get("answer", "")).strip():
        raise RowError(f"question {question_id!r} has no answer in the file of answers")
    question = question if question.endswith("?") else f"{question}?"
    yield Annotation(
        row_id=question_id,
        media=f"v_{row.text('video_name')}",
        exchanges=((f"{question}\n{_ASK_FOR_WORD}", str(answer["answer"]).strip()),),
    )


ACTIVITYNET_QA = AnnotationLayout(
    reader=Reader.JSON, convert=activitynet_qa, companion=Companion.ARRAY
)
