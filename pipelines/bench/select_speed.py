"""Time `vxp-data plan --select` with each selector on a synthetic run of as many clips as rows.

    python pipelines/bench/select_speed.py [--clips 200000 --dim 1280]

The run is made of numbers alone, drawn with a fixed seed: scores, lengths, and each clip's mean
embedding. Every command runs in a process of its own, as a user runs it, on one thread.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import records
from plan import measured
from synthetic_run import write_synthetic_run

SELECTORS: Final = (
    "none", "random", "intra_by_duration", "gdo_lite", "decorrelate", "cluster_quota", "coverage",
)  # fmt: skip
LIMIT_S: Final = 120.0
LIMIT_BYTES: Final = 6_000_000_000


def main(argv: Sequence[str] | None = None) -> None:
    """Make the run, time the selectors, write the record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--clips", type=int, default=200_000)
    parser.add_argument("--dim", type=int, default=1280)
    parser.add_argument("--selectors", nargs="+", default=SELECTORS)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--out", type=Path, default=records.RUNS / "select-speed.json")
    options = parser.parse_args(argv)
    os.environ["OMP_NUM_THREADS"] = "1"
    facts: dict[str, Any] = {"clips": options.clips, "dim": options.dim, "threads": 1}
    with tempfile.TemporaryDirectory(prefix="vxp-bench-") as temporary:
        run = Path(temporary) / "run"
        num = options.clips
        # In a process of its own: a child's peak memory begins with what its parent holds.
        sizes = {"num_rows": num, "num_videos": num, "seed": 0, "dim": options.dim}
        writer = multiprocessing.get_context("spawn").Process(
            target=write_synthetic_run, args=(run,), kwargs=sizes
        )
        writer.start()
        writer.join()
        for name in options.selectors:
            words = ["plan", str(run), "--select", name, "--keep", "0.25", "--json"]
            facts[name] = measured([*words, "--set", "selection.across=all"], options.repeats)
    chosen = [facts[name] for name in options.selectors]
    facts["under_2_minutes"] = all(each["wall_s"] < LIMIT_S for each in chosen)
    facts["under_6_gb"] = all(each["peak_resident_mb"] * 1e6 < LIMIT_BYTES for each in chosen)
    print(json.dumps(facts, indent=1))
    records.write_record(
        options.out.stem,
        facts,
        argv=["pipelines/bench/select_speed.py", "--clips", str(num), "--dim", str(options.dim)],
        folder=options.out.parent,
    )


if __name__ == "__main__":
    main()
