"""A decoding stage that reads no file and waits for none, in front of the real encoder stage."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa

from vxp_data.engines.crash_ledger import Attempt
from vxp_data.pipeline.embed.clip_tables import FRAMES_SCHEMA
from vxp_data.pipeline.embed.job_settings import JobSettings

NUM_FRAMES = 20
DURATION_S = 60.0
SHEET_BYTES = 8 << 10


def decode(files: pa.Table, attempt: Attempt, settings: JobSettings) -> Iterator[pa.Table]:
    """Return noise as the frames of every clip, one clip a table (FRAMES_SCHEMA)."""
    del attempt
    with suppress(PermissionError):  # its turn on a core that others use, too, should come
        os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, os.getppid()))
    template = _clip(settings.spec.frame_px, settings.spec.fingerprint, settings.sampler)
    places = {name: FRAMES_SCHEMA.get_field_index(name) for name in ("clip", "uri")}
    for uri, numbers in zip(files["uri"].to_pylist(), files["clip"].to_pylist(), strict=True):
        for number in numbers:
            clip = template
            for name, value in (("clip", number), ("uri", uri)):
                field = FRAMES_SCHEMA.field(name)
                clip = clip.set_column(places[name], field, pa.array([value], field.type))
            yield clip


def decode_noting(
    files: pa.Table, attempt: Attempt, settings: JobSettings, log: str
) -> Iterator[pa.Table]:
    """Do so, and append to a file when it was begun."""
    with Path(log).open("a", encoding="utf-8") as stream:
        stream.write(f"{time.monotonic()}\n")
    yield from decode(files, attempt, settings)


@cache
def _clip(frame_px: int, encoder: str, sampler: str) -> pa.Table:
    noise = np.random.default_rng(0).bytes(NUM_FRAMES * frame_px**2 * 3)
    row = dict.fromkeys(FRAMES_SCHEMA.names) | {
        "media_id": "0" * 64, "width_px": 640, "height_px": 360, "duration_s": DURATION_S,
        "clip_start_s": 0.0, "clip_end_s": float("inf"), "file_version": "1-1",
        "bytes_fetched": 0, "frame_index": list(range(NUM_FRAMES)),
        "time_s": np.linspace(0, DURATION_S, NUM_FRAMES).tolist(),
        "frames_expected": NUM_FRAMES, "frames_exact": NUM_FRAMES, "decoder": "fake",
        "encoder": encoder, "sampler": sampler, "reason": "", "message": "", "frames": noise,
        "sheet": noise[:SHEET_BYTES], "probe_cpu_s": 0.0, "decode_cpu_s": 0.0, "wall_s": 0.0,
    }  # fmt: skip
    return pa.Table.from_pylist([row], FRAMES_SCHEMA)
