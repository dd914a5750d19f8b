"""OpenVid-1M: one CSV row with a long caption for each clip."""

from __future__ import annotations

from collections.abc import Iterator

from vxp_data.datasets.layouts.base import Annotation, AnnotationLayout, Reader, SourceRow


def openvid(row: SourceRow) -> Iterator[Annotation]:
    """Read a caption. `video` is the file's name, with its suffix.

    Columns: `video, caption, aesthetic score, motion score, temporal consistency score,
    camera motion, frame, fps, seconds`.

    Source:
        huggingface.co/datasets/nkp37/OpenVid-1M, data/train/OpenVid-1M.csv; NJU-PCALab/OpenVid-1M,
        README.md.
    """
    video = row.text("video")
    yield Annotation(row_id=video, media=video, exchanges=((row.prompt, row.text("caption")),))


OPENVID = AnnotationLayout(reader=Reader.CSV, convert=openvid)
