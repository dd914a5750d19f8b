"""What the kept rows weigh: each row's clip, bytes and decode cost, for shards of equal cost."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vxp_data.core.shard_planning import ClipCosts, decode_cost
from vxp_data.pipeline.shard.clip_records import ShardSettings, key_of_medium, planned_frames
from vxp_data.pipeline.shard.frame_plans import draw_plans, media_of
from vxp_data.records import Modality
from vxp_data.shard_format import MIXED, Payload, mixed_key

_COLUMNS: Final = [
    "key", "json_bytes", "sample_id", "modality", "media_id", "num_bytes", "width_px", "height_px",
    "fps", "num_frames", "duration_s", "clip_start_s", "clip_end_s", "timeline", "clips",
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
    """As `kept_rows` gives them, and `key` and `decode_cost` of each."""
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
        kinds.append(MIXED if first["clips"] else first["modality"])
        sizes.append(num_bytes)
        costs.append(math.fsum(row_costs))
        for medium in media_of(first) if settings.payload is Payload.VIDEO else ():
            carried[medium["media_id"]] += 1
            repeated_bytes += medium["num_bytes"] if carried[medium["media_id"]] > 1 else 0
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
    columns = ["modality", "media_id", "clip_start_s", "clip_end_s", "sample_id", "clips"]
    return [
        mixed_key([key_of_medium(medium) for medium in row["clips"]])
        if row["clips"]
        else key_of_medium(row, sample_id=row["sample_id"])
        for batch in rows.select(columns).to_batches(max_chunksize=_ROWS_AT_ONCE)
        for row in batch.to_pylist()
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
    num_bytes = _RECORD_BYTES + sum(row["json_bytes"] for row in rows)
    if settings.payload is Payload.FRAMES:
        return _weigh_frames(num_bytes, rows, settings)
    cost = 0.0
    for medium in media_of(rows[0]):
        num_frames, part_s = _frames_in_part(medium)
        most = part_s * settings.rule.max_fps + 1
        num_planned = min(settings.rule.max_frames, num_frames, most)
        num_bytes += int(len(rows) * settings.num_epochs * num_planned * _PLANNED_BYTES)
        if settings.payload is Payload.VIDEO:
            num_bytes += medium["num_bytes"]
        cost += decode_cost(
            width_px=medium["width_px"], height_px=medium["height_px"], num_frames=num_frames
        )
    return num_bytes, [cost] * len(rows)


def _weigh_frames(
    num_bytes: int, rows: list[dict[str, Any]], settings: ShardSettings
) -> tuple[int, list[float]]:
    """Add a clip's planned frames to its other bytes."""
    plans = [draw_plans(row, settings.rule, settings.num_epochs) for row in rows]
    side_px = settings.frame_px
    frame_bytes = int(side_px**2 * _BYTES_PER_PIXEL) + _FRAME_BYTES
    for medium in range(len(plans[0])):
        num_bytes += len(planned_frames(plans, medium)) * frame_bytes
    num_planned_R = [sum(len(plan) for of_one in own for plan in of_one) for own in plans]
    num_bytes += sum(num_planned_R) * _PLANNED_BYTES
    return num_bytes, [
        decode_cost(width_px=side_px, height_px=side_px, num_frames=num / settings.num_epochs)
        for num in num_planned_R
    ]


def _frames_in_part(medium: Mapping[str, Any]) -> tuple[float, float]:
    """Return how many frames a medium's part has, and its length in seconds."""
    part_s = min(medium["clip_end_s"], medium["duration_s"]) - medium["clip_start_s"]
    if medium["modality"] == Modality.IMAGE:
        return 1.0, part_s
    share = part_s / medium["duration_s"] if medium["duration_s"] > 0 else 1.0
    return max(1.0, medium["num_frames"] * share), part_s
