"""Time the driver's pass over a run's parts, and decisions, against reading vectors alone.

    python pipelines/bench/scores.py [--few 25000 --many 100000]

The parts of a run are made of numbers: 20 x 1152 float16 unit rows a clip, 46 KB, 8 clips a part,
as workers write them. Merging and indexing them, reading the vectors alone, scoring as `prune` does
in its end (media, scores and means, of what the parts hold) and deciding run over few and over many
clips, each in a process of its own. What is said of a million media is the line through the two,
not a measurement. Beside it, over the few and over one part: parts as run format 6 had them, 8
clips each, vectors packed with zstd and no scores, so that all is worked out on the driver. And the
column of vectors alone, built and written and read back, as formats 4 and 6 had it and as it is.
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
from vxp_data.pipeline.run_dir.part_columns import part_of
from vxp_data.pipeline.run_dir.part_index import write_whole_index
from vxp_data.pipeline.run_dir.part_merging import merge_here
from vxp_data.pipeline.run_dir.part_table import read_groups, write_part
from vxp_data.schemas import EMBEDDING_FACTS
from vxp_data.storage.folder import File, open_folder

NUM_FRAMES: Final = 20
DIM: Final = 1152
CLIP_BYTES: Final = NUM_FRAMES * DIM * 2
CLIPS_IN_PART: Final = 8
CLIPS_IN_COLUMN: Final = 256
MADE_BY: Final = "synthetic"
"""Fingerprint of the encoder and of the sampler."""
MILLION: Final = 1_000_000
LIMIT_BYTES: Final = 4_000_000_000
ROUNDS: Final = 5
TASKS: Final = ("merge", "read", "score", "decide")


def make_run(folder: Path, num_clips: int, *, as_format_6: bool = False) -> None:
    """Write a run with the embeddings of so many clips, in parts of a few."""
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
        emb_CFD = _embeddings(facts.num_rows, rng)
        file = run.parts.file(f"part-{first:08d}.parquet")
        if as_format_6:
            packed = facts.append_column("embedding", embedding_column(list(emb_CFD)))
            write_packed(file, packed)
        else:
            write_part(file, part_of(facts, list(emb_CFD)))


def write_packed(file: File, part: pa.Table) -> None:
    """Write a part as run format 6 did."""
    with file.folder.write_path(file.name) as path:
        pq.write_table(part, path, compression="zstd", use_dictionary=False, write_statistics=False)


def _embeddings(num_clips: int, rng: np.random.Generator) -> NDArray[np.float16]:
    """Draw unit rows: a direction a clip, and more or less of noise around it."""
    noise = rng.standard_normal((num_clips, NUM_FRAMES, DIM), dtype=np.float32)
    own = rng.standard_normal((num_clips, 1, DIM), dtype=np.float32)
    emb = own + rng.uniform(0.2, 2.0, (num_clips, 1, 1)).astype(np.float32) * noise
    emb /= np.linalg.norm(emb, axis=-1, keepdims=True)
    return emb.astype(np.float16)


def column_speeds(folder: Path) -> dict[str, Any]:
    """Write and read the column in all ways, by turns; MB a CPU second, the median of the rounds.

    CLIPS_IN_COLUMN clips, in the page cache. What is read ends as one matrix a clip.
    """
    emb_CFD = _embeddings(CLIPS_IN_COLUMN, np.random.default_rng(1))
    ways = {
        "list of lists": (_write_lists, _read_lists),
        "one value a clip, packed": (_write_packed, _read),
        "one value a clip": (_write, _read),
    }
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
    oldest, old, new = speeds.values()
    ratios = {
        f"{name.partition('_')[0]}_to_{way}": round(new[name] / other[name], 1)
        for name in new
        for way, other in (("lists", oldest), ("packed", old))
    }
    return {"mb_of_clip": CLIP_BYTES / 1e6, "clips": CLIPS_IN_COLUMN, **speeds, "times": ratios}


def _write(folder: Path, emb_CFD: NDArray[np.float16]) -> None:
    column = embedding_column(list(emb_CFD))
    write_part(open_folder(folder).file("new.parquet"), pa.table({"embedding": column}))


def _write_packed(folder: Path, emb_CFD: NDArray[np.float16]) -> None:
    column = embedding_column(list(emb_CFD))
    write_packed(open_folder(folder).file("new.parquet"), pa.table({"embedding": column}))


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
    if task.startswith("make"):
        kind, _, number = task.partition(" ")
        make_run(folder, int(number), as_format_6=kind == "make_6")
        return
    run = open_run(folder)
    if task == "merge":
        merge_here(run)
        write_whole_index(run)
    elif task == "read":
        for _ in read_groups(run.part_files(), ["embedding"]):
            pass
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
    parts: dict[str, Any] = {}
    for number in (options.few, options.many):
        with tempfile.TemporaryDirectory(prefix="vxp-bench-") as temporary:
            folder = Path(temporary) / "run"
            measured(f"make {number}", folder)  # elsewhere: a child begins with its parent's memory
            before = len(open_run(folder).part_files())
            runs[number] = {task: measured(task, folder) for task in TASKS}
            sizes = list(open_run(folder).parts.sizes().values())
            index = sum(open_run(folder).part_index.sizes().values())
            parts[str(number)] = {"before": before, "after": len(sizes)} | {
                "mb_each": round(sum(sizes) / len(sizes) / 1e6, 1),
                "index_bytes_a_clip": round(index / number, 1),
            }
    packed: dict[int, dict[str, Any]] = {}
    for number in (CLIPS_IN_PART, options.few):
        with tempfile.TemporaryDirectory(prefix="vxp-bench-") as temporary:
            folder = Path(temporary) / "run"
            measured(f"make_6 {number}", folder)
            packed[number] = {task: measured(task, folder) for task in ("read", "score")}
    with tempfile.TemporaryDirectory(prefix="vxp-bench-") as temporary:
        column = column_speeds(Path(temporary))
    facts: dict[str, Any] = {
        "column": column,
        "clips": [options.few, options.many],
        "clip_bytes": CLIP_BYTES,
        "parts": parts,
        "as_format_6": {
            task: line(task, CLIPS_IN_PART, options.few, packed) for task in ("read", "score")
        },
        **{task: line(task, options.few, options.many, runs) for task in TASKS},
    }
    facts["score_to_read_cpu"] = round(
        facts["read"]["gb_per_cpu_s"] / facts["score"]["gb_per_cpu_s"], 2
    )
    facts["times_less_cpu_than_format_6"] = {
        task: round(old["cpu_s_of_a_million"] / facts[task]["cpu_s_of_a_million"], 1)
        for task, old in facts["as_format_6"].items()
    }
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
