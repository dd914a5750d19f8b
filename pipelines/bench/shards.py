"""Measure the writing of shards beside `cp` and `webdataset.ShardWriter`, and checking.

    python pipelines/bench/shards.py DIR [--rounds 5 --megabytes 400]

The videos of a folder are pruned (thumbnail encoder, all kept). Writing: one shard, in this
process, over as many copies of the kept clips as make up the megabytes; `cp` copies the same files,
and webdataset.ShardWriter writes the same members. All three end with the bytes on the disk
(fsync); sources are in the page cache. They take turns; what counts is the median over the rounds.
`cp` and ShardWriter hash nothing: ours hashes every file and the shard, in a thread, so that it
needs more CPU seconds, and no more time where a core is free. Checking: a shard that is
there, as a resumed run does. Frames: the planned frames of every clip at 384 px, decoded, encoded
and written. Commands: `vxp-data shard` and `verify` with each payload, whole.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import records
import webdataset
from rich.console import Console
from rich.table import Table

from vxp_data.pipeline.run_dir.directory import RunDirectory, open_run
from vxp_data.pipeline.shard.clip_records import ShardSettings
from vxp_data.pipeline.shard.command import shard_settings
from vxp_data.pipeline.shard.costs import weigh
from vxp_data.pipeline.shard.kept_rows import kept_rows
from vxp_data.pipeline.shard.write_shard import find_shard, write_shard
from vxp_data.records import Modality
from vxp_data.settings.prune import load_config
from vxp_data.shard_format import INDEX_NAME, Payload
from vxp_data.shard_index import ShardIndex
from vxp_data.shards.shard_file import read_clips
from vxp_data.shards.tar_file import read_bytes
from vxp_data.storage.folder import open_folder

COMMAND: Final = Path(sys.executable).with_name("vxp-data")
LIBRARIES: Final = (*records.LIBRARIES, "webdataset", "pillow")
SHARD: Final = "video-00000-000000000000.tar"


def command(*words: str) -> float:
    """Run vxp-data; return the wall-clock seconds."""
    started = time.perf_counter()
    done = subprocess.run([str(COMMAND), *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(
            f"vxp-data {words[0]} ended with {done.returncode}:\n{done.stderr[-2000:]}"
        )
    return time.perf_counter() - started


def whole_commands(run: Path, folder: Path) -> dict[str, Any]:
    """Shard and verify by the command, Ray's start and all, on two cores, with each payload."""
    found = {}
    for payload in Payload:
        out = folder / payload.value
        words = ["--out", str(out), "--payload", payload.value, "--world-size", "2"]
        words += ["--workers", "2", "--set", "cluster.num_cpus=2"]
        shard_s = command("shard", str(run), *words)
        index = ShardIndex.from_json((out / INDEX_NAME).read_bytes())
        megabytes = [shard.num_bytes / 1e6 for shard in index.shards]
        costs = [shard.decode_cost for shard in index.shards]
        found[payload.value] = {
            "shard_wall_s": shard_s,
            "verify_wall_s": command("verify", str(out)),
            "shards": len(index.shards),
            "clips": sum(shard.num_clips for shard in index.shards),
            "rows": index.samples.num_rows,
            "quarantined": index.quarantine.num_rows,
            "planned_frames": sum(shard.num_frames for shard in index.shards),
            "mb": sum(megabytes),
            "mb_of_shards": megabytes,
            "decode_cost_of_shards": costs,
        }
        print(f"{payload.value}: {shard_s:.1f} s", file=sys.stderr, flush=True)
    return found


def many(rows: pa.Table, num_bytes: int) -> pa.Table:
    """Repeat clips under other keys until their files have so many bytes."""
    total = sum({row["key"]: row["num_bytes"] for row in rows.to_pylist()}.values())
    tables = []
    for copy in range(max(1, round(num_bytes / total))):
        keys = [f"{copy:04d}{key[4:]}" for key in rows["key"].to_pylist()]
        tables.append(rows.set_column(rows.column_names.index("key"), "key", pa.array(keys)))
    return pa.concat_tables(tables)


def clip_files(rows: pa.Table) -> list[Path]:
    """Return the file of every clip, in the order of their keys."""
    first = {row["key"]: row["media_uri"] for row in rows.to_pylist()}
    return [Path(first[key]) for key in sorted(first)]


def copied(files: Sequence[Path], out: Path) -> None:
    """Copy with `cp`, a folder for each time that a name comes, and flush."""
    folders: dict[Path, list[str]] = {}
    seen: dict[str, int] = {}
    for path in files:
        seen[path.name] = seen.get(path.name, -1) + 1
        folders.setdefault(out / str(seen[path.name]), []).append(str(path))
    for folder, own in folders.items():
        folder.mkdir(parents=True)
        subprocess.run(["cp", *own, str(folder)], check=True)
    for path in out.rglob("*"):
        if path.is_file():
            flush(path)


def flush(path: Path) -> None:
    """Wait until a file is on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def written_by_webdataset(members: Sequence[tuple[str, bytes, Path]], out: Path) -> None:
    """Write the same members with webdataset's ShardWriter."""
    out.mkdir(parents=True)
    pattern = str(out / "%05d.tar")
    with webdataset.ShardWriter(pattern, maxcount=10**9, maxsize=1 << 60, verbose=0) as writer:
        for key, record, path in members:
            writer.write({"__key__": key, "json": record, "video": path.read_bytes()})
    for path in out.iterdir():
        flush(path)


def timed(act: Callable[[], object]) -> tuple[float, float]:
    """Return the wall-clock and the CPU seconds of a call, with those of its child processes."""
    started_s, started_cpu_s = time.perf_counter(), sum(os.times()[:4])
    act()
    return time.perf_counter() - started_s, sum(os.times()[:4]) - started_cpu_s


def figures(run: RunDirectory, folder: Path, rounds: int, num_bytes: int) -> dict[str, Any]:
    """Measure all; return the figures."""
    record = run.read_run()
    config = load_config(None, [], run_settings=record["config"]).config
    settings = replace(shard_settings(run, record, config), payload=Payload.VIDEO)
    weighed = weigh(kept_rows(run), settings).rows
    weighed = weighed.filter(pc.equal(weighed["modality"], Modality.VIDEO.value))
    rows = many(weighed, num_bytes)
    out = open_folder(folder / "ours")
    write_shard(SHARD, rows, out, settings)
    with out.open(SHARD) as file:
        clips = list(read_clips(file))
        files = dict(zip(sorted(c.record.key for c in clips), clip_files(rows), strict=True))
        members = [(c.record.key, read_bytes(file, c.json), files[c.record.key]) for c in clips]
    payload_bytes = sum(path.stat().st_size for path in files.values())
    seconds: dict[str, list[float]] = defaultdict(list)
    cpu_seconds: dict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        acts: dict[str, Callable[[], object]] = {
            "cp": lambda: copied(list(files.values()), folder / "cp"),
            "webdataset": lambda: written_by_webdataset(members, folder / "webdataset"),
            "vxp": lambda: write_shard(SHARD, rows, out, settings),
            "vxp, checking what is there": lambda: find_shard(SHARD, rows, out, settings),
        }
        for name, act in acts.items():
            if (
                name == "vxp"
            ):  # else it would have an old shard to remove, which the others have not
                out.remove(SHARD)
            wall_s, cpu_s = timed(act)
            seconds[name].append(wall_s)
            cpu_seconds[name].append(cpu_s)
            shutil.rmtree(folder / name, ignore_errors=True)
    return {
        "clips": len(clips),
        "payload_mb": payload_bytes / 1e6,
        "mb_per_s": {n: payload_bytes / 1e6 / statistics.median(s) for n, s in seconds.items()},
        "mb_per_cpu_s": {
            n: payload_bytes / 1e6 / statistics.median(s) for n, s in cpu_seconds.items()
        },
        "of_cp": ratio(seconds, "vxp", "cp"),
        "of_webdataset": ratio(seconds, "vxp", "webdataset"),
        "of_webdataset_cpu": ratio(cpu_seconds, "vxp", "webdataset"),
        "frames": frames_figures(weighed, out.child("frames").uri, settings),
    }


def ratio(seconds: dict[str, list[float]], one: str, other: str) -> float:
    """Return how many times faster `one` is, the median over rounds."""
    pairs = zip(seconds[one], seconds[other], strict=True)
    return statistics.median(theirs / own for own, theirs in pairs)


def frames_figures(rows: pa.Table, out: str, settings: ShardSettings) -> dict[str, Any]:
    """Write the planned frames of every clip once."""
    frames = replace(settings, payload=Payload.FRAMES)
    folder = open_folder(out)
    write_shard(SHARD, rows.slice(0, 1), folder, frames)  # starts the child
    started, cpu_s = time.perf_counter(), time.process_time()
    written = write_shard(SHARD, rows, folder, frames)
    wall_s, cpu_s = time.perf_counter() - started, time.process_time() - cpu_s
    with folder.open(SHARD) as file:
        clips = [clip for shard_clip in read_clips(file) for clip in shard_clip.record.media_clips]
        images = sum(clip.payload.num_frames for clip in clips)
    return {
        "images": images,
        "mb": written.entry.num_bytes / 1e6,
        "kb_per_picture": written.entry.num_bytes / 1e3 / images,
        "pictures_per_s": images / wall_s,
        "of_which_encoding_cpu_s": cpu_s,
        "wall_s": wall_s,
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Prune, write and check; write the record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("videos", type=Path, help="folder of videos, or a manifest")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--megabytes", type=int, default=400, help="of one shard")
    parser.add_argument("--out", type=Path, default=records.RUNS / "shards.json", help="record")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="vxp-bench-") as temporary:
        folder = Path(temporary)
        run = folder / "run"
        videos = str(options.videos.resolve())
        command("prune", videos, "--out", str(run), "--encoder", "thumbnail", "--keep", "1.0")
        commands = whole_commands(run, folder / "shards")
        facts = figures(open_run(run), folder, options.rounds, options.megabytes * 10**6)
        facts["commands"] = commands
    console = Console(width=None if sys.stdout.isatty() else 100)
    table = Table("", "MB/s")
    for name, speed in facts["mb_per_s"].items():
        table.add_row(name, f"{speed:.0f}")
    console.print(table)
    console.print({name: value for name, value in facts.items() if name != "mb_per_s"})
    words = ["pipelines/bench/shards.py", options.videos, "--rounds", options.rounds]
    words += ["--megabytes", options.megabytes]
    records.write_record(
        options.out.stem,
        json.loads(json.dumps(facts), parse_float=lambda text: round(float(text), 3)),
        argv=[*map(str, words)],
        libraries=LIBRARIES,
        folder=options.out.parent,
    )
    console.print(f"record: {options.out.name}")


if __name__ == "__main__":
    main()
