"""What is measured while a run embeds, every few seconds: for `vxp-data watch` and for Prometheus.

A thread of its own writes it, from what the driver hears anyhow. Should it fail, the run goes on.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from typing import Any, Final

from vxp_data.engines.base import Activity, Engine
from vxp_data.errors import UserError
from vxp_data.pipeline.embed.job import EmbedTotals
from vxp_data.pipeline.embed.metrics_endpoint import metrics_endpoint
from vxp_data.pipeline.run_dir.directory import RunDirectory
from vxp_data.pipeline.run_dir.metrics_segments import EMBEDDED, MetricsSegments, metrics_folder

_EVERY_S: Final = 5.0
_EVERY_IN_STORE_S: Final = 30.0
_MOST_S: Final = 60.0
_LINES_AT_FULL_RATE: Final = 720
"""Of a run that takes long, fewer and fewer lines an hour: a week makes 10 MB."""
_RECENT_S: Final = 60.0
"""Rates are of so long, or of the last two lines."""
_BUSY_SHARE: Final = 0.85
"""Encoders that are busy for so much of their time are what others wait for."""


class RunMetrics:
    """Measures a run while it embeds.

    Args:
        run: where to.
        engine: what embeds.
        num_clips: that are to be embedded.
        num_before: that were before.
        num_files: that are to be read.
        every_s: seconds between lines, at first; None: by where the run lies.
    """

    def __init__(
        self,
        run: RunDirectory,
        engine: Engine,
        *,
        num_clips: int,
        num_before: int,
        num_files: int,
        every_s: float | None = None,
    ) -> None:
        self._run, self._engine = run, engine
        self._counts = {"todo": num_clips, "before": num_before}
        self._num_files = num_files
        usual_s = _EVERY_IN_STORE_S if run.root.is_remote else _EVERY_S
        self._every_s = usual_s if every_s is None else every_s
        self._segments: MetricsSegments | None = None
        self._totals = EmbedTotals()
        self._began_s = time.monotonic()
        self._recent: deque[tuple[float, int, float, float]] = deque([(self._began_s, 0, 0.0, 0.0)])
        """Time, clips, and seconds that encoders worked and waited, of the last lines."""
        self._ended = threading.Event()
        self._latest: dict[str, float] = {}
        self._thread = threading.Thread(target=self._keep_writing, daemon=True)

    def heard(self, totals: EmbedTotals) -> None:
        """Take the totals so far; they are read where they are."""
        self._totals = totals

    def figures(self) -> Mapping[str, float]:
        """Return the latest line as figures by name; see docs/prune.md."""
        return self._latest

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def end(self, state: str) -> None:
        """Write the last line, with what has become of the run."""
        self._ended.set()
        self._thread.join()
        self._write(state)

    def _keep_writing(self) -> None:
        with suppress(OSError, UserError):
            self._segments = MetricsSegments(metrics_folder(self._run.root))
        self._write("embedding")
        while not self._ended.wait(self._interval_s()):
            self._write("embedding")

    def _interval_s(self) -> float:
        grown_s = (time.monotonic() - self._began_s) / _LINES_AT_FULL_RATE
        return max(self._every_s, min(grown_s, _MOST_S))

    def _write(self, state: str) -> None:
        line = self._line(state)
        self._latest = figures_of(line)
        if self._segments is not None:
            with suppress(OSError, UserError):  # a full disk ends what the run itself writes
                self._segments.write(line)
        self._engine.publish(self._latest)

    def _line(self, state: str) -> dict[str, Any]:
        totals, activity = self._totals, self._engine.activity()
        rate, busy = self._rates()
        return {
            "time_s": round(time.time(), 3),
            "elapsed_s": round(time.monotonic() - self._began_s, 3),
            "next_s": round(self._interval_s(), 3),
            "state": state,
            "clips": {**self._counts, "done": totals.clips, "failed": totals.failed},
            "files_todo": self._num_files,
            "frames": totals.frames,
            "bytes_fetched": totals.bytes_fetched,
            "stages": stage_seconds(totals),
            "queue": {
                "clips_waiting": activity.clips_waiting,
                "decoders_paused": activity.decoders_paused,
            },
            "workers": {
                "decode": totals.decode_workers,
                "embed": totals.embed_workers,
                "on_gpu": totals.on_gpu,
            },
            "nodes": [asdict(node) for node in activity.nodes],
            "quarantine": dict(sorted(dict(totals.reasons).items())),
            "clips_per_s": rate,
            "encoder_busy": busy,
            "bound_by": bound_by(totals, activity, busy),
        }

    def _rates(self) -> tuple[float | None, float | None]:
        """Return clips a second, and the share of their time that encoders work: of late."""
        totals, now_s = self._totals, time.monotonic()
        while len(self._recent) > 1 and now_s - self._recent[0][0] > _RECENT_S:
            self._recent.popleft()
        then_s, clips, worked_s, waited_s = self._recent[0]
        self._recent.append((now_s, totals.clips, totals.embed_wall_s, totals.embed_wait_s))
        worked_s, waited_s = totals.embed_wall_s - worked_s, totals.embed_wait_s - waited_s
        rate = (
            (totals.clips - clips) / (now_s - then_s) if totals.clips and now_s > then_s else None
        )
        is_known = totals.embed_workers and worked_s + waited_s > 0
        busy = worked_s / (worked_s + waited_s) if is_known else None
        return _rounded(rate), _rounded(busy)


@contextmanager
def run_metrics(
    run: RunDirectory,
    engine: Engine,
    *,
    num_clips: int,
    num_before: int,
    num_files: int,
    port: int | None,
) -> Iterator[RunMetrics]:
    """Measure a run for the length of a block.

    Args:
        run: where to.
        engine: what embeds.
        num_clips: that are to be embedded.
        num_before: that were before.
        num_files: that are to be read.
        port: of an endpoint for Prometheus; None: there is none.

    Raises:
        UserError: the port is in use.
    """
    metrics = RunMetrics(
        run, engine, num_clips=num_clips, num_before=num_before, num_files=num_files
    )
    with ExitStack() as stack:
        if port is not None:
            stack.enter_context(metrics_endpoint(port, metrics.figures))
        metrics.start()
        state = "stopped"
        try:
            yield metrics
            state = EMBEDDED
        finally:
            metrics.end(state)


def stage_seconds(totals: EmbedTotals) -> dict[str, dict[str, float]]:
    """Return the seconds of each stage, summed over workers; reading is fetch, probe and decode."""
    seconds = {
        "probe": {"cpu_s": totals.probe_cpu_s},
        "decode": {"cpu_s": totals.decode_cpu_s},
        "read": {"wall_s": totals.read_wall_s},
        "embed": {
            "cpu_s": totals.embed_cpu_s - totals.write_cpu_s,
            "wall_s": totals.embed_wall_s,
            "wait_s": totals.embed_wait_s,
        },
        "write": {"cpu_s": totals.write_cpu_s, "wall_s": totals.write_wall_s},
    }
    return {
        stage: {name: round(value, 3) for name, value in own.items()}
        for stage, own in seconds.items()
    }


def bound_by(totals: EmbedTotals, activity: Activity, busy: float | None) -> str | None:
    """Return what a run would be faster with more of: 'decoding' or 'encoder'; None: not known yet.

    It is the encoders where they are busy for _BUSY_SHARE of their time, or where half of the
    decoding workers wait for them; else decoding.
    """
    if not totals.clips:
        return None
    paused, decoders = activity.decoders_paused, totals.decode_workers
    if totals.embed_workers and paused is not None and paused * 2 >= decoders:
        return "encoder"
    if totals.embed_workers and busy is None:
        return None
    return "encoder" if busy is not None and busy >= _BUSY_SHARE else "decoding"


def figures_of(line: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a line by names that Prometheus takes."""
    figures = {
        **{f"clips_{name}": value for name, value in line["clips"].items()},
        **{f"queue_{name}": value for name, value in line["queue"].items()},
        **{
            f"{stage}_{name}": value
            for stage, own in line["stages"].items()
            for name, value in own.items()
        },
        **{f"quarantine_{reason}": number for reason, number in line["quarantine"].items()},
        "decode_workers": line["workers"]["decode"],
        "embed_workers": line["workers"]["embed"],
        "nodes": len(line["nodes"]),
    }
    for name in ("files_todo", "frames", "bytes_fetched", "clips_per_s", "encoder_busy"):
        figures[name] = line[name]
    return {f"vxp_{name}": float(value) for name, value in figures.items() if value is not None}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
