"""Count media per second over 1 to 64 workers whose decoding and embedding only wait.

    python pipelines/bench/scaling.py [--engine local] [--workers 1,2,4,8,16,32,64] [--videos DIR]

With a folder, its videos are pruned first, by 1 worker process and by 2 (`thumbnail`). Then files
that only wait: all but the decoder and the encoder is the real thing: gate, sandboxed children,
the engine, parts, scores, decisions. A file waits 3 s to be decoded and 1 s to be embedded, in one
task, and uses next to no core for it, so that one machine can have many more workers than cores.
What counts is what came per second in the middle half of a run, its efficiency that against
workers / 4 s. What binds here in the end are the cores that the driver shares with all workers; the
driver's own CPU time a file says where it would bind if it had a core alone.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import psutil
import records
from memory import register_fakes, tiny_videos
from prune import POLL_S, Tree, link_videos

DECODE_S: Final = 3.0
EMBED_S: Final = 1.0
FILE_S: Final = DECODE_S + EMBED_S
FRAME_PX: Final = 32
FILES_A_WORKER: Final = 16
FEWEST_FILES: Final = 24
REAL_WORKERS: Final = (1, 2)
REAL_FILES: Final = 240
FAKES: Final = {
    "decode.decoder": "fake",
    "decode.fallback": None,
    "encoder.name": "fake",
    "thumbnails.max_bytes": 0,
}
REAL: Final = {"encoder.name": "thumbnail", "thumbnails.max_bytes": 0}
"""Settings of a prune that waits, and of one that works."""
MEMORY_A_WORKER: Final = 8 << 30
"""What Ray is told to have, bytes: nothing of it is used."""
ENOUGH: Final = 0.9
DRIVER: Final = ("command", "gcs_server", "ray data's own actors")
"""Kinds of processes of which a cluster has one, whatever its size."""


def run_one(
    manifest: Path, out: Path, workers: int, settings: Mapping[str, Any]
) -> dict[str, float]:
    """Prune in this process; return the files a second of the middle half."""
    from vxp_data.manifests.datasets import resolve_datasets
    from vxp_data.pipeline.embed.job import EmbedTotals
    from vxp_data.pipeline.prune import Observer, prune
    from vxp_data.settings.prune import load_config

    loaded = load_config(None, [(name, value, "bench") for name, value in settings.items()])
    seen: list[tuple[float, int]] = []

    class Times(Observer):
        def progressed(self, totals: EmbedTotals) -> None:
            seen.append((time.monotonic(), totals.clips))

    if settings["cluster.engine"] == "ray":
        import ray

        ray.init(
            address="local",
            num_cpus=workers,
            object_store_memory=1 << 30,
            include_dashboard=False,
            _memory=workers * MEMORY_A_WORKER,
            log_to_driver=False,
        )
    started_s = time.monotonic()
    result = prune(resolve_datasets([manifest], None), loaded, str(out), Times())
    wall_s = time.monotonic() - started_s
    number = result.decided.num_in
    if result.decided.num_quarantined:
        raise SystemExit(f"{result.decided.num_quarantined} of {number} files were quarantined")
    middle = [(at_s, done) for at_s, done in seen if 0.25 * number <= done <= 0.75 * number]
    (first_s, first), (last_s, last) = middle[0], middle[-1]
    return {"files": number, "wall_s": wall_s, "files_per_s": (last - first) / (last_s - first_s)}


def measure(
    workers: int, videos: Sequence[Path], folder: Path, engine: str, *, real: bool = False
) -> dict[str, Any]:
    """Prune with so many workers in a process of its own; return speed and CPU seconds."""
    number = REAL_FILES if real else max(FEWEST_FILES, FILES_A_WORKER * workers)
    name = f"{'real' if real else 'waiting'}-{workers}"
    manifest = link_videos(videos, number, folder / name)
    command = [sys.executable, __file__, "--one", str(manifest), str(folder / f"run-{name}")]
    command += [str(workers), "real" if real else "waiting", "--engine", engine]
    with (folder / f"{name}.log").open("w+", encoding="utf-8") as stream:
        process = subprocess.Popen(command, stdout=stream)
        tree = Tree(psutil.Process(process.pid))
        while process.poll() is None:
            tree.poll()
            time.sleep(POLL_S)
        if process.returncode:
            raise SystemExit(f"{workers} workers: ended with {process.returncode}")
        stream.seek(0)
        facts: dict[str, Any] = json.loads(stream.read().splitlines()[-1])
    cpu_s = tree.cpu_s_by_kind()
    facts |= {
        "workers": workers,
        "driver_cpu_s_a_file": sum(cpu_s.get(kind, 0.0) for kind in DRIVER) / number,
        "all_cpu_s_a_file": sum(cpu_s.values()) / number,
    }
    if not real:
        facts["efficiency"] = facts["files_per_s"] * FILE_S / workers
    print(facts, file=sys.stderr, flush=True)
    return {k: v if isinstance(v, int) else round(v, 4) for k, v in facts.items()}


def figures(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return how far it scales, and what a driver could feed that had a core alone."""
    enough = [run["workers"] for run in runs if run["efficiency"] >= ENOUGH]
    one, two = runs[0], runs[-1]  # a line through both: what starts once is no file's
    total = [run["driver_cpu_s_a_file"] * run["files"] for run in (one, two)]
    slope_s = (total[1] - total[0]) / (two["files"] - one["files"])
    return {
        "file_s": FILE_S,
        "most_workers_at_90_percent": max(enough, default=0),
        "most_files_per_s": max(run["files_per_s"] for run in runs),
        "driver_cpu_s_a_further_file": round(slope_s, 5),
        "files_per_s_of_a_driver_with_a_core_alone": round(1 / slope_s, 1),
        "runs": list(runs),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Make the links, prune with fewer and more workers, write the record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--workers", default="1,2,4,8,16,32,64")
    parser.add_argument("--out", type=Path, default=records.RUNS / "scaling.json", help="record")
    parser.add_argument("--videos", type=Path, help="folder of good videos, pruned for real")
    words = ("MANIFEST", "RUN", "N", "KIND")
    parser.add_argument("--one", nargs=4, metavar=words, help=argparse.SUPPRESS)
    parser.add_argument("--engine", default="local", help="local or ray")
    options = parser.parse_args(argv)
    engine: str = options.engine
    os.environ["VXP_BENCH_DECODE_S"] = str(DECODE_S)
    os.environ["VXP_BENCH_EMBED_S"] = str(EMBED_S)
    os.environ["VXP_BENCH_FRAME_PX"] = str(FRAME_PX)
    os.environ["VXP_BENCH_ONE_TASK"] = "1"
    with tempfile.TemporaryDirectory(prefix="vxp-bench-") as temporary:
        folder = Path(temporary)
        if options.one:
            register_fakes(folder / "fakes")
            manifest, out, workers, kind = options.one
            settings = dict(REAL if kind == "real" else FAKES)
            settings |= {"cluster.engine": engine, "cluster.num_cpus": int(workers)}
            print(json.dumps(run_one(Path(manifest), Path(out), int(workers), settings)))
            return
        real = [
            measure(number, sorted(options.videos.resolve().iterdir()), folder, engine, real=True)
            for number in (REAL_WORKERS if options.videos else ())
        ]
        videos = tiny_videos(folder)
        numbers = [int(text) for text in options.workers.split(",")]
        facts = figures([measure(number, videos, folder, engine) for number in numbers])
    if real:
        one, two = (run["files_per_s"] for run in real)
        facts["real_videos"] = {"two_workers_over_one": round(two / one, 3), "runs": real}
    print(json.dumps(facts, indent=1))
    facts["engine"] = engine
    argv = ["pipelines/bench/scaling.py", "--engine", engine, "--workers", options.workers]
    argv += ["--videos", str(options.videos)] if options.videos else []
    records.write_record(options.out.stem, facts, argv=argv, folder=options.out.parent)


if __name__ == "__main__":
    main()
