"""Video-ChatGPT's VideoInstruct-100K and VideoGPT+'s VCG+ 112K: a question and an answer a row."""

from __future__ import annotations

from collections.abc import Iterator

from vxp_data.datasets.layouts.base import Annotation, AnnotationLayout, Reader, SourceRow


def video_chatgpt(row: SourceRow) -> Iterator[Annotation]:
    """Read `{q, a, video_id}`; rows have no id, so theirs will come from their content.

    Source:
        mbzuai-oryx/Video-ChatGPT, scripts/convert_instruction_json_to_training_format.py.
    """
    yield Annotation(
        row_id="", media=row.text("video_id"), exchanges=((row.text("q"), row.text("a")),)
    )


VIDEO_CHATGPT = AnnotationLayout(reader=Reader.JSON, convert=video_chatgpt)
