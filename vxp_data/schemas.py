"""Arrow schemas of the tables in a run directory; the records they hold are in `records`."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

RUN_FORMAT_VERSION: Final = 1
"""Version of the run directory; raised when the meaning of a file or column changes."""

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
        ("reason", pa.string()),
        ("message", pa.string()),
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
        ("rotation", pa.int16()),
    ]
)

CLIP_KEY: Final = ("media_uri", "clip_start_s", "clip_end_s")
"""The columns that name a clip, in samples and in embeddings."""

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
