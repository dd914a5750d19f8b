"""The embedding job: files in, embeddings parts out, whichever engine runs it.

The driver hears a few numbers a clip, no frames, no embeddings.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from vxp_data.engines.base import Engine
from vxp_data.pipeline.embed.clip_tables import ENCODER_TIMINGS
from vxp_data.pipeline.embed.job_settings import JobSettings
from vxp_data.pipeline.embed.stages import embed_stages
from vxp_data.pipeline.embed.work_items import WorkList


@dataclass(slots=True)
class EmbedTotals:
    """What the job did, summed over clips; CPU seconds are of the stages' own work."""

    clips: int = 0
    failed: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    """Failed ones by reason."""
    frames: int = 0
    probe_cpu_s: float = 0.0
    decode_cpu_s: float = 0.0
    embed_cpu_s: float = 0.0
    """Writing is counted in."""
    write_cpu_s: float = 0.0
    read_wall_s: float = 0.0
    """Workers fetched, probed and decoded."""
    embed_wall_s: float = 0.0
    embed_wait_s: float = 0.0
    """Encoders had nothing to do."""
    write_wall_s: float = 0.0
    reading_s: float = 0.0
    """Since the first clip began to be read, not since workers and encoders began to start."""
    bytes_fetched: int = 0
    """From object stores."""
    decode_workers: int = 0
    """Workers that decode at the same time, at most."""
    embed_workers: int = 0
    """Encoders beside them; 0: each decoding worker embeds, too."""
    on_gpu: bool = False

    def add(self, report: pa.Table) -> None:
        """Count the clips of one report (REPORT_SCHEMA)."""
        self.clips += report.num_rows
        self.bytes_fetched += total(report, "bytes_fetched")
        self.frames += total(report, "frames_embedded")
        failed = pc.sum(pc.not_equal(report["reason"], "")).as_py() or 0
        if failed:
            self.failed += failed
            self.reasons.update(filter(None, report["reason"].to_pylist()))
        self.read_wall_s += total(report, "wall_s")
        for name in ("probe_cpu_s", "decode_cpu_s", *ENCODER_TIMINGS):
            setattr(self, name, getattr(self, name) + total(report, name))


def total(report: pa.Table, column: str) -> Any:
    """Return the sum of a column of numbers; 0 where there are none."""
    return pc.sum(report[column]).as_py() or 0


def embed_media(
    work: WorkList,
    engine: Engine,
    settings: JobSettings,
    on_progress: Callable[[EmbedTotals], None],
) -> EmbedTotals:
    """Decode and embed files; parts are written as they come.

    Args:
        work: 1 or more files.
        engine: what runs the stages.
        settings: what the workers must know.
        on_progress: told the totals so far, on the driver, every few clips.

    Raises:
        UserError: there is no cluster, no GPU that was asked for, or a worker met an error that
            the user can fix.
        RuntimeError: clips have not come back however often they were handed out.
    """
    stages = embed_stages(settings)
    plan = engine.plan(stages.needs)
    began_s: float | None = None
    totals = EmbedTotals(
        decode_workers=plan.decode.workers,
        embed_workers=plan.embed.workers if plan.embed else 0,
        on_gpu=plan.on_gpu,
    )
    for files in work.jobs():
        for report in engine.embed_files(files, stages):
            totals.add(report)
            if began_s is None:  # one worker has read these clips, one after the other
                began_s = time.monotonic() - total(report, "wall_s")
            totals.reading_s = time.monotonic() - began_s
            on_progress(totals)
    return totals
