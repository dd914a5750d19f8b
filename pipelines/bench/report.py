"""Time `vxp-data report` on a synthetic run with contact sheets.

    python pipelines/bench/report.py [--rows 250000 --videos 100000]

No video: numbers and drawn scenes. The command runs in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import records
from plan import measured
from synthetic_run import write_synthetic_run

LIMIT_BYTES: Final = 10_000_000


def main(argv: Sequence[str] | None = None) -> None:
    """Make the run, time the command, write the record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=250_000)
    parser.add_argument("--videos", type=int, default=100_000)
    parser.add_argument("--page", type=Path, help="keep the page there")
    parser.add_argument("--out", type=Path, default=records.RUNS / "report.json", help="record")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="vxp-bench-") as temporary:
        run = Path(temporary) / "synthetic"
        write_synthetic_run(
            run, num_rows=options.rows, num_videos=options.videos, seed=0, sheets=True
        )
        page = options.page or Path(temporary) / "report.html"
        facts: dict[str, Any] = {
            "rows": options.rows,
            "videos": options.videos,
            "report": measured(["report", str(run), "--out", str(page)]),
            "page_bytes": page.stat().st_size,
        }
    facts["page_under_10_mb"] = facts["page_bytes"] < LIMIT_BYTES
    print(json.dumps(facts, indent=1))
    numbers = ["--rows", str(options.rows), "--videos", str(options.videos)]
    records.write_record(
        options.out.stem,
        facts,
        argv=["pipelines/bench/report.py", *numbers],
        folder=options.out.parent,
    )


if __name__ == "__main__":
    main()
