"""Time scores and decisions from stored embeddings against reading them alone.

    python pipelines/bench/scores.py [--few 25000 --many 100000]

The parts of a run are made of numbers: 20 x 1152 float16 unit rows a clip, 46 KB. Reading the
embedding columns alone, scoring as `prune` does in its end (all measures, media.parquet and
scores.parquet) and deciding run over few and over many clips, each in a process of its own. What is
said of a million media is the line through the two, not a measurement. Beside it, the column alone,
built and written and read back, as it is and as run format 4 had it: a list of lists.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import records
from numpy.typing import NDArray
from synthetic_run import synthetic_media, write_synthetic_run

from vxp_data.pipeline.curate.score import score_clips
from vxp_data.pipeline.embed.wanted_media import WantedMedia, wanted_media
from vxp_data.pipeline.run_dir.directory import open_run, read_table
from vxp_data.pipeline.run_dir.embedding_column import embedding_column, embedding_matrix
from vxp_data.pipeline.run_dir.part_table import write_part
from vxp_data.schemas import EMBEDDING_FACTS, EMBEDDING_SCHEMA
from vxp_data.storage.folder import open_folder

NUM_FRAMES: Final = 20
DIM: Final = 1152
CLIP_BYTES: Final = NUM_FRAMES * DIM * 2
CLIPS_IN_PART: Final = 256
MADE_BY: Final = "synthetic"
"""Fingerprint of the encoder and of the sampler."""
MILLION: Final = 1_000_000
LIMIT_BYTES: Final = 4_000_000_000
ROUNDS: Final = 5
TASKS: Final = ("read", "score", "decide")


def make_run(folder: Path, num_clips: int) -> None:
    """Write a run with the embeddings of so many clips."""
    write_synthetic_run(folder, num_rows=num_clips, num_videos=num_clips, seed=0)
    run = open_run(folder)
    rng = np.random.default_rng(1)
    media = synthetic_media([f"/videos/{i:07d}.mp4" for i in range(num_clips)], rng)
    by = pa.array([MADE_BY] * num_clips)
    for name in ("encoder", "sampler"):
        media = media.set_column(media.schema.get_field_index(name), name, by)
    for first in range(0, num_clips, CLIPS_IN_PART):
        facts = media.slice(first, CLIPS_IN_PART).cast(EMBEDDING_FACTS)
        index = pa.array([list(range(NUM_FRAMES))] * facts.num_rows, pa.list_(pa.int64()))
        facts = facts.set_column(facts.schema.get_field_index("frame_index"), "frame_index", index)
        column = embedding_column(list(_embeddings(facts.num_rows, rng)))
        part = facts.append_column("embedding", column).cast(EMBEDDING_SCHEMA)
        write_part(run.parts.file(f"part-{first:08d}.parquet"), part)


def _embeddings(num_clips: int, rng: np.random.Generator) -> NDArray[np.float16]:
    """Draw unit rows: a direction a clip, and more or less of noise around it."""
    noise = rng.standard_normal((num_clips, NUM_FRAMES, DIM), dtype=np.float32)
    own = rng.standard_normal((num_clips, 1, DIM), dtype=np.float32)
    emb = own + rng.uniform(0.2, 2.0, (num_clips, 1, 1)).astype(np.float32) * noise
    emb /= np.linalg.norm(emb, axis=-1, keepdims=True)
    return emb.astype(np.float16)


def column_speeds(folder: Path) -> dict[str, Any]:
    """Write and read the column in both ways, by turns; MB a CPU second, the median of the rounds.

    A part of CLIPS_IN_PART clips, in the page cache. What is read ends as one matrix a clip.
    """
    emb_CFD = _embeddings(CLIPS_IN_PART, np.random.default_rng(1))
    ways = {"list of lists": (_write_lists, _read_lists), "one value a clip": (_write, _read)}
    seconds: dict[tuple[str, str], list[float]] = defaultdict(list)
    for _ in range(ROUNDS):
        for way, (write, read) in ways.items():
            started_s = time.process_time()
            write(folder, emb_CFD)
            written_s = time.process_time()
            matrices = read(folder)
            seconds[way, "read"].append(time.process_time() - written_s)
            seconds[way, "write"].append(written_s - started_s)
            if not np.array_equal(np.stack(matrices), emb_CFD):
                raise SystemExit(f"{way}: what was read is not what was written")
    speeds = {
        way: {
            f"{what}_mb_per_cpu_s": round(
                emb_CFD.nbytes / 1e6 / statistics.median(seconds[way, what])
            )
            for what in ("write", "read")
        }
        for way in ways
    }
    old, new = speeds.values()
    ratios = {name.partition("_")[0]: round(new[name] / old[name], 1) for name in new}
    return {"mb_of_clip": CLIP_BYTES / 1e6, "clips": CLIPS_IN_PART, **speeds, "times": ratios}


def _write(folder: Path, emb_CFD: NDArray[np.float16]) -> None:
    column = embedding_column(list(emb_CFD))
    write_part(open_folder(folder).file("new.parquet"), pa.table({"embedding": column}))


def _read(folder: Path) -> list[NDArray[np.float16]]:
    column = read_table(open_folder(folder).file("new.parquet"))["embedding"]
    return [embedding_matrix(value, NUM_FRAMES) for value in column]


def _write_lists(folder: Path, emb_CFD: NDArray[np.float16]) -> None:
    rows = pa.FixedSizeListArray.from_arrays(pa.array(emb_CFD.reshape(-1)), DIM)
    ends = np.arange(0, len(emb_CFD) * NUM_FRAMES + 1, NUM_FRAMES, dtype=np.int32)
    table = pa.table({"embedding": pa.ListArray.from_arrays(ends, rows)})
    pq.write_table(table, folder / "old.parquet", compression="zstd")


def _read_lists(folder: Path) -> list[NDArray[np.float16]]:
    column = pq.read_table(folder / "old.parquet")["embedding"]
    matrices = []
    for value in column:
        numbers = value.values.flatten().to_numpy(zero_copy_only=False)
        matrices.append(numbers.reshape(NUM_FRAMES, DIM))
    return matrices


def work(task: str, folder: Path) -> None:
    """Run one of TASKS on a run, or make it: what a process of its own is measured at."""
    if task.startswith("make "):
        make_run(folder, int(task.removeprefix("make ")))
        return
    run = open_run(folder)
    if task == "read":
        for file in run.part_files():
            read_table(file, columns=["embedding"])
    elif task == "score":
        wanted = _wanted(folder)
        found = score_clips(run, wanted, encoder=MADE_BY, sampler=MADE_BY)
        if found != len(wanted):
            raise SystemExit(f"scored {found} of {len(wanted)} clips")
    else:
        from vxp_data.cli import app

        app(["decide", str(folder), "--keep", "0.5"], standalone_mode=False)


def _wanted(folder: Path) -> WantedMedia:
    files = pq.read_table(folder / "media.parquet", columns=["uri", "file_version"])
    versions = dict(zip(*(files[name].to_pylist() for name in files.column_names), strict=True))
    whole = {"clip_start_s": 0.0, "clip_end_s": float("inf"), "is_video": True}
    clips = files.select(["uri"])
    for name, value in whole.items():
        clips = clips.append_column(name, pa.repeat(value, len(files)))
    return wanted_media(clips, lambda uris: {uri: versions[uri] for uri in uris})


def measured(task: str, folder: Path) -> dict[str, float]:
    """Run a task in a process of its own; return its seconds and the most memory that it held."""
    started_s = time.monotonic()
    command = [sys.executable, __file__, "--do", task, str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{task} failed")
    return {
        "wall_s": time.monotonic() - started_s,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "peak_resident_mb": usage.ru_maxrss * 1024 / 1e6,
    }


def line(task: str, few: int, many: int, runs: dict[int, dict[str, Any]]) -> dict[str, float]:
    """Lay a line through the seconds and the memory of a task, up to a million."""
    one, two = runs[few][task], runs[many][task]
    slope = {key: (two[key] - one[key]) / (many - few) for key in one}
    facts = {f"{key}_at_{many}": round(two[key], 2) for key in two}
    facts["gb_per_cpu_s"] = round(CLIP_BYTES / 1e9 / slope["cpu_s"], 3)
    facts |= {
        f"{key}_of_a_million": round(two[key] + slope[key] * (MILLION - many), 1) for key in two
    }
    return facts


def main(argv: Sequence[str] | None = None) -> None:
    """Make the runs, time the tasks, write the record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--few", type=int, default=25_000)
    parser.add_argument("--many", type=int, default=100_000)
    parser.add_argument("--do", nargs=2, metavar=("TASK", "RUN"), help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=records.RUNS / "scores.json", help="record")
    options = parser.parse_args(argv)
    if options.do:
        work(options.do[0], Path(options.do[1]))
        return
    runs: dict[int, dict[str, Any]] = {}
    for number in (options.few, options.many):
        with tempfile.TemporaryDirectory(prefix="vxp-bench-") as temporary:
            folder = Path(temporary) / "run"
            measured(f"make {number}", folder)  # elsewhere: a child begins with its parent's memory
            runs[number] = {task: measured(task, folder) for task in TASKS}
    with tempfile.TemporaryDirectory(prefix="vxp-bench-") as temporary:
        column = column_speeds(Path(temporary))
    facts: dict[str, Any] = {
        "column": column,
        "clips": [options.few, options.many],
        "clip_bytes": CLIP_BYTES,
        **{task: line(task, options.few, options.many, runs) for task in TASKS},
    }
    facts["score_to_read_cpu"] = round(
        facts["read"]["gb_per_cpu_s"] / facts["score"]["gb_per_cpu_s"], 2
    )
    facts["under_4_gb_at_a_million"] = all(
        facts[task]["peak_resident_mb_of_a_million"] * 1e6 < LIMIT_BYTES for task in TASKS
    )
    print(json.dumps(facts, indent=1))
    numbers = ["--few", str(options.few), "--many", str(options.many)]
    records.write_record(
        options.out.stem,
        facts,
        argv=["pipelines/bench/scores.py", *numbers],
        folder=options.out.parent,
    )


if __name__ == "__main__":
    main()
