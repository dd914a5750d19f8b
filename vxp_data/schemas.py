"""Arrow schemas of the tables in a run directory; the records they hold are in `records`."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

RUN_FORMAT_VERSION: Final = 7
"""Version of the run directory; raised when the meaning of a file or column changes. See
UPGRADED_FORMAT_VERSIONS."""
UPGRADED_FORMAT_VERSIONS: Final = (4, 5, 6)
"""Those that `vxp-data upgrade` converts to ours."""

CLIP_KEY: Final = ("uri", "clip_start_s", "clip_end_s")
"""Columns that name a clip where clips are listed: media, embeddings, duplicates."""
SAMPLE_CLIP_KEY: Final = ("media_uri", *CLIP_KEY[1:])
"""Columns by which a sample names its clip."""

SAMPLE_CLIP: Final = pa.struct(
    [
        ("modality", pa.string()),
        ("media_uri", pa.string()),
        ("clip_start_s", pa.float64()),
        ("clip_end_s", pa.float64()),
    ]
)
"""A `records.SampleClip`."""

SAMPLE_SCHEMA: Final = pa.schema(
    [
        ("sample_id", pa.string()),
        ("dataset", pa.string()),
        ("row", pa.int64()),
        ("task", pa.string()),
        ("task_origin", pa.string()),
        ("modality", pa.string()),
        ("media_uri", pa.string()),
        ("clip_start_s", pa.float64()),
        ("clip_end_s", pa.float64()),
        ("clips", pa.list_(SAMPLE_CLIP)),  # of a row with several media, else empty
        ("reason", pa.string()),
        ("message", pa.string()),
        ("turns", pa.large_string()),
        ("annotation", pa.large_binary()),
    ]
)

MEDIA_SCHEMA: Final = pa.schema(
    [
        ("media_id", pa.string()),
        ("uri", pa.string()),
        ("num_bytes", pa.int64()),
        ("container", pa.string()),
        ("codec", pa.string()),
        ("pixel_format", pa.string()),
        ("width_px", pa.int32()),
        ("height_px", pa.int32()),
        ("fps", pa.float64()),
        ("num_frames", pa.int64()),
        ("duration_s", pa.float64()),
        ("start_s", pa.float64()),
        ("has_edit_list", pa.bool_()),
        ("open_gop", pa.bool_()),
        ("gradual_refresh", pa.bool_()),
        ("frames_indexed", pa.bool_()),
        ("time_note", pa.string()),  # where times are not simply the file's own
        ("rotation", pa.int16()),
        ("num_audio_streams", pa.int16()),
        ("stream_index", pa.int16()),
        ("num_video_streams", pa.int16()),
        ("has_crop", pa.bool_()),
    ]
)

EMBEDDING_FACTS: Final = pa.schema(
    [
        *MEDIA_SCHEMA,
        ("clip_start_s", pa.float64()),
        ("clip_end_s", pa.float64()),
        ("file_version", pa.string()),  # size and modification time: has the file changed since?
        ("bytes_fetched", pa.int64()),  # of a file in a store; the first clip of a file has them
        ("timeline", pa.string()),  # every frame's time, packed: core.timeline; '' where it failed
        ("frame_index", pa.list_(pa.int64())),
        ("time_s", pa.list_(pa.float64())),
        ("frames_expected", pa.int32()),
        ("frames_exact", pa.int32()),  # others were replaced by the nearest earlier one
        ("content_change", pa.list_(pa.float32())),  # between one frame and the next
        ("contrast", pa.list_(pa.float32())),  # of each frame: core.frame_statistics
        ("decoder", pa.string()),
        ("decoder_note", pa.string()),  # why another decoder, or how it departs from the file
        ("encoder", pa.string()),  # fingerprints
        ("sampler", pa.string()),
        ("reason", pa.string()),
        ("message", pa.string()),
    ]
)
"""One row a clip in `embeddings/part-*.parquet`, but for the embedding; `uri` and the clip's limits
are its key."""

CURRENT_COLUMNS: Final = (
    "uri", "clip_start_s", "clip_end_s", "file_version", "encoder", "sampler", "reason",
)  # fmt: skip
"""Those that tell whether a row of a part counts: of a file as it is, made as it would be."""

EMBEDDING_SCHEMA: Final = EMBEDDING_FACTS.append(pa.field("embedding", pa.large_binary()))
"""The same with the embedding: float16 [F, D] unit rows, little-endian, row after row; null where
the clip failed. F is the length of `frame_index`, D the rest. Between facts and embedding lie what
was worked out of it, in parts that were written where it was known: a float64 `score:NAME@VERSION`
for each measure, null where the clip failed, and `mean`, as in MEAN_SCHEMA."""

BESIDE_COLUMNS: Final = ("beside", "beside_encoder")
"""Columns that parts may have besides, large_binary and string: `thumbnail`'s vectors of the same
frames, int8 [F, 960] in steps of 1/1270, frame after frame, and their fingerprint; null and ''
where a clip has none."""

MEAN_SCHEMA: Final = pa.schema(
    [
        ("uri", pa.string()),
        ("clip_start_s", pa.float64()),
        ("clip_end_s", pa.float64()),
        ("num_frames", pa.int32()),
        ("mean", pa.large_binary()),  # float16 [D] unit row, little-endian; null where it failed
    ]
)
"""One row a clip in means.parquet, in the order of media.parquet; the file's metadata names
`encoder` and `sampler`, the fingerprints of the embeddings."""

THUMBNAIL_SCHEMA: Final = pa.schema(
    [
        ("uri", pa.string()),
        ("clip_start_s", pa.float64()),
        ("clip_end_s", pa.float64()),
        ("file_version", pa.string()),
        ("sampler", pa.string()),
        ("sheet", pa.binary()),
    ]
)
"""One row a clip in `thumbnails/part-*.parquet`; `sheet` is a WebP, null where none was drawn."""


DECISION_SCHEMA: Final = pa.schema(
    [
        ("sample_id", pa.string()),
        ("dataset", pa.string()),
        ("row", pa.int64()),
        ("task", pa.string()),
        ("media_id", pa.string()),
        ("decision", pa.string()),
        ("reason", pa.string()),
        ("measure", pa.string()),
        ("score", pa.float64()),
        ("threshold", pa.float64()),
        ("duplicate_of", pa.string()),
    ]
)

SELECTION_SCHEMA: Final = pa.schema(
    [
        ("sample_id", pa.string()),
        ("task", pa.string()),
        ("selector", pa.string()),  # select:NAME@VERSION
        ("score", pa.float64()),  # larger = taken earlier
        ("position", pa.int64()),  # from 0, among the rows that the selector saw together
    ]
)
"""One row for each sample that a selector put in order, in selection.parquet. The file's metadata
holds `across`, `seed` and the digests of what selectors saw, as JSON, under 'selection'."""

DUPLICATE_SCHEMA: Final = pa.schema(
    [
        ("task", pa.string()),  # '' where duplicates are looked for in all subsets together
        ("sample_id", pa.string()),  # '' for all samples about the clip
        ("uri", pa.string()),
        ("clip_start_s", pa.float64()),
        ("clip_end_s", pa.float64()),
        ("media_id", pa.string()),
        ("reason", pa.string()),
        ("action", pa.string()),  # report, drop or relink
        # '' for this run; else the file or run that names or holds the representative
        ("source", pa.string()),
        ("representative_uri", pa.string()),  # or the id in a file
        ("representative_clip_start_s", pa.float64()),
        ("representative_clip_end_s", pa.float64()),
        ("representative_media_id", pa.string()),
        ("agreement", pa.float64()),  # mean cosine of frames at the same moment
        ("offset_s", pa.float64()),  # where the clip begins in its representative
        ("num_matched", pa.int32()),  # frames of the longer one that were compared
        # by which vectors: 'encoder', 'thumbnail' or 'encoder+thumbnail'; '' for the same content,
        # and for what a list names. The figures above are of the first
        ("found_by", pa.string()),
    ]
)
"""One row for each clip that is a duplicate, in duplicates.parquet: of what, and how that is
known."""

PLAN_SCHEMA: Final = pa.schema(
    [
        ("sample_id", pa.string()),
        ("medium", pa.int32()),  # its place among the row's media, from 0
        ("media_id", pa.string()),
        ("epoch", pa.int64()),
        ("policy", pa.string()),
        ("fps", pa.float64()),  # 0: at equal distances, or an image
        ("num_frames", pa.int32()),
        ("frame_index", pa.list_(pa.int64())),
        ("time_s", pa.list_(pa.float64())),
        ("duration_s", pa.float64()),
        ("source_fps", pa.float64()),
        ("max_frames", pa.int64()),
        ("seed", pa.int64()),
    ]
)
"""One row a kept sample, medium of it, and epoch; see core.sampling_plans.SamplingPlan. The file's
metadata holds the rule, as JSON, under 'sampling'."""
