"""`make demo`: make some videos, prune them, plan and shard what was kept, read the shards back.

With `--videos DIR`, the user's own videos are taken instead of made ones.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
from demo_videos import make_videos

from vxp_data.cli import app
from vxp_data.engines.choose import one_engine
from vxp_data.errors import VxpError
from vxp_data.settings.prune import load_config

RUN = Path("runs/demo")
SHARDS = Path("runs/demo-shards")
RECIPE = Path("pipelines/demo.yaml")


def main() -> int:
    """Make or take videos, run every step of `vxp-data` on them, tell what to try next."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=Path, help="a folder of your own videos")
    videos: Path | None = parser.parse_args().videos
    if videos is None:
        print("Making 26 short videos in runs/demo-videos ...", flush=True)
        manifest = make_videos(Path("runs/demo-videos"))
    else:
        manifest = videos
    shutil.rmtree(SHARDS, ignore_errors=True)  # of an earlier demo, perhaps over other videos
    try:
        with one_engine(load_config(RECIPE, []).config.cluster):  # starts nothing twice
            run("prune", str(manifest), "--out", str(RUN), "--recipe", str(RECIPE))
            run("sample", str(RUN))
            run("shard", str(RUN), "--out", str(SHARDS), "--world-size", "2")
        read_back()
    except VxpError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(f"\nEverything lies in {RUN} and {SHARDS}: decisions.parquet has a row, score and reason")
    print("for each input row. Decide again, without touching a video:")
    print(f"  .venv/bin/vxp-data decide {RUN} --keep 0.3")
    return 0


def run(*command: str) -> None:
    """Run a command of vxp-data here."""
    print("$ vxp-data " + " ".join(command), flush=True)
    app(list(command), standalone_mode=False)
    print()


def read_back() -> None:
    """Read one epoch of the shards as training does; every kept row must come exactly once."""
    from vxp_model.data.loader import ShardLoader

    print("Reading one epoch back with vxp_model's loader ...", flush=True)
    decisions = pq.read_table(RUN / "decisions.parquet", filters=[("decision", "==", "keep")])
    kept = decisions["sample_id"].to_pylist()
    loader = ShardLoader(str(SHARDS), num_workers=0)
    try:
        samples = [sample for batch in loader for sample in batch.samples]
    finally:
        loader.close()
    if Counter(sample.sample_id for sample in samples) != Counter(kept):
        raise VxpError(f"{len(kept)} rows were kept, {len(samples)} came back: not the same")
    num_frames = sum(0 if s.frames_THWC is None else len(s.frames_THWC) for s in samples)
    print(f"{len(samples)} samples with {num_frames} frames: each kept row came exactly once.")


if __name__ == "__main__":
    sys.exit(main())
