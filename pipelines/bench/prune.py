"""Measure what a whole prune costs beyond its stages: start-up, and CPU time a further video.

    python pipelines/bench/prune.py [--small 200 --large 1000] [--videos DIR]

`vxp-data prune --encoder thumbnail` runs twice on two cores, over few and over many hard links to
the demo's videos, or to those of a folder. What is counted is the CPU time of the command and of
all processes below it, Ray's too, read every 0.2 s: what a process uses after its last reading is
not seen. How far its slope over the videos is above that of the stages' own CPU time is the
pipeline's overhead. A third run, over many, is watched by py-spy for the functions that use it.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil
import records
from function_shares import profile
from rich.console import Console
from rich.table import Table

CORES: Final = 2
POLL_S: Final = 0.2
STAGES: Final = ("probe", "decode", "embed")
COMMAND: Final = Path(sys.executable).with_name("vxp-data")
KINDS: Final = (
    (f"{COMMAND} ", "command"),
    ("spawn_main", "workers and decoding children"),
    ("raylet/raylet", "raylet"),
    ("gcs_server", "gcs_server"),
    ("Agent", "ray agents, monitors, dashboard"),
    ("monitor", "ray agents, monitors, dashboard"),
    ("dashboard.py", "ray agents, monitors, dashboard"),
    ("ray::_", "ray data's own actors"),
    ("ray::", "ray workers"),
    ("default_worker.py", "ray workers"),
)
OTHER: Final = "other"
MANIFEST: Final = "annotations.json"
QUESTION: Final = {"from": "human", "value": "<image>\nPlease describe this video in detail."}


@dataclass(slots=True)
class Tree:
    """CPU seconds of a process and of all below it; one that has ended counts as last read."""

    root: psutil.Process
    seen: dict[psutil.Process, tuple[str, float]] = field(default_factory=dict)

    def poll(self) -> None:
        """Read all processes that are below the root, or were."""
        try:
            found = {self.root, *self.root.children(recursive=True)}
        except psutil.NoSuchProcess:
            found = set()
        for process in found | self.seen.keys():
            kind, cpu_s = self.seen.get(process, (OTHER, 0.0))
            try:
                times = process.cpu_times()
                cpu_s = max(cpu_s, times.user + times.system)
                self.seen[process] = (kind, cpu_s)
                line = " ".join(process.cmdline())
                now = "command" if process == self.root else _kind(line)
                if now != OTHER:  # a process that has ended has no command line
                    self.seen[process] = (now, cpu_s)
            except psutil.Error:
                continue

    def cpu_s_by_kind(self) -> dict[str, float]:
        """Sum up over the processes of a kind, most first."""
        sums: dict[str, float] = {}
        for kind, cpu_s in self.seen.values():
            sums[kind] = sums.get(kind, 0.0) + cpu_s
        return dict(sorted(sums.items(), key=lambda item: -item[1]))


def _kind(command: str) -> str:
    return next((kind for part, kind in KINDS if part in command), OTHER)


def link_videos(videos: Sequence[Path], num_videos: int, folder: Path) -> Path:
    """Make a manifest of so many files, each a link to one of the videos in turn."""
    folder.mkdir()
    rows = []
    for number in range(num_videos):
        video = videos[number % len(videos)]
        name = f"{number:06}{video.suffix}"
        (folder / name).hardlink_to(video)
        answer = {"from": "gpt", "value": f"This is {video.stem}."}
        rows.append({"id": name, "video": name, "conversations": [QUESTION, answer]})
    manifest = folder / MANIFEST
    manifest.write_text(json.dumps(rows), encoding="utf-8")
    return manifest


def prune_command(manifest: Path, out: Path) -> list[str]:
    """Return the command that is measured."""
    command = [str(COMMAND), "prune", str(manifest), "--out", str(out), "--encoder", "thumbnail"]
    return [*command, "--set", f"cluster.num_cpus={CORES}"]


def measure(manifest: Path, num_videos: int, out: Path) -> dict[str, Any]:
    """Prune into a fresh directory; return the seconds. Exits unless all videos are embedded."""
    started = time.monotonic()
    with out.with_suffix(".log").open("w+", encoding="utf-8") as log:
        process = subprocess.Popen(prune_command(manifest, out), stdout=log, stderr=log)
        tree = Tree(psutil.Process(process.pid))
        while process.poll() is None:
            tree.poll()
            time.sleep(POLL_S)
        wall_s = time.monotonic() - started
        log.seek(0)
        if process.returncode:
            raise SystemExit(f"vxp-data ended with {process.returncode}:\n{log.read()[-2000:]}")
    run = json.loads((out / "run.json").read_text(encoding="utf-8"))
    timings, quarantined = run["timings"], run["decided"]["num_quarantined"]
    if timings["clips_embedded"] != num_videos or quarantined:
        raise SystemExit(f"not all of {num_videos} videos are embedded: {timings}")
    stages = {f"{stage}_cpu_s": timings[f"{stage}_cpu_s"] for stage in STAGES}
    by_kind = tree.cpu_s_by_kind()
    return {
        "videos": num_videos,
        "wall_s": wall_s,
        "videos_per_s": num_videos / wall_s,
        "cpu_s": sum(by_kind.values()),
        **stages,
        "stages_cpu_s": sum(stages.values()),
        "cpu_s_by_process": by_kind,
    }


def figures(small: dict[str, Any], large: dict[str, Any]) -> dict[str, Any]:
    """Lay a line through the two runs."""
    further = large["videos"] - small["videos"]
    names = ("wall_s", "cpu_s", "stages_cpu_s")
    slope = {name: (large[name] - small[name]) / further for name in names}
    kinds = {**small["cpu_s_by_process"], **large["cpu_s_by_process"]}
    ends = [[run["cpu_s_by_process"].get(kind, 0.0) for run in (small, large)] for kind in kinds]
    slopes = dict(zip(kinds, [(many - few) / further for few, many in ends], strict=True))
    startup = {k: ends[i][0] - slopes[k] * small["videos"] for i, k in enumerate(kinds)}
    return {
        "further_videos_per_s": 1 / slope["wall_s"],
        "cpu_s_per_further_video": slope["cpu_s"],
        "stages_cpu_s_per_further_video": slope["stages_cpu_s"],
        "overhead_percent": 100 * (slope["cpu_s"] / slope["stages_cpu_s"] - 1),
        "startup_wall_s": small["wall_s"] - slope["wall_s"] * small["videos"],
        "startup_cpu_s": small["cpu_s"] - slope["cpu_s"] * small["videos"],
        "startup_cpu_s_by_process": startup,
        "cpu_ms_per_further_video_by_process": {k: 1000 * s for k, s in slopes.items()},
        "runs": [small, large],
    }


def _rounded(value: Any) -> Any:
    return json.loads(json.dumps(value), parse_float=lambda text: round(float(text), 4))


def print_results(console: Console, facts: dict[str, Any]) -> None:
    """Print the two runs side by side, and what follows from them."""
    table = Table("", *(f"{run['videos']} videos" for run in facts["runs"]))
    for name in facts["runs"][0]:
        table.add_row(name, *(str(run[name]).strip("{}") for run in facts["runs"]))
    console.print(table)
    console.print({name: value for name, value in facts.items() if name != "runs"})


def main(argv: Sequence[str] | None = None) -> None:
    """Make the videos, prune few and many, write the record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--small", type=int, default=200, help="videos of the shorter run")
    parser.add_argument("--large", type=int, default=1000, help="videos of the longer run")
    parser.add_argument("--out", type=Path, help="record; manifests/runs/prune[-real].json")
    parser.add_argument("--videos", type=Path, help="folder of good videos; else the demo's")
    options = parser.parse_args(argv)
    name = "prune-real" if options.videos else "prune"
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    sys.path.insert(0, str(records.ROOT / "pipelines"))
    demo = importlib.import_module("demo_videos")
    with tempfile.TemporaryDirectory(prefix="vxp-bench-") as temporary:
        folder = Path(temporary)
        if options.videos:
            videos = sorted(options.videos.resolve().iterdir())
        else:
            demo.make_videos(folder)
            made = sorted((folder / "videos").iterdir())
            videos = [path for path in made if path.name != demo.CUT_FROM[1]]
        runs = []
        for number in (options.small, options.large):
            manifest = link_videos(videos, number, folder / str(number))
            runs.append(measure(manifest, number, folder / f"run-{number}"))
            print(f"{number} videos: {runs[-1]['wall_s']:.1f} s", file=sys.stderr, flush=True)
        watched = prune_command(folder / str(options.large) / MANIFEST, folder / "run-watched")
        shares = profile(watched, folder / "stacks", _kind)
    facts = _rounded({"cores": CORES, "distinct_pictures": len(videos), **figures(*runs)})
    facts["percent_of_cpu_by_function"] = shares
    console = Console(width=None if sys.stdout.isatty() else 150)
    print_results(console, facts)
    command = ["pipelines/bench/prune.py", "--small", str(options.small)]
    command += ["--large", str(options.large)]
    command += ["--videos", str(options.videos)] if options.videos else []
    out = options.out or records.RUNS / f"{name}.json"
    records.write_record(out.stem, facts, argv=command, folder=out.parent)
    console.print(f"record: {out.name}")


if __name__ == "__main__":
    main()
