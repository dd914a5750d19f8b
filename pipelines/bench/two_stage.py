"""Measure a driver and an encoder where decoding and embedding are two stages.

    python pipelines/bench/two_stage.py [driver] [busy] [--small 5000 --large 20000] [--batches 60]

`driver`: what the process of the command takes of a core for each file, on the engine `ray`: two
jobs of small and many files, a line through both. Decoding reads no file and waits for none, the
encoder looks at a few pixels; all else is the real thing: tasks, frames of 32 px on their way, the
encoder's actor, parts, reports, totals.

`busy`: the share of its time that an encoder embeds, on both engines, where a batch takes 0.5 s and
parts and contact sheets go to an object store (moto, over HTTP) that answers 75 ms late.

Each figure is written to the record when it is there; those that are not asked for stay.
"""

from __future__ import annotations

import argparse
import contextlib
import cProfile
import json
import os
import pstats
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import psutil
import pyarrow as pa
import records
from memory import register_fakes

FRAME_PX: Final = 32
BATCH_S: Final = 0.5
LATENCY_S: Final = 0.075
BATCH_CLIPS: Final = 16
ENGINES: Final = ("local", "ray")
STORE_MIB: Final = 400


def run_job(number: int, out: str, engine_name: str) -> dict[str, Any]:
    """Embed so many files that are not there, in this process; return what it took."""
    import fake_stages

    from vxp_data.engines.base import EmbedStages
    from vxp_data.engines.choose import open_engine
    from vxp_data.pipeline.embed import job
    from vxp_data.pipeline.embed.encoder_stage import EmbedClips
    from vxp_data.pipeline.embed.stages import encoder_needs
    from vxp_data.pipeline.embed.wanted_media import wanted_media
    from vxp_data.pipeline.embed.work_items import WorkList

    is_slow = "VXP_BENCH_LOG" in os.environ  # batches of 16 clips, which a core can decode
    device = "cpu" if engine_name == "local" or is_slow else "cuda"  # pretended
    settings = job_settings(out, device)
    stages = EmbedStages(
        decode=partial(fake_stages.decode, settings=settings),
        start_encoder=partial(EmbedClips, settings),
        needs=encoder_needs(settings),
    )
    job.embed_stages = lambda *_: stages
    uris = pa.array([f"/videos/{i:08d}.mp4" for i in range(number)])
    whole = [pa.repeat(value, number) for value in (0.0, float("inf"), True)]
    columns = ["uri", "clip_start_s", "clip_end_s", "is_video"]
    wanted = wanted_media(
        pa.table([uris, *whole], names=columns), lambda some: dict.fromkeys(some, "1-1")
    )
    work = WorkList(wanted, np.zeros(number, dtype=np.bool_))
    with open_engine(cluster_of(engine_name)) as engine:
        engine.plan(stages.needs)  # starts Ray
        started_s, before = time.monotonic(), psutil.Process().cpu_times()
        with _profiled():
            totals = job.embed_media(work, engine, settings, lambda _: None)
        wall_s, after = time.monotonic() - started_s, psutil.Process().cpu_times()
    if totals.clips != number or totals.failed:
        raise SystemExit(f"{totals.clips} of {number} clips came back, {totals.failed} failed")
    cpu_s = after.user + after.system - before.user - before.system
    return {"files": number, "driver_cpu_s": round(cpu_s, 3), "wall_s": round(wall_s, 2)}


def job_settings(out: str, device: str) -> Any:
    """Return the settings of a job with the fake encoder; its parts go below `out`."""
    from vxp_data.pipeline.embed.job_settings import JobSettings
    from vxp_data.pipeline.run_dir.directory import open_run
    from vxp_data.registry import ENCODERS
    from vxp_data.settings.prune import load_config

    overrides = {"encoder.name": "fake", "decode.decoder": "fake", "decode.fallback": None}
    overrides["encoder.device"] = device
    loaded = load_config(None, [(name, value, "bench") for name, value in overrides.items()])
    config, run = loaded.config, open_run(out)
    return JobSettings(
        frames=config.frames,
        decode=config.decode,
        fetch=config.fetch,
        encoder=config.encoder,
        spec=ENCODERS.load("fake").describe(config.encoder),
        sampler="bench",
        parts=run.parts,
        thumbnails=run.thumbnails,
        sheet_bytes=config.thumbnails.max_bytes,
    )


def cluster_of(engine_name: str) -> Any:
    """Return two cores of this machine, and little shared memory."""
    from vxp_data.settings.cluster import ClusterConfig

    if engine_name == "local":
        return ClusterConfig(engine="local", num_cpus=2)
    return ClusterConfig(engine="ray", num_cpus=2, num_gpus=1, object_store_mib=STORE_MIB)


@contextlib.contextmanager
def _profiled() -> Iterator[None]:
    """With VXP_BENCH_PROFILE, print the functions in which all threads spend their own time."""
    if not os.environ.get("VXP_BENCH_PROFILE"):
        yield
        return
    import threading

    profiles: list[cProfile.Profile] = []

    def begin(*_: Any) -> None:
        profile = cProfile.Profile(time.thread_time)
        profiles.append(profile)
        profile.enable()

    threading.setprofile(begin)
    begin()
    yield
    threading.setprofile(None)
    for profile in profiles:
        profile.disable()
    for profile in profiles:
        stats = pstats.Stats(profile, stream=sys.stderr)
        if stats.total_tt > 0.3:
            stats.sort_stats("tottime").print_stats(35)
            stats.sort_stats("cumtime").print_stats(45)


def driver(small: int, large: int) -> dict[str, Any]:
    """Run both sizes on Ray; lay a line through what the driver takes."""
    runs = []
    for number in (small, large):
        with tempfile.TemporaryDirectory(prefix="vxp-bench-") as folder:
            runs.append(_apart(number, folder, "ray", {}))
    one, two = runs
    slope_s = (two["driver_cpu_s"] - one["driver_cpu_s"]) / (large - small)
    return {
        "frame_px": FRAME_PX,
        "driver_cpu_ms_a_further_file": round(1e3 * slope_s, 3),
        "files_per_s_of_a_driver_with_a_core_alone": round(1 / slope_s),
        "runs": runs,
    }


def busy(engine_name: str, batches: int) -> dict[str, Any]:
    """Embed so many batches into a slow store; return the share of the time that was embedding."""
    sys.path.insert(0, str(records.ROOT / "tests"))
    import pytest

    from support import s3

    with (
        tempfile.TemporaryDirectory(prefix="vxp-bench-") as folder,
        s3.proxy_endpoint() as (endpoint, proxy),
        s3.s3_server(proxy),
        pytest.MonkeyPatch.context() as patch,
    ):
        s3.s3_environment(endpoint, patch)
        bucket = s3.Bucket(proxy)
        bucket.fail("late", seconds=LATENCY_S, times=1 << 60)
        log = Path(folder) / "log"
        environment = {"VXP_BENCH_LOG": str(log), "VXP_BENCH_EMBED_S": str(BATCH_S)}
        run = _apart(batches * BATCH_CLIPS, f"{bucket.uri}/run", engine_name, environment)
        num_parts = len(bucket.listing("run/embeddings"))
        calls = [tuple(map(float, line.split()[1:])) for line in log.read_text().splitlines()]
    embedding_s = sum(end_s - began_s for began_s, end_s in calls)
    span_s = max(end_s for _, end_s in calls) - min(began_s for began_s, _ in calls)
    return {
        "busy_share": round(embedding_s / span_s, 4),
        "calls": len(calls),
        "parts": num_parts,
        "embedding_s": round(embedding_s, 2),
        "from_first_to_last_s": round(span_s, 2),
        "wall_s": run["wall_s"],
    }


def _apart(number: int, out: str, engine_name: str, environment: dict[str, str]) -> dict[str, Any]:
    command = [sys.executable, __file__, "--one", str(number), out, engine_name]
    own = os.environ | {"VXP_BENCH_FRAME_PX": str(FRAME_PX), "RAY_worker_niceness": "0"}
    own |= environment
    done = subprocess.run(command, env=own, stdout=subprocess.PIPE, text=True, check=True)
    facts: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(engine_name, facts, file=sys.stderr, flush=True)
    return facts


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what is asked for; write each figure to the record when it is there."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", nargs="*", default=["driver", "busy"], help="driver, busy")
    parser.add_argument("--small", type=int, default=5000, help="files of the shorter job")
    parser.add_argument("--large", type=int, default=20_000, help="files of the longer job")
    parser.add_argument("--batches", type=int, default=60, help="batches for `busy`")
    parser.add_argument("--out", type=Path, default=records.RUNS / "two-stage.json", help="record")
    parser.add_argument("--one", nargs=3, metavar=("N", "RUN", "ENGINE"), help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.one:
        number, out, engine_name = options.one
        with tempfile.TemporaryDirectory(prefix="vxp-bench-") as folder:
            register_fakes(Path(folder) / "fakes")
            print(json.dumps(run_job(int(number), out, engine_name)))
        return
    if "driver" in options.what:
        _record(options, {"driver": driver(options.small, options.large)})
    if "busy" in options.what:
        for name in ENGINES:
            _record(options, {f"encoder_{name}": busy(name, options.batches)})


def _record(options: argparse.Namespace, figures: dict[str, Any]) -> None:
    out: Path = options.out
    before = json.loads(out.read_text())["figures"] if out.exists() else {}
    print(json.dumps(figures, indent=1), flush=True)
    argv = ["pipelines/bench/two_stage.py", "--small", options.small, "--large", options.large]
    argv += ["--batches", options.batches]
    records.write_record(out.stem, before | figures, argv=[*map(str, argv)], folder=out.parent)


if __name__ == "__main__":
    main()
