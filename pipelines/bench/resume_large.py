"""Measure how long a stopped run of very many videos takes to begin again, and what it holds.

    python pipelines/bench/resume_large.py [--clips 2500000,10000000] [--folder DIR]

A run directory as a stopped prune leaves it: samples of so many videos, the index of parts that
hold all of them but 20,000, and the parts' names. Then, in a process of its own, what a prune does
until the first file is in a worker's hands: it sees that the manifest is as it was, lists the
wanted videos, looks in the index which are done, puts the others in order, starts a worker. Not
measured: the imports, and asking how the videos are now (the versions are those of the index): on a
disk that is a `stat` each, in a store a listing. No video is there, no part has anything in it.

Each size is written to the record when it is measured; those that are not asked for stay there.
With a folder, the runs stay in it for another time.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import psutil
import pyarrow as pa
import records
from memory import register_fakes

NUM_MISSING: Final = 20_000
CLIPS_A_PART: Final = 5500
"""256 MB of SigLIP's vectors."""
ROWS_AT_ONCE: Final = 1_000_000
VERSION: Final = "12345678-1700000000000000000"
SAMPLER: Final = "bench"
FAR_NUMBER: Final = 2654435761
"""Scatters videos over folders, so that their names are in no order."""


def uris_of(first: int, stop: int) -> list[str]:
    """Return names like a store's, in no order."""
    return [
        f"s3://bucket/videos/{i * FAR_NUMBER % (1 << 32):08x}/{i:09d}.mp4"
        for i in range(first, stop)
    ]


def make_run(folder: Path, number: int) -> None:
    """Write the run directory."""
    from vxp_data.manifests.samples import ManifestCounts, TaskRules
    from vxp_data.pipeline.run_dir.directory import open_run, write_batches
    from vxp_data.pipeline.run_dir.part_index import write_index
    from vxp_data.pipeline.run_dir.samples import dataset_facts
    from vxp_data.pipeline.run_dir.samples_read import keep_counts, made_of
    from vxp_data.schemas import SAMPLE_SCHEMA

    run = open_run(folder / "run")
    (folder / "run" / "embeddings").mkdir(parents=True)
    write_batches(run.samples, SAMPLE_SCHEMA, _samples(number))
    parts = [f"part-{i:07d}.parquet" for i in range(-(-number // CLIPS_A_PART))]
    for name in parts:
        (folder / "run" / "embeddings" / name).touch()
    index = run.part_index.file("index-whole.parquet")
    write_index(index, parts, _index(number - NUM_MISSING, parts))
    made = made_of([dataset_facts(dataset_of(folder))], TaskRules())
    keep_counts(run, made, [ManifestCounts(rows=number)])


def dataset_of(folder: Path) -> Any:
    """Return the dataset, whose manifest is as long as a test of its version needs."""
    from vxp_data.manifests.datasets import resolve_datasets

    manifest = folder / "rows.jsonl"
    if not manifest.exists():
        manifest.write_text("{}\n")
    (dataset,) = resolve_datasets([manifest], None)
    return replace(dataset, name="bench")


def _samples(number: int) -> Iterator[pa.Table]:
    from vxp_data.schemas import SAMPLE_SCHEMA

    for first in range(0, number, ROWS_AT_ONCE):
        rows = np.arange(first, min(first + ROWS_AT_ONCE, number))
        given = {
            "sample_id": [f"bench/{i}" for i in rows.tolist()],
            "row": rows,
            "media_uri": uris_of(int(rows[0]), int(rows[-1]) + 1),
            "modality": pa.repeat("video", len(rows)),
            "clip_start_s": np.zeros(len(rows)),
            "clip_end_s": np.full(len(rows), np.inf),
            "clips": [[]] * len(rows),
        }
        columns = [
            given[field.name] if field.name in given else _blank(field.type, len(rows))
            for field in SAMPLE_SCHEMA
        ]
        yield pa.table(columns, names=SAMPLE_SCHEMA.names).cast(SAMPLE_SCHEMA)


def _blank(kind: pa.DataType, number: int) -> pa.Array:
    texts = {pa.string(): "", pa.binary(): b"", pa.large_binary(): b""}
    return pa.repeat(pa.scalar(texts.get(kind), kind), number)


def _index(number: int, parts: list[str]) -> Iterator[pa.Table]:
    from vxp_data.pipeline.run_dir.part_index import INDEX_SCHEMA

    for first in range(0, number, ROWS_AT_ONCE):
        rows = np.arange(first, min(first + ROWS_AT_ONCE, number))
        columns = {
            "uri": uris_of(int(rows[0]), int(rows[-1]) + 1),
            "clip_start_s": np.zeros(len(rows)),
            "clip_end_s": np.full(len(rows), np.inf),
            "file_version": pa.repeat(VERSION, len(rows)),
            "encoder": pa.repeat("0" * 16, len(rows)),
            "sampler": pa.repeat(SAMPLER, len(rows)),
            "reason": pa.repeat("", len(rows)),
            "part": pa.DictionaryArray.from_arrays(
                (rows // CLIPS_A_PART).astype(np.int32), pa.array(parts)
            ),
            "row": (rows % CLIPS_A_PART).astype(np.int32),
        }
        yield pa.table(columns, schema=INDEX_SCHEMA)


def resume(folder: Path) -> dict[str, Any]:
    """Begin again, in this process, until a worker has its first file; return times and memory."""
    import fake_stages
    from two_stage import cluster_of, job_settings

    from vxp_data.engines.base import EmbedStages
    from vxp_data.engines.choose import open_engine
    from vxp_data.manifests.samples import TaskRules
    from vxp_data.pipeline.embed import job
    from vxp_data.pipeline.embed.encoder_stage import EmbedClips
    from vxp_data.pipeline.embed.stages import encoder_needs
    from vxp_data.pipeline.embed.wanted_media import read_wanted_media
    from vxp_data.pipeline.embed.work_items import WorkList, done_clips
    from vxp_data.pipeline.run_dir.directory import open_run
    from vxp_data.pipeline.run_dir.part_index import read_part_index
    from vxp_data.pipeline.run_dir.samples import write_samples

    run, settings = open_run(folder / "run"), job_settings(str(folder / "out"), "cpu")
    shutil.rmtree(folder / "out", ignore_errors=True)
    (folder / "out").mkdir()
    datasets, empty_bytes = [dataset_of(folder)], resident_bytes()
    at_s = [time.monotonic()]
    cpu_s = time.process_time()
    counts = write_samples(run, datasets, TaskRules())
    at_s.append(time.monotonic())
    wanted = read_wanted_media(run, lambda uris: dict.fromkeys(uris, VERSION))
    at_s.append(time.monotonic())
    made_by = {"encoder": settings.spec.fingerprint, "sampler": SAMPLER}
    work = WorkList(wanted, done_clips(read_part_index(run), wanted, **made_by))
    at_s.append(time.monotonic())
    cpu_s, held_bytes = time.process_time() - cpu_s, resident_bytes() - empty_bytes
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - empty_bytes
    assert counts.rows == len(wanted), (counts.rows, len(wanted))
    assert len(work) == NUM_MISSING, len(work)
    log = folder / "out" / "first"
    job.embed_stages = lambda *_: EmbedStages(
        decode=partial(fake_stages.decode_noting, settings=settings, log=str(log)),
        start_encoder=partial(EmbedClips, settings),
        needs=encoder_needs(settings),
    )

    class Enough(Exception):  # noqa: N818 - nothing is wrong
        pass

    def stop(_: Any) -> None:
        raise Enough

    try:
        with open_engine(cluster_of("local")) as engine:
            job.embed_media(work, engine, settings, stop)
    except Enough:
        pass
    at_s.append(float(log.read_text().split()[0]))
    steps = ("manifests_s", "wanted_s", "done_s", "first_task_s")
    return {
        "clips": len(wanted),
        "seconds_to_first_task": round(at_s[-1] - at_s[0], 2),
        **{name: round(b - a, 2) for name, a, b in zip(steps, at_s[:-1], at_s[1:], strict=True)},
        "driver_cpu_s": round(cpu_s, 2),
        "peak_mb": round(peak_bytes / 1e6),
        "held_mb": round(held_bytes / 1e6),
        "wanted_mb": round((wanted.uri.nbytes + wanted.file_version.nbytes + 8) / 1e6),
    }


def resident_bytes() -> int:
    """Return what this process holds."""
    pa.default_memory_pool().release_unused()
    resident: int = psutil.Process().memory_info().rss
    return resident


def figures(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Lay a line through the least and the most clips."""
    one, two = runs[0], runs[-1]
    more = max(1, two["clips"] - one["clips"])
    return {
        "missing": NUM_MISSING,
        "most": two,
        "seconds_a_further_million": round(
            1e6 * (two["seconds_to_first_task"] - one["seconds_to_first_task"]) / more, 2
        ),
        "peak_bytes_a_further_clip": round(1e6 * (two["peak_mb"] - one["peak_mb"]) / more),
        "held_bytes_a_further_clip": round(1e6 * (two["held_mb"] - one["held_mb"]) / more),
        "uri_bytes": len(uris_of(0, 1)[0]),
        "runs": list(runs),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Make the runs, begin each again in a process of its own, write the record after each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--clips", default="2500000,10000000")
    parser.add_argument("--folder", type=Path, help="keeps the runs; none: a temporary one")
    parser.add_argument("--out", type=Path, default=records.RUNS / "resume-large.json")
    parser.add_argument("--one", nargs=2, metavar=("WHAT", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="vxp-bench-") as temporary:
        folder = Path(temporary)
        if options.one:
            what, of = options.one
            register_fakes(folder / "fakes")
            if what == "resume":
                print(json.dumps(resume(Path(of))))
            else:
                make_run(Path(of), int(what))
            return
        for number in map(int, options.clips.split(",")):
            own = (options.folder or folder) / str(number)
            if not own.exists():
                own.mkdir(parents=True)
                _apart(str(number), own)
            _record(options, json.loads(_apart("resume", own).splitlines()[-1]))


def _record(options: argparse.Namespace, run: dict[str, Any]) -> None:
    print(json.dumps(run), file=sys.stderr, flush=True)
    out: Path = options.out
    before = json.loads(out.read_text())["figures"]["runs"] if out.exists() else []
    by_size = {one["clips"]: one for one in [*before, run]}
    runs = [by_size[number] for number in sorted(by_size)]
    command = ["pipelines/bench/resume_large.py", "--clips", ",".join(map(str, sorted(by_size)))]
    records.write_record(out.stem, figures(runs), argv=command, folder=out.parent)


def _apart(what: str, folder: Path) -> str:
    command = [sys.executable, __file__, "--one", what, str(folder)]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


if __name__ == "__main__":
    main()
