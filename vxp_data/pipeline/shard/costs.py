"""What the kept rows weigh: each row's clip, bytes and decode cost, for shards of equal cost."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vxp_data.core.shard_planning import ClipCosts, decode_cost
from vxp_data.pipeline.shard.clip_records import ShardSettings, planned_frames
from vxp_data.pipeline.shard.frame_plans import draw_plans
from vxp_data.records import Modality
from vxp_data.shard_format import Payload, clip_key

_COLUMNS: Final = [
    "key", "json_bytes", "sample_id", "modality", "media_id", "num_bytes", "width_px", "height_px",
    "fps", "num_frames", "duration_s", "clip_start_s", "clip_end_s", "timeline",
]  # fmt: skip
_ROWS_AT_ONCE: Final = 2000
_BYTES_PER_PIXEL: Final = 0.22
"""Of a JPEG of quality 90 at 384 px: the mean of 2,270 planned frames of 37 real clips, of which
single ones have 0.02 to 0.58. Which it will be is not known before it is made."""
_FRAME_BYTES: Final = 800
"""Of an image's tar header and padding."""
_PLANNED_BYTES: Final = 25
"""Of a planned frame's index and time in the JSON."""
_RECORD_BYTES: Final = 2048
"""Of the rest of a clip's JSON, with tar headers and padding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighed:
    """The kept rows and what their clips weigh."""

    rows: pa.Table
    """As `kept.kept_rows` gives them, and `key` and `decode_cost` of each."""
    clips: ClipCosts
    repeated_bytes: int
    """Of files that several clips, parts of them, carry: beyond the first time."""


def weigh(rows: pa.Table, settings: ShardSettings) -> Weighed:
    """Name every kept row's clip, and weigh the clips.

    A clip's bytes are its payload's (of frames: a guess) and its rows'; its decode cost is the sum
    of its rows', since training decodes each row's plan by itself.
    """
    rows = rows.append_column("key", pa.array(_keys(rows), pa.string()))
    order_N = np.argsort(rows["key"].to_numpy(), kind="stable")
    cost_N = np.zeros(rows.num_rows)
    keys, kinds, sizes, costs = [], [], [], []
    carried: Counter[str] = Counter()
    repeated_bytes = index = 0
    for key, group in groupby(_light_rows(rows, order_N), key=itemgetter("key")):
        own = list(group)
        first = own[0]
        num_bytes, row_costs = _weigh_clip(own, settings)
        cost_N[order_N[index : index + len(own)]] = row_costs
        index += len(own)
        keys.append(key)
        kinds.append(first["modality"])
        sizes.append(num_bytes)
        costs.append(math.fsum(row_costs))
        if settings.payload is Payload.VIDEO and first["media_id"]:
            carried[first["media_id"]] += 1
            repeated_bytes += first["num_bytes"] if carried[first["media_id"]] > 1 else 0
    return Weighed(
        rows=rows.append_column("decode_cost", pa.array(cost_N)),
        clips=ClipCosts(
            key=keys,
            kind=kinds,
            num_bytes=np.array(sizes, dtype=np.int64),
            decode_cost=np.array(costs, dtype=np.float64),
        ),
        repeated_bytes=repeated_bytes,
    )


def _keys(rows: pa.Table) -> list[str]:
    columns = ("modality", "media_id", "clip_start_s", "clip_end_s", "sample_id")
    return [
        clip_key(
            kind, media_id=media_id or "", clip_start_s=start_s, clip_end_s=end_s, sample_id=sample
        )
        for kind, media_id, start_s, end_s, sample in zip(
            *(rows[name].to_pylist() for name in columns), strict=True
        )
    ]


def _light_rows(rows: pa.Table, order_N: np.ndarray[Any, Any]) -> Iterator[dict[str, Any]]:
    """Return what weighs of every row, in that order."""
    texts = (rows[name] for name in ("annotation", "turns"))
    json_bytes = pc.add(*(pc.cast(pc.binary_length(text), pa.int64()) for text in texts))
    light = rows.append_column("json_bytes", json_bytes).select(_COLUMNS)
    for first in range(0, len(order_N), _ROWS_AT_ONCE):
        yield from light.take(order_N[first : first + _ROWS_AT_ONCE]).to_pylist()


def _weigh_clip(rows: list[dict[str, Any]], settings: ShardSettings) -> tuple[int, list[float]]:
    """Return a clip's bytes, and what each of its rows costs to decode in an epoch."""
    first, num_epochs = rows[0], settings.num_epochs
    num_bytes = _RECORD_BYTES + sum(row["json_bytes"] for row in rows)
    if first["modality"] == Modality.TEXT:
        return num_bytes, [0.0] * len(rows)
    if settings.payload is Payload.FRAMES:
        plans = [draw_plans(row, settings.rule, num_epochs) for row in rows]
        frame_bytes = int(settings.frame_px**2 * _BYTES_PER_PIXEL) + _FRAME_BYTES
        num_bytes += len(planned_frames(plans)) * frame_bytes
        num_planned_R = [sum(map(len, own)) for own in plans]
        num_bytes += sum(num_planned_R) * _PLANNED_BYTES
        side_px = settings.frame_px
        return num_bytes, [
            decode_cost(width_px=side_px, height_px=side_px, num_frames=num / num_epochs)
            for num in num_planned_R
        ]
    part_s = min(first["clip_end_s"], first["duration_s"]) - first["clip_start_s"]
    share = part_s / first["duration_s"] if first["duration_s"] > 0 else 1.0
    num_frames = max(1.0, first["num_frames"] * share)
    if first["modality"] == Modality.IMAGE:
        num_frames = 1.0
    num_planned = min(settings.rule.max_frames, num_frames, part_s * settings.rule.max_fps + 1)
    num_bytes += int(len(rows) * num_epochs * num_planned * _PLANNED_BYTES)
    if settings.payload is Payload.VIDEO:
        num_bytes += first["num_bytes"]
    cost = decode_cost(
        width_px=first["width_px"], height_px=first["height_px"], num_frames=num_frames
    )
    return num_bytes, [cost] * len(rows)
