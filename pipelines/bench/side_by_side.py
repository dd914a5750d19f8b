"""Prune the same clips with the same weights as other tools do, in turn, on the same two cores.

    python pipelines/bench/side_by_side.py DIR [--sizes 20,50,200] [--rounds 3] [--tool NAME]

From the videos of a folder, clips of 10 s are cut and re-encoded (H.264; 360 to 1080 lines; a key
frame every 48, 120 or 250 frames at most; the `ffmpeg` command does it). Each tool takes 20 frames
of every clip, embeds them with the same small SigLIP of random weights at 384 px, and gives the
mean cosine over the pairs. What counts is CPU time: of the process and all below it, over fewer and
more clips, which gives the start-up and what a further clip costs; and what of it the encoder
took, which is the same model for all and would be on a GPU. Ratios are of one round; the record has
their medians.

`decord_script` is the script that people write; `ray_data` is Ray Data's read_videos; `daft` and
`data_juicer` take part where Python (or the one given for them) imports them. Data-Juicer has no
operator that embeds frames without the hub: it extracts frames only. `vxp thumbnail` is our encoder
without weights, in exact mode: less work, other scores.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
import psutil
import pyarrow.parquet as pq
import records
from prune import COMMAND, CORES, POLL_S, QUESTION, Tree
from rich.console import Console
from rich.table import Table

RIVALS: Final = Path(__file__).parent / "rivals"
SCRIPTS: Final = {
    "decord_script": ("decord_script.py", "decord"),
    "ray_data": ("ray_data.py", "ray"),
    "daft": ("daft_frames.py", "daft"),
    "data_juicer": ("data_juicer_frames.py", "data_juicer"),
}
"""File of each tool, and the module that it needs."""
OURS: Final = {
    "vxp exact": [],
    "vxp keyframe": ["--set", "frames.seek=keyframe"],
    "vxp auto": ["--set", "frames.seek=auto"],
    "vxp thumbnail": ["--encoder", "thumbnail"],
}
BASELINE: Final = "decord_script"
RATIOS: Final = {
    "times_less_cpu_a_further_clip": "cpu_s_per_further_clip",
    "times_less_cpu_but_for_the_encoder": "other_cpu_s_per_further_clip",
    "times_less_cpu_in_all": "cpu_s",
}
"""Names of the ratios to the script, and of what."""
CLIP_S: Final = 10
HEIGHTS_PX: Final = (360, 480, 720, 1080)
KEY_EVERY: Final = (48, 120, 250)
LIMIT_S: Final = 3600


class FailedError(Exception):
    """A tool has not come to its end; what it wrote last."""


def make_clips(sources: Sequence[Path], num_clips: int, folder: Path) -> None:
    """Cut and re-encode clips; what is there already stays. Exits where ffmpeg fails."""
    folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(CORES) as pool:
        list(pool.map(lambda number: _make_clip(sources, number, folder), range(num_clips)))


def _make_clip(sources: Sequence[Path], number: int, folder: Path) -> None:
    path = folder / f"{number:04}.mp4"
    if path.exists():
        return
    source = sources[number % len(sources)]
    turn = number // len(sources)
    room_s = max(_duration_s(source) - CLIP_S, 0.0)
    start_s = (turn * 7.0) % room_s if room_s > 0 else 0.0
    height = HEIGHTS_PX[number % len(HEIGHTS_PX)]
    key = KEY_EVERY[number % len(KEY_EVERY)]
    part = path.with_suffix(".part.mp4")
    loop = ["-stream_loop", "-1", "-ss", f"{start_s:.3f}", "-t", str(CLIP_S), "-i", str(source)]
    form = ["-vf", f"scale=-2:{height},format=yuv420p", "-an", "-t", str(CLIP_S)]
    form += ["-map_metadata", "-1"]  # Daft ends where a text in them is not UTF-8
    coding = ["-c:v", "libx264", "-preset", "veryfast", "-g", str(key), "-threads", "1"]
    command = ["ffmpeg", "-v", "error", "-y", *loop, *form, *coding, str(part)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"ffmpeg failed on {source.name}: {done.stderr[-1000:]}")
    part.rename(path)


def _duration_s(path: Path) -> float:
    with av.open(str(path), metadata_errors="replace") as container:
        return (container.duration or 0) / 1_000_000


def usable(folder: Path) -> list[Path]:
    """Return the videos of a folder from which clips can be cut: two frames at least."""
    found = []
    for path in sorted(folder.resolve().iterdir()):
        try:
            with av.open(str(path), metadata_errors="replace") as container:
                frames = container.decode(video=0)
                next(frames), next(frames)
        except (av.FFmpegError, StopIteration, IndexError):
            continue
        found.append(path)
    return found


def timed(command: Sequence[str], log: Path) -> dict[str, float]:
    """Run it; return its wall-clock and CPU seconds.

    Raises:
        FailedError: it failed.
    """
    started = time.monotonic()
    with log.open("w+", encoding="utf-8") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream, cwd=log.parent)
        tree = Tree(psutil.Process(process.pid))
        while process.poll() is None:
            tree.poll()
            time.sleep(POLL_S)
            if time.monotonic() - started > LIMIT_S:
                process.kill()
        stream.seek(0)
        if process.returncode:
            raise FailedError(stream.read()[-2000:])
    wall_s = time.monotonic() - started
    return {"wall_s": wall_s, "cpu_s": sum(tree.cpu_s_by_kind().values())}


def prune(
    clips: Path, checkpoint: Path, out: Path, more: Sequence[str]
) -> tuple[dict[str, float], dict[str, float]]:
    """Prune with our command; return the seconds, and the score of every clip."""
    rows = [
        {
            "id": path.name,
            "video": path.name,
            "conversations": [QUESTION, {"from": "gpt", "value": path.stem}],
        }
        for path in sorted(clips.iterdir())
    ]
    manifest = out.with_suffix(".json")
    manifest.write_text(json.dumps(rows), encoding="utf-8")
    words = ["prune", str(manifest), "--media-root", str(clips), "--out", str(out)]
    if "--encoder" not in more:
        words += ["--encoder", "siglip", "--set", f"encoder.checkpoint={checkpoint}"]
    words += ["--set", f"cluster.num_cpus={CORES}", *more]
    seconds = timed([str(COMMAND), *words], out.with_suffix(".log"))
    timings = json.loads((out / "run.json").read_text(encoding="utf-8"))["timings"]
    seconds["encoder_cpu_s"] = timings["embed_cpu_s"]
    decisions = pq.read_table(out / "decisions.parquet", columns=["sample_id", "score"])
    names = [Path(name).name for name in decisions["sample_id"].to_pylist()]
    return seconds, dict(zip(names, decisions["score"].to_pylist(), strict=True))


def others(pythons: Mapping[str, str]) -> dict[str, str]:
    """Return the Python of each tool that can be imported."""
    found = {}
    for name, (_, module) in SCRIPTS.items():
        python = pythons.get(name, sys.executable)
        test = [python, "-c", f"import {module}"]
        if subprocess.run(test, capture_output=True, check=False).returncode == 0:
            found[name] = python
    return found


def rival(
    name: str, python: str, clips: Path, checkpoint: Path, out: Path
) -> tuple[dict[str, float], dict[str, float]]:
    """Run another tool's script; return the seconds, and what it says of every clip."""
    script = RIVALS / SCRIPTS[name][0]
    command = [python, str(script), str(clips), str(checkpoint), str(out)]
    seconds = timed(command, out.with_suffix(".log"))
    result = json.loads(out.read_text(encoding="utf-8"))
    seconds["encoder_cpu_s"] = result["encoder_cpu_s"]
    return seconds, result.get("scores", {})


def per_clip(runs: Mapping[int, Mapping[str, float]]) -> dict[str, float]:
    """Lay a line through the runs over the fewest and the most clips."""
    names = ("cpu_s", "encoder_cpu_s")
    few, many = runs[min(runs)], runs[max(runs)]
    further = max(runs) - min(runs)
    slope, encoder = ((many[name] - few[name]) / further for name in names)
    return {
        "cpu_s_per_further_clip": slope,
        "encoder_cpu_s_per_further_clip": encoder,
        "other_cpu_s_per_further_clip": slope - encoder,
        "cpu_s": many["cpu_s"],
        "few_cpu_s": few["cpu_s"],
        "wall_s": many["wall_s"],
        **{f"cpu_s_of_{size}_clips": run["cpu_s"] for size, run in runs.items()},
    }


def agreement(scores: Mapping[str, float], of: Mapping[str, float]) -> dict[str, float]:
    """Compare the scores of the same clips: rank correlation and largest difference.

    A clip of which a tool gives fewer than two frames has no score with it, and is counted.
    """
    names = [name for name in sorted(of) if math.isfinite(scores.get(name, math.nan))]
    one = np.array([scores[name] for name in names])
    two = np.array([of[name] for name in names])
    ranks = [values.argsort().argsort() for values in (one, two)]
    return {
        "spearman": float(np.corrcoef(*ranks)[0, 1]),
        "largest_difference": float(np.abs(one - two).max()),
        "clips_without_score": len(of) - len(names),
    }


def summary(rounds: Mapping[str, Sequence[Mapping[str, float]]]) -> dict[str, Any]:
    """Return each tool's medians, and the medians of its ratios to the script of the same round."""
    found = {}
    for name, runs in rounds.items():
        base = rounds[BASELINE][: len(runs)]
        sized = {f"times_less_{key}": key for key in runs[0] if key.startswith("cpu_s_of_")}
        ratios = {
            said: statistics.median(b[key] / r[key] for b, r in zip(base, runs, strict=True))
            for said, key in (RATIOS | sized).items()
        }
        found[name] = {
            "rounds": len(runs),
            **{key: statistics.median(run[key] for run in runs) for key in runs[0]},
            **ratios,
            "cpu_s_per_further_clip_by_round": [run["cpu_s_per_further_clip"] for run in runs],
        }
    return found


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("videos", type=Path, help="folder of videos to cut clips from")
    parser.add_argument("--sizes", default="20,50,200", help="numbers of clips")
    parser.add_argument("--tool", action="append", help="only this one, and the script; may repeat")
    parser.add_argument("--rounds", type=int, default=3, help="of ours and the script")
    parser.add_argument("--other-rounds", type=int, default=1, help="of the other tools")
    parser.add_argument("--clips", type=Path, help="keep the clips here, or take them from here")
    parser.add_argument("--python", action="append", default=[], metavar="TOOL=EXE")
    parser.add_argument("--out", type=Path, default=records.RUNS / "side-by-side.json")
    return parser.parse_args(argv)


def run_round(
    folder: Path,
    sets: Mapping[int, Path],
    checkpoint: Path,
    ours: Sequence[str],
    pythons: Mapping[str, str],
) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, float]], dict[str, str]]:
    """Run every tool once over each number of clips; return seconds, scores, failures.

    A tool that fails is out of the round, and what it wrote last is kept.
    """
    seconds, scores, failed = {}, {}, {}
    for name in (*ours, *pythons):
        ends = {}
        try:
            for size, clips in sets.items():
                out = folder / f"{name.replace(' ', '-')}-{clips.name}"
                if name in OURS:
                    took, said = prune(clips, checkpoint, out, OURS[name])
                else:
                    out = out.with_suffix(".result.json")
                    took, said = rival(name, pythons[name], clips, checkpoint, out)
                ends[size] = took
                print(f"{name}, {clips.name}: {took}", file=sys.stderr, flush=True)
        except FailedError as error:
            if name in {*OURS, BASELINE}:
                raise SystemExit(f"{name}: {error}") from error
            last = str(error).strip().splitlines()[-1]
            failed[name] = f"over {clips.name.replace('-', ' ')}: {last}"
            print(f"{name} failed {failed[name]}", file=sys.stderr, flush=True)
            continue
        scores[name] = said
        seconds[name] = per_clip(ends)
    return seconds, scores, failed


def print_results(console: Console, tools: Mapping[str, Mapping[str, Any]]) -> None:
    """Print a line a tool."""
    columns = ("cpu_s_per_further_clip", "encoder_cpu_s_per_further_clip", *RATIOS, "wall_s")
    table = Table("tool", *columns)
    for name, facts in tools.items():
        table.add_row(name, *(f"{facts[column]:.3f}" for column in columns))
    console.print(table)


def main(argv: Sequence[str] | None = None) -> None:
    """Make the clips, run all in turn, write the record."""
    options = parse(argv)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    sys.path.insert(0, str(records.ROOT / "tests"))
    tiny_models = importlib.import_module("support.tiny_models")
    sizes = sorted(int(text) for text in options.sizes.split(","))
    pythons = others(dict(text.split("=", 1) for text in options.python))
    ours = [name for name in OURS if name in (options.tool or OURS)]
    if options.tool:
        pythons = {n: p for n, p in pythons.items() if n in options.tool or n == BASELINE}
    rounds: dict[str, list[dict[str, float]]] = {}
    failed: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="vxp-bench-") as temporary:
        folder = Path(temporary)
        checkpoint = tiny_models.write_tiny_siglip(folder / "siglip", image_px=384)
        made = options.clips or folder / "made"
        make_clips(usable(options.videos), sizes[-1], made)
        sets = {number: folder / f"{number}-clips" for number in sizes}
        for number, clips in sets.items():
            clips.mkdir()
            for path in sorted(made.iterdir())[:number]:
                (clips / path.name).hardlink_to(path)
        for number in range(options.rounds):
            round_folder = folder / f"round-{number}"
            round_folder.mkdir()
            taking = {
                n: p for n, p in pythons.items() if n == BASELINE or number < options.other_rounds
            }
            seconds, scores, lost = run_round(round_folder, sets, checkpoint, ours, taking)
            failed |= lost
            for name, taken in seconds.items():
                rounds.setdefault(name, []).append(taken)
            if number == 0:
                compared = {
                    name: agreement(said, scores[BASELINE])
                    for name, said in scores.items()
                    if name not in {BASELINE, "data_juicer", "vxp thumbnail"}
                }
        clip_bytes = sum(path.stat().st_size for path in sets[sizes[-1]].iterdir())
    tools = summary(rounds)
    print_results(Console(width=None if sys.stdout.isatty() else 150), tools)
    figures = {
        "cores": CORES,
        "clips": sizes,
        "clip_bytes": clip_bytes,
        "not_installed": sorted(SCRIPTS.keys() - pythons.keys()),
        "failed": failed,
        "tools": tools,
        "scores_against_the_script": compared,
    }
    text = json.loads(json.dumps(figures), parse_float=lambda value: round(float(value), 4))
    words = ["pipelines/bench/side_by_side.py", options.videos, "--sizes", options.sizes]
    words += ["--rounds", options.rounds, "--other-rounds", options.other_rounds]
    words += [word for name in options.tool or () for word in ("--tool", name)]
    command = [*map(str, words)]
    records.write_record(options.out.stem, text, argv=command, folder=options.out.parent)


if __name__ == "__main__":
    main()
