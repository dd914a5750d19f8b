"""VCG+ 112K of VideoGPT+: LLaVA's conversations on ActivityNet's videos."""

from __future__ import annotations

from collections.abc import Iterator

from vxp_data.conversation import question_answer_pairs
from vxp_data.core.tasks import PLACEHOLDER
from vxp_data.datasets.layouts.base import Annotation, AnnotationLayout, Reader, SourceRow, given
from vxp_data.manifests.base import RowError
from vxp_data.manifests.conversation import read_turns


def vcg_plus(row: SourceRow) -> Iterator[Annotation]:
    """Read `{id, video, conversations}`; where `video` is missing, the id names the video.

    Ids repeat (a video has many rows), so that a row's own comes from its content.

    Source:
        huggingface.co/datasets/MBZUAI/VCG-plus_112K, vcg-plus_112K.json; mbzuai-oryx/VideoGPT-plus,
        videogpt_plus/train/train.py.
    """
    exchanges = tuple(
        (PLACEHOLDER.sub("", question).strip(), answer)
        for question, answer in question_answer_pairs(read_turns(row.fields))
    )
    if not exchanges:
        raise RowError("the row has no conversation")
    video = given(row, ("video", "id"))
    if not video:
        raise RowError("the row names no video: neither 'video' nor 'id' holds anything")
    yield Annotation(row_id="", media=video, exchanges=exchanges)


VCG_PLUS = AnnotationLayout(reader=Reader.JSON, convert=vcg_plus)
