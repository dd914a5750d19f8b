"""LLaVA's own rows, as JSON, JSON Lines or Parquet: Bunny, LLaVA-Video, LLaVA-OneVision, ..."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from vxp_data.conversation import question_answer_pairs
from vxp_data.datasets.layouts.base import (
    Annotation,
    AnnotationLayout,
    LlavaRow,
    Reader,
    SourceRow,
    given,
)
from vxp_data.manifests.base import RowError
from vxp_data.manifests.conversation import read_turns

MEDIA_COLUMNS = ("video", "image")


def llava(row: SourceRow) -> Iterator[LlavaRow]:
    """Read a row as it is: `{id, video or image (a path, or none), conversations}`, and the rest.

    Source:
        LLaVA-VL/LLaVA-NeXT, docs/LLaVA_Video_1003.md, for LLaVA-Video-178K; BAAI-DCAI/Bunny,
        README.md, for bunny_695k.json; OpenGVLab/ShareGPT-4o for gpt-4o.jsonl.
    """
    if not read_turns(row.fields):
        raise RowError("the row has no conversation")
    for column in MEDIA_COLUMNS:
        value = row.fields.get(column)
        if isinstance(value, Mapping):
            raise RowError(f"{column} is an object, wanted the path of a file")
    yield LlavaRow(fields=row.fields)


def llava_parquet(row: SourceRow) -> Iterator[Annotation]:
    """Read `{id, image: {bytes, path}, conversations}`; the image's bytes stay unread.

    The file is named by the image's path, or by the row's id where it has none.

    Source:
        huggingface.co/datasets/lmms-lab/LLaVA-OneVision-Data, README.md.
    """
    exchanges = tuple(
        (question.replace("<image>", "").strip(), answer)
        for question, answer in question_answer_pairs(read_turns(row.fields))
    )
    if not exchanges:
        raise RowError("the row has no conversation")
    name = row.text("id")
    image = row.fields.get("image")
    media = given(SourceRow(fields=image), ("path",)) or name if image is not None else ""
    yield Annotation(row_id=name, media=media, exchanges=exchanges, is_image=True)


LLAVA_JSON = AnnotationLayout(reader=Reader.JSON, convert=llava)
LLAVA_JSONL = AnnotationLayout(reader=Reader.JSONL, convert=llava)
LLAVA_PARQUET = AnnotationLayout(
    reader=Reader.PARQUET,
    convert=llava_parquet,
    columns=("id", "image.path", "conversations"),
    embedded="image.bytes",
)
