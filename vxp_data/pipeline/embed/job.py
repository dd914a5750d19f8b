"""The embedding job: files in, embeddings parts out, whichever engine runs it.

The driver hears a few numbers a clip, no frames, no embeddings.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from vxp_data.engines.base import Engine
from vxp_data.pipeline.embed.job_settings import JobSettings
from vxp_data.pipeline.embed.stages import embed_stages, file_table
from vxp_data.pipeline.media.clips import MediaItem

FILES_PER_JOB: Final = 500_000
"""Files that an engine is given at a time: what it keeps of each on the driver is bounded so."""


@dataclass(slots=True)
class EmbedTotals:
    """What the job did, summed over clips; CPU seconds are of the stages' own work."""

    clips: int = 0
    failed: int = 0
    probe_cpu_s: float = 0.0
    decode_cpu_s: float = 0.0
    embed_cpu_s: float = 0.0
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
        self.bytes_fetched += sum(report["bytes_fetched"].to_pylist())
        self.failed += sum(1 for reason in report["reason"].to_pylist() if reason)
        for stage in ("probe", "decode", "embed"):
            name = f"{stage}_cpu_s"
            setattr(self, name, getattr(self, name) + sum(report[name].to_pylist()))


def embed_media(
    items: Sequence[MediaItem],
    engine: Engine,
    settings: JobSettings,
    on_progress: Callable[[EmbedTotals], None],
) -> EmbedTotals:
    """Decode and embed files; parts are written as they come.

    Args:
        items: 1 or more files, dearest first.
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
    for first in range(0, len(items), FILES_PER_JOB):
        files = file_table(items[first : first + FILES_PER_JOB])
        for report in engine.embed_files(files, stages):
            totals.add(report)
            if began_s is None:  # one worker has read these clips, one after the other
                began_s = time.monotonic() - sum(report["wall_s"].to_pylist())
            totals.reading_s = time.monotonic() - began_s
            on_progress(totals)
    return totals
