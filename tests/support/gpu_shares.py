"""A run on a local Ray that is told of a GPU: writes what each decoding task has of it.

python -m support.gpu_shares
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from support.stages import file_rows
from vxp_data.engines.base import EmbedStages
from vxp_data.engines.choose import open_engine
from vxp_data.engines.crash_ledger import Attempt
from vxp_data.engines.stage_plan import EncoderNeeds
from vxp_data.settings.cluster import ClusterConfig


def decode(files: pa.Table, attempt: Attempt) -> Iterator[pa.Table]:
    """Report, for each clip, this task's share and the GPU that it sees."""
    resources = {}
    if "ray" in sys.modules:
        import ray

        resources = ray.get_runtime_context().get_assigned_resources()
    for row in files.to_pylist():
        attempt.enter(row["uri"])
        for clip in row["clip"]:
            seen = os.environ.get("CUDA_VISIBLE_DEVICES")
            wait_for_others(Path(row["uri"]).parent, seen)
            yield pa.table({"clip": [clip], "share": [resources.get("GPU", 0.0)], "seen": [seen]})
    attempt.leave()


def wait_for_others(folder: Path, seen: str | None) -> None:
    """Wait, in a folder made for it, until workers with two GPUs are there."""
    if not folder.is_absolute():
        return
    (folder / f"gpu {seen}").touch()
    until_s = time.monotonic() + 60
    while len(list(folder.iterdir())) < 2 and time.monotonic() < until_s:
        time.sleep(0.05)
    (folder / "nobody waits any more").touch()


NEEDS = EncoderNeeds(in_decode_task=True, device="cuda", clip_bytes=1, decodes_on_gpu=True)
STAGES = EmbedStages(decode=decode, start_encoder=None, needs=NEEDS)


def main() -> None:
    """Run it."""
    cluster = ClusterConfig(engine="ray", num_cpus=2, num_gpus=1, object_store_mib=128)
    with open_engine(cluster) as engine:
        reports = list(engine.embed_files(file_rows(["a", "b", "c"]), STAGES))
    sys.stdout.write(json.dumps(pa.concat_tables(reports).to_pylist()))


if __name__ == "__main__":
    main()
