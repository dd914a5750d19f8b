"""`make demo`: make some videos, prune them, show what happened and where it lies.

With `--videos DIR`, the user's own videos are pruned instead of made ones.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from demo_videos import make_videos

from vxp_data.cli import app
from vxp_data.errors import VxpError

RUN = Path("runs/demo")


def main() -> int:
    """Make or take videos, run `vxp-data prune` on them, tell what to try next."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=Path, help="a folder of your own videos")
    videos: Path | None = parser.parse_args().videos
    if videos is None:
        print("Making 26 short videos in runs/demo-videos ...", flush=True)
        manifest = make_videos(Path("runs/demo-videos"))
    else:
        manifest = videos
    command = ["prune", str(manifest), "--out", str(RUN), "--recipe", "pipelines/demo.yaml"]
    print("$ vxp-data " + " ".join(command), flush=True)
    try:
        app(command, standalone_mode=False)
    except VxpError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(
        f"\nEverything lies in {RUN}: decisions.parquet has a row, score and reason for each row."
    )
    print(f"Decide again, without touching a video:  .venv/bin/vxp-data decide {RUN} --keep 0.3")
    return 0


if __name__ == "__main__":
    sys.exit(main())
