"""A training script that stops somewhere in an epoch: `SHARDS HOW START_METHOD TRACKER`."""

from __future__ import annotations

import multiprocessing.resource_tracker
import os
import signal
import sys

from vxp_model.data.frames import FrameOptions
from vxp_model.data.loader import ShardLoader

KEPT = []


def main(shards: str, how: str, start_method: str, tracker: str) -> None:
    if tracker == "loud":  # as where another library has started it before
        multiprocessing.resource_tracker.ensure_running()
    loader = ShardLoader(
        shards, num_workers=1, frames=FrameOptions(frame_px=32), start_method=start_method
    )
    for _ in loader:
        if how == "returns":
            return
        if how == "keeps":
            KEPT.append(loader)
            return
        if how == "raises":
            raise RuntimeError("stopped on purpose")
        if how == "is_killed":
            os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main(*sys.argv[1:])
