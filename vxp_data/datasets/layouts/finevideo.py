"""FineVideo: Parquet with a video's bytes in one column and all that is known of it in another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from vxp_data.datasets.layouts.base import Annotation, AnnotationLayout, Reader, SourceRow
from vxp_data.manifests.base import RowError, type_name


def finevideo(row: SourceRow) -> Iterator[Annotation]:
    """Read a video's questions as one conversation: a row of the source is a row of ours.

    Used of the struct `json`: `original_video_filename`, and `content_metadata.qAndA`, a list of
    `{question, answer}`. Questions without an answer are left out.

    Source:
        huggingface.co/datasets/HuggingFaceFV/finevideo, README.md (dataset_info).
    """
    facts = row.fields.get("json")
    if not isinstance(facts, Mapping):
        raise RowError(f"json is {type_name(facts)}, wanted an object")
    known = SourceRow(fields=facts)
    video = known.text("original_video_filename")
    metadata = facts.get("content_metadata")
    asked = metadata.get("qAndA") if isinstance(metadata, Mapping) else None
    exchanges = tuple(
        (str(pair["question"]).strip(), str(pair["answer"]).strip())
        for pair in asked or ()
        if pair.get("question") and pair.get("answer")
    )
    if not exchanges:
        raise RowError("content_metadata.qAndA has no question with an answer")
    yield Annotation(row_id=video.rpartition(".")[0] or video, media=video, exchanges=exchanges)


FINEVIDEO = AnnotationLayout(
    reader=Reader.PARQUET,
    convert=finevideo,
    columns=("json.original_video_filename", "json.content_metadata.qAndA"),
    embedded="mp4",
)
