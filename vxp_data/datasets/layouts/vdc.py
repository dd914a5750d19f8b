"""VDC, the benchmark of video detailed captions: five captions for each video, as JSON Lines."""

from __future__ import annotations

from collections.abc import Iterator

from vxp_data.datasets.layouts.base import Annotation, AnnotationLayout, Reader, SourceRow


def vdc(row: SourceRow) -> Iterator[Annotation]:
    """Read the detailed caption, which covers what the other four say.

    `{video_id, video_name, short_caption, background_caption, main_object_caption, camera_caption,
    detailed_caption}`; `video_name` is the file's.

    Source:
        huggingface.co/datasets/wchai/Video-Detailed-Caption, VDC_1k.jsonl.
    """
    yield Annotation(
        row_id=row.text("video_id"),
        media=row.text("video_name"),
        exchanges=((row.prompt, row.text("detailed_caption")),),
    )


VDC = AnnotationLayout(reader=Reader.JSONL, convert=vdc)
