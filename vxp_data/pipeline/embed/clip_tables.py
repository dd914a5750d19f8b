"""The columns of clips on their way: from decoding to embedding, and what the driver hears."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from vxp_data.schemas import EMBEDDING_FACTS

TIMINGS: Final = ("probe_cpu_s", "decode_cpu_s", "wall_s")
ENCODER_TIMINGS: Final = (
    "embed_cpu_s", "embed_wall_s", "embed_wait_s", "write_cpu_s", "write_wall_s",
)  # fmt: skip
"""`embed_cpu_s` is of writing, too; `embed_wait_s` is how long its encoder had nothing to do."""
FRAMES_SCHEMA: Final = pa.schema(
    [
        ("clip", pa.int64()),
        *EMBEDDING_FACTS,
        ("frames", pa.large_binary()),
        ("sheet", pa.binary()),
        ("beside", pa.large_binary()),
        *((name, pa.float64()) for name in TIMINGS),
    ]
)
"""One clip, from decoding to embedding; `frames` is uint8 [F, px, px, 3], null where it failed;
`sheet` is its contact sheet and `beside` are `thumbnail`'s vectors, where there are any: made where
it was decoded, since an encoder's GPU should not wait for them."""

REPORT_SCHEMA: Final = pa.schema(
    [
        ("clip", pa.int64()),
        ("uri", pa.string()),
        ("reason", pa.string()),
        ("duration_s", pa.float64()),
        ("bytes_fetched", pa.int64()),
        *((name, pa.float64()) for name in TIMINGS),
        ("frames_embedded", pa.int64()),
        *((name, pa.float64()) for name in ENCODER_TIMINGS),
    ]
)
"""What the driver hears of a clip."""
