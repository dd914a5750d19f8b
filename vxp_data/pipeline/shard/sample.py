"""`vxp-data sample`: the kept rows' sampling plans. Touches no video, starts no workers."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from vxp_data.core.frame_plan_counts import PlanCounts
from vxp_data.core.sampling_plans import SamplingPlan, SamplingRule
from vxp_data.errors import UserError
from vxp_data.pipeline.run_dir.directory import RunDirectory, open_run, write_batches
from vxp_data.pipeline.run_dir.lock import run_lock
from vxp_data.pipeline.shard.frame_plans import draw_plans, media_of
from vxp_data.pipeline.shard.kept_rows import kept_rows
from vxp_data.records import Modality
from vxp_data.schemas import PLAN_SCHEMA
from vxp_data.settings.prune import load_config

_COLUMNS: Final = [
    "sample_id", "modality", "media_id", "timeline", "duration_s", "fps", "clip_start_s",
    "clip_end_s", "clips",
]  # fmt: skip
_ROWS_PER_GROUP: Final = 2000
_EPOCHS: Final = "shard.num_epochs"
_COMPARED: Final = ("variable", "fixed_fps")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled:
    """What was planned, counted."""

    rule: SamplingRule
    num_epochs: int
    num_rows: int
    """Kept rows with videos or images; each medium has a plan an epoch."""
    num_text_rows: int
    """Kept rows without media, and so without a plan."""
    num_frames: int
    """Planned frames, over all rows and epochs."""
    counts: PlanCounts
    """Of epoch 0, rows with a video only."""


def sample_run(
    out: Path | str,
    overrides: Sequence[tuple[str, Any, str]],
    draw: Callable[[PlanCounts], bytes],
) -> tuple[RunDirectory, Sampled]:
    """Plan every kept row; write plans.parquet, sampling.png and, last, run.json.

    Args:
        out: path or URI of a finished run's directory.
        overrides: (dotted key, value, origin) over the run's own settings: of the section
            `sampling`, and `shard.num_epochs`, the epochs to plan. The run keeps them.
        draw: draws the figure, a PNG.

    Raises:
        UserError: there is no finished run, a setting does not fit, or something cannot be written.
    """
    for key, _, origin in overrides:
        if not key.startswith("sampling.") and key != _EPOCHS:
            raise UserError(f"{origin}: `sample` takes settings of the section sampling only.")
    run = open_run(out)
    run.read_run()  # before a lock is put where no run is
    with run_lock(run.root, "vxp-data sample") as lock:
        record = run.read_run()
        config = load_config(None, overrides, run_settings=record["config"]).config
        sampled = _write_plans(run, config.sampling, config.shard.num_epochs)
        run.root.write_bytes(run.sampling_figure.name, draw(sampled.counts))
        record["config"] = config.model_dump(mode="json")
        record["sampled"] = {
            name: getattr(sampled, name)
            for name in ("num_epochs", "num_rows", "num_text_rows", "num_frames")
        }
        lock.check()
        run.write_run({k: v for k, v in record.items() if k != "format_version"})
    return run, sampled


def _write_plans(run: RunDirectory, rule: SamplingRule, num_epochs: int) -> Sampled:
    kept = kept_rows(run, without=("annotation", "turns")).select(_COLUMNS)
    tally = _Tally(rule)
    schema = PLAN_SCHEMA.with_metadata({"sampling": json.dumps(rule.to_dict())})
    write_batches(run.plans, schema, _tables(kept, tally, num_epochs, schema))
    return Sampled(
        rule=rule,
        num_epochs=num_epochs,
        num_rows=tally.num_rows,
        num_text_rows=kept.num_rows - tally.num_rows,
        num_frames=tally.num_frames,
        counts=tally.counts(),
    )


@dataclass(slots=True)
class _Tally:
    """Counts plans as they go by, and how many frames other policies would give in epoch 0."""

    rule: SamplingRule
    num_rows: int = 0
    num_frames: int = 0
    duration_s: list[float] = field(default_factory=list)
    frames_of: dict[str, list[int]] = field(init=False)

    def __post_init__(self) -> None:
        self.frames_of = {policy: [] for policy in (self.rule.policy, *_COMPARED)}

    def add(self, row: dict[str, Any], plans: list[list[SamplingPlan]]) -> None:
        """Count one row's plans, those of all its media together."""
        self.num_rows += bool(plans)
        self.num_frames += sum(len(plan) for of_one in plans for plan in of_one)
        if row["modality"] != Modality.VIDEO:
            return
        self.duration_s.append(math.fsum(of_one[0].duration_s for of_one in plans))
        for policy, frames in self.frames_of.items():
            own = plans
            if policy != self.rule.policy:
                own = draw_plans(row, dataclasses.replace(self.rule, policy=policy), 1)
            frames.append(sum(len(of_one[0]) for of_one in own))

    def counts(self) -> PlanCounts:
        """Return the distribution."""
        return PlanCounts(
            duration_s_R=np.array(self.duration_s, dtype=np.float64),
            frames_R_of={
                policy: np.array(frames, dtype=np.int64)
                for policy, frames in self.frames_of.items()
            },
            max_frames=self.rule.max_frames,
        )


def _tables(
    kept: pa.Table, tally: _Tally, num_epochs: int, schema: pa.Schema
) -> Iterator[pa.Table]:
    for first in range(0, kept.num_rows, _ROWS_PER_GROUP):
        columns: dict[str, list[Any]] = {name: [] for name in schema.names}
        for row in kept.slice(first, _ROWS_PER_GROUP).to_pylist():
            plans = draw_plans(row, tally.rule, num_epochs)
            tally.add(row, plans)
            for number, (medium, own) in enumerate(zip(media_of(row), plans, strict=True)):
                for plan in own:
                    about = {"sample_id": row["sample_id"], "medium": number}
                    for name, value in (about | _plan_row(medium, plan)).items():
                        columns[name].append(value)
        yield pa.table(columns, schema=schema)


def _plan_row(medium: Mapping[str, Any], plan: SamplingPlan) -> dict[str, Any]:
    return {
        "media_id": medium["media_id"],
        "epoch": plan.epoch,
        "policy": plan.policy,
        "fps": plan.fps,
        "num_frames": len(plan),
        "frame_index": plan.frame_index_F,
        "time_s": plan.time_s_F,
        "duration_s": plan.duration_s,
        "source_fps": plan.source_fps,
        "max_frames": plan.max_frames,
        "seed": plan.seed,
    }
