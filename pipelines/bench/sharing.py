"""Prune on a small Ray cluster: one run alone, two at once, and two that share by --share 0.5.

    python pipelines/bench/sharing.py [--cores 2] [--copies 1] [--encoder thumbnail]

The videos are the demo's. What two runs at once cost is told by CPU seconds, of the cluster and of
the commands, and by how many worker processes Ray started: wall-clock seconds alone say what else
the machine did.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import psutil
import records
from demo_videos import make_videos
from prune import Tree

PROGRAM: Final = str(Path(sys.executable).with_name("vxp-data"))
RAY: Final = str(Path(sys.executable).with_name("ray"))
POLL_S: Final = 0.2
START_S: Final = 180.0
ARMS: Final = {
    "one": (1, ()),
    "two": (2, ()),
    "two_shares": (2, ("--share", "0.5")),
}
"""Name of a measurement -> how many runs at once, and what they are told more."""


@contextmanager
def cluster(cores: int, folder: Path) -> Iterator[str]:
    """Hold a Ray cluster of one machine; return its address."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
    command = [
        *(RAY, "start", "--head", "--block", f"--port={port}", f"--num-cpus={cores}"),
        *(f"--object-store-memory={128 << 20}", "--include-dashboard=false"),
        *("--disable-usage-stats", f"--temp-dir={folder}"),
    ]
    log = folder / "ray.log"
    with log.open("w") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream, start_new_session=True)
    try:
        until_s = time.monotonic() + START_S
        while "--block" not in log.read_text():  # says that it blocks: it has started
            if process.poll() is not None or time.monotonic() > until_s:
                raise SystemExit(f"Ray did not start:\n{log.read_text()[-2000:]}")
            time.sleep(0.1)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=60)


def measure(
    num_runs: int, more: Sequence[str], manifest: Path, address: str, folder: Path, encoder: str
) -> dict[str, Any]:
    """Start so many runs at once; return what they took."""
    folder.mkdir()
    tree = Tree(psutil.Process())
    tree.poll()
    before = dict(tree.seen)
    began_s = time.monotonic()
    running = []
    for number in range(num_runs):
        command = [PROGRAM, "prune", str(manifest), "--out", str(folder / str(number))]
        command += ["--encoder", encoder, "--address", address, *more]
        with (folder / f"{number}.log").open("w") as log:
            running.append(subprocess.Popen(command, stdout=log, stderr=log))
    ended_s: dict[int, float] = {}
    while len(ended_s) < num_runs:
        tree.poll()
        for number, process in enumerate(running):
            if number not in ended_s and process.poll() is not None:
                ended_s[number] = round(time.monotonic() - began_s, 1)
                if process.returncode:
                    raise SystemExit((folder / f"{number}.log").read_text()[-3000:])
        time.sleep(POLL_S)
    kinds = [kind for process, (kind, _) in tree.seen.items() if process not in before]
    cpu_s: dict[str, float] = {}
    for process, (kind, now_s) in tree.seen.items():
        cpu_s[kind] = cpu_s.get(kind, 0.0) + now_s - before.get(process, ("", 0.0))[1]
    timings = [json.loads((folder / str(n) / "run.json").read_text())["timings"] for n in ended_s]
    work_s = [t["probe_cpu_s"] + t["decode_cpu_s"] + t["embed_cpu_s"] for t in timings]
    return {
        "runs": num_runs,
        "told": " ".join(more),
        "wall_s": sorted(ended_s.values()),
        "cpu_s": round(sum(cpu_s.values()), 1),
        "cpu_s_by_kind": {kind: round(cpu_s[kind], 1) for kind in sorted(cpu_s)},
        "cpu_s_of_the_work_itself": round(sum(work_s), 1),
        "processes_started": {kind: kinds.count(kind) for kind in sorted(set(kinds))},
        "load_average_1_min": round(os.getloadavg()[0], 1),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Measure each arm, and write the record after each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cores", type=int, default=2, help="of the cluster")
    parser.add_argument("--encoder", default="thumbnail", help="as vxp-data prune has it")
    parser.add_argument("--arms", default=",".join(ARMS), help="which measurements")
    parser.add_argument("--out", type=Path, default=records.RUNS / "sharing.json", help="record")
    options = parser.parse_args(argv)
    os.environ |= {
        "RAY_AUTH_MODE": "disabled",  # a cluster of this machine's, for minutes
        "RAY_health_check_failure_threshold": "1000",  # whose only node answers late when busy
    }
    figures: dict[str, Any] = {"cores": options.cores, "encoder": options.encoder}
    with tempfile.TemporaryDirectory(prefix="vxp-", dir="/tmp") as scratch:  # sockets: short names
        manifest = make_videos(Path(scratch) / "media")
        for name in options.arms.split(","):
            num_runs, more = ARMS[name]
            folder = Path(scratch) / f"ray-{name}"
            folder.mkdir()
            with cluster(options.cores, folder) as address:
                runs = Path(scratch) / name
                figures[name] = measure(num_runs, more, manifest, address, runs, options.encoder)
            print(name, figures[name], file=sys.stderr, flush=True)
            records.write_record(
                options.out.stem, figures, argv=[__file__, *sys.argv[1:]], folder=options.out.parent
            )


if __name__ == "__main__":
    main()
