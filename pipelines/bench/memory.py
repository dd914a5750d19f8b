"""Measure what the driver of a prune and its processes hold, and whether frames are spilled.

    python pipelines/bench/memory.py [--engine local] [--small 5000 --large 20000]

Two prunes over so many links to tiny videos, with a decoder that reads no file and an encoder that
looks at few pixels; all else is the real thing: gate, sandbox, 20 frames of 384 px a clip on their
way to the encoders, parts, scores, decisions. The two runs give what a further clip takes of the
driver, and the phase in which the peak was says what takes it.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import psutil
import records
from prune import link_videos

POLL_S: Final = 0.2
FAKE: Final = Path(__file__).parent / "fake"
ENTRY_POINTS: Final = (
    "[vxp_data.decoders]\nfake = fake_media:FakeDecoder\n"
    "[vxp_data.encoders]\nfake = fake_media:FakeEncoder\n"
)
LIMIT_BYTES: Final = 1_500_000_000


class Peaks:
    """Most memory that was held in each phase, bytes: by this process, and by those below it."""

    def __init__(self) -> None:
        self.phase = "start"
        self.private: dict[str, int] = {}
        """Without shared memory."""
        self.resident: dict[str, int] = {}
        self.children: dict[str, int] = {}
        """Proportional: memory that several share is counted once."""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._poll, daemon=True)
        self._thread.start()

    def _poll(self) -> None:
        process = psutil.Process()
        while not self._ended.wait(POLL_S):
            held = process.memory_info()
            for table, value in (
                (self.private, held.rss - held.shared),
                (self.resident, held.rss),
                (self.children, sum(map(proportional_bytes, process.children(recursive=True)))),
            ):
                table[self.phase] = max(table.get(self.phase, 0), value)

    def end(self) -> None:
        """Stop looking."""
        self._ended.set()
        self._thread.join()


def proportional_bytes(process: psutil.Process) -> int:
    """Return what a process holds, its part of what is shared; 0 where it has ended."""
    try:
        pss: int = process.memory_full_info().pss
    except psutil.Error:
        return 0
    return pss


def register_fakes(folder: Path) -> None:
    """Offer decoder and encoder 'fake' to this process and all that it starts."""
    metadata = folder / "fake_media-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: fake_media\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(ENTRY_POINTS)
    paths = [str(folder), str(FAKE)]
    sys.path[:0] = paths
    os.environ["PYTHONPATH"] = os.pathsep.join([*paths, os.environ.get("PYTHONPATH", "")])


def spilled_bytes() -> int:
    """Ask the running Ray how much its object store has written to disk so far."""
    import ray
    from ray._private.internal_api import memory_summary

    address = ray.get_runtime_context().gcs_address
    summary: str = memory_summary(address, stats_only=True)
    found = re.search(r"Spilled (\d+) MiB", summary)
    return int(found.group(1)) << 20 if found else 0


def run_one(manifest: Path, out: Path, engine: str) -> dict[str, Any]:
    """Prune in this process; return what it held."""
    from vxp_data.engines.choose import one_engine
    from vxp_data.manifests.datasets import resolve_datasets
    from vxp_data.pipeline.prune import Observer, prune
    from vxp_data.settings.prune import load_config

    overrides = {
        "decode.decoder": "fake",
        "decode.fallback": None,
        "encoder.name": "fake",
        "cluster.num_cpus": 2,
        "cluster.engine": engine,
    }
    loaded = load_config(None, [(name, value, "bench") for name, value in overrides.items()])
    peaks = Peaks()

    class Phases(Observer):
        def started(self, num_clips: int, num_done: int) -> None:
            del num_clips, num_done
            peaks.phase = "embed"

        def ended(self) -> None:
            peaks.phase = "score and decide"

    started_s = time.monotonic()
    with one_engine(loaded.config.cluster):
        result = prune(resolve_datasets([manifest], None), loaded, str(out), Phases())
        wall_s = time.monotonic() - started_s
        spilled = spilled_bytes() if engine == "ray" else 0
    peaks.end()
    return {
        "media": result.decided.num_in,
        "kept": result.decided.num_kept,
        "wall_s": round(wall_s, 1),
        "media_per_s": round(result.decided.num_in / wall_s, 1),
        "driver_peak_resident_mb": {k: round(v / 1e6) for k, v in peaks.resident.items()},
        "driver_peak_private_mb": {k: round(v / 1e6) for k, v in peaks.private.items()},
        "processes_peak_mb": {k: round(v / 1e6) for k, v in peaks.children.items()},
        "frames_on_their_way_mb": round(result.decided.num_in * 20 * 384 * 384 * 3 / 1e6),
        "spilled_mb": round(spilled / 1e6),
        "run_directory_bytes_per_media": _folder_bytes(out) // result.decided.num_in,
    }


def _folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def figures(small: dict[str, Any], large: dict[str, Any]) -> dict[str, Any]:
    """Lay a line through the two runs, phase by phase."""
    further = large["media"] - small["media"]
    name = "driver_peak_private_mb"
    slope = {
        phase: round(1e6 * (large[name][phase] - small[name][phase]) / further)
        for phase in large[name]
        if phase in small[name]
    }
    peak = 1e6 * max(large["driver_peak_resident_mb"].values())
    return {
        "driver_peak_under_limit": peak < LIMIT_BYTES,
        "nothing_spilled": not large["spilled_mb"],
        "driver_bytes_per_further_media": slope,
        "runs": [small, large],
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Make the links, prune few and many, each in a process of its own, write the record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--small", type=int, default=5000, help="media of the shorter run")
    parser.add_argument("--large", type=int, default=20_000, help="media of the longer run")
    parser.add_argument("--out", type=Path, default=records.RUNS / "memory.json", help="record")
    parser.add_argument("--one", nargs=2, metavar=("MANIFEST", "RUN"), help=argparse.SUPPRESS)
    parser.add_argument("--engine", default="local", help="local or ray")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="vxp-bench-") as temporary:
        folder = Path(temporary)
        if options.one:
            register_fakes(folder / "fakes")
            print(json.dumps(run_one(*map(Path, options.one), options.engine)))
            return
        runs = [
            _run_apart(number, folder, options.engine) for number in (options.small, options.large)
        ]
    facts = {"engine": options.engine, **figures(*runs)}
    print(json.dumps(facts, indent=1))
    command = ["pipelines/bench/memory.py", "--engine", options.engine]
    command += ["--small", options.small, "--large", options.large]
    records.write_record(
        options.out.stem, facts, argv=[*map(str, command)], folder=options.out.parent
    )


def tiny_videos(folder: Path) -> list[Path]:
    """Draw the demo's videos below a folder, once; return four of the smallest."""
    sys.path.insert(0, str(records.ROOT / "pipelines"))
    scenes = folder / "scenes"
    if not scenes.is_dir():
        importlib.import_module("demo_videos").make_videos(scenes)
    return sorted((scenes / "videos").iterdir(), key=lambda path: path.stat().st_size)[2:6]


def _run_apart(number: int, folder: Path, engine: str) -> dict[str, Any]:
    manifest = link_videos(tiny_videos(folder), number, folder / str(number))
    command = [sys.executable, __file__, "--one", str(manifest), str(folder / f"run-{number}")]
    command += ["--engine", engine]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    facts: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(f"{number} media: {facts['wall_s']} s", file=sys.stderr, flush=True)
    return facts


if __name__ == "__main__":
    main()
