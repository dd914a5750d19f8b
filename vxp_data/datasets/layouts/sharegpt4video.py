"""ShareGPT4Video: captions by GPT-4V, of the whole video and of its key frames, as JSON Lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from vxp_data.datasets.layouts.base import Annotation, AnnotationLayout, Reader, SourceRow
from vxp_data.manifests.base import RowError

_WHOLE_VIDEO = "-1"


def sharegpt4video(row: SourceRow) -> Iterator[Annotation]:
    """Read the caption of the whole video: the one whose `idx` is '-1'.

    `{video_id, video_path, timestamp, keyframe, captions: [{idx, content}], zip_folder}`;
    `video_path` is the file's path below the folder into which the zips are unpacked.

    Source:
        huggingface.co/datasets/ShareGPT4Video/ShareGPT4Video, sharegpt4video_40k.jsonl;
        ml-energy/benchmark, image-to-video/sharegpt4video/sample.py, for the meaning of '-1'.
    """
    captions = row.items("captions")
    for caption in captions:
        if isinstance(caption, Mapping) and str(caption.get("idx")) == _WHOLE_VIDEO:
            words = SourceRow(fields=caption).text("content")
            break
    else:
        raise RowError(f"none of the {len(captions)} captions is of the whole video (idx '-1')")
    yield Annotation(
        row_id=row.text("video_id"),
        media=row.text("video_path"),
        exchanges=((row.prompt, words),),
    )


SHAREGPT4VIDEO = AnnotationLayout(reader=Reader.JSONL, convert=sharegpt4video)
