"""Measure the loader: raw reading beside webdataset and litdata, and decoded samples a second.

    python pipelines/bench/loader.py DIR [--rounds 7 --seconds 2]
    python pipelines/bench/loader.py --shards DIR

The videos of a folder are pruned (thumbnail encoder, all kept) and sharded with each payload; or
DIR/video, DIR/frames and DIR/none are such shards already. Raw:
ours reads every clip's members by their offsets, in the shuffled order of an epoch; webdataset
walks the same tars from end to end; litdata streams the same bytes, shuffled, from chunks of its
own. No one decodes or parses anything; the files are in the page cache. They take turns, and what
counts is the median over the rounds of the ratio in a round, by CPU seconds of the reading process,
so that a busy machine does not decide. Decoded: one epoch at 384 px, and the time from making a
loader to its first batch, both without imports.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import records
import webdataset
from rich.console import Console
from rich.table import Table

from vxp_model.data.clip import read_members
from vxp_model.data.dataset import ShardDataset
from vxp_model.data.frames import FrameOptions
from vxp_model.data.loader import ShardLoader
from vxp_model.data.order import OrderRule, epoch_order

COMMAND: Final = Path(sys.executable).with_name("vxp-data")
PAYLOADS: Final = ("video", "frames", "none")
LIBRARIES: Final = (*records.LIBRARIES, "webdataset", "litdata", "pillow")
CHUNK_BYTES: Final = "64MB"
WORKERS: Final = (0, 2)

Pass = Callable[[int], tuple[int, int]]
"""Reads everything once, as epoch `n`; gives how many clips and bytes that were."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What one reader did in one round."""

    clips: int
    num_bytes: int
    wall_s: float
    cpu_s: float


def make_shards(videos: Path, folder: Path) -> dict[str, Path]:
    """Prune and shard; return the shards' folder for each payload."""
    run = folder / "run"
    _command("prune", str(videos), "--out", str(run), "--encoder", "thumbnail", "--keep", "1.0")
    found = {}
    for payload in PAYLOADS:
        found[payload] = folder / payload
        _command("shard", str(run), "--out", str(found[payload]), "--payload", payload)
        print(f"sharded: {payload}", file=sys.stderr, flush=True)
    return found


def _command(*words: str) -> None:
    done = subprocess.run([str(COMMAND), *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(
            f"vxp-data {words[0]} ended with {done.returncode}:\n{done.stderr[-2000:]}"
        )


def ours(shards: Path) -> Pass:
    """Read by offsets, in the order of an epoch, each clip for its first row."""
    dataset = ShardDataset(str(shards), None)
    (rows,) = dataset.rows
    is_first = {int(row) for row in rows.row_N if rows.table.index_N[row] == 0}
    part = rows.part()

    def read(epoch: int) -> tuple[int, int]:
        clips = num_bytes = 0
        for row in epoch_order([part], OrderRule(), epoch).sample_E.tolist():
            if row in is_first:
                data, payload = read_members(rows.table, row, with_payload=True)
                clips, num_bytes = clips + 1, num_bytes + len(data) + len(payload)
        return clips, num_bytes

    return read


def plain_webdataset(shards: Path) -> Pass:
    """Read the tars one after another, as webdataset does without a shuffle buffer."""
    tars = sorted(map(str, shards.glob("*.tar")))

    def read(epoch: int) -> tuple[int, int]:
        del epoch
        clips = num_bytes = 0
        for sample in webdataset.WebDataset(tars, shardshuffle=False):
            clips += 1
            num_bytes += sum(len(data) for data in sample.values() if isinstance(data, bytes))
        return clips, num_bytes

    return read


def litdata_stream(shards: Path, folder: Path) -> Pass:
    """Read the same bytes from litdata's own chunks, shuffled."""
    import litdata

    items = [
        {suffix: data for suffix, data in sample.items() if isinstance(data, bytes)}
        for path in sorted(map(str, shards.glob("*.tar")))
        for sample in webdataset.WebDataset(path, shardshuffle=False)
    ]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        litdata.optimize(
            fn=_same, inputs=items, output_dir=str(folder), chunk_bytes=CHUNK_BYTES,
            num_workers=1, start_method="fork", verbose=False,
        )  # fmt: skip
    dataset = litdata.StreamingDataset(str(folder), shuffle=True)

    def read(epoch: int) -> tuple[int, int]:
        dataset.set_epoch(epoch)
        clips = num_bytes = 0
        for item in dataset:
            clips += 1
            num_bytes += sum(len(data) for data in item.values())
        return clips, num_bytes

    return read


def _same(item: dict[str, bytes]) -> dict[str, bytes]:
    return item


def take_turns(readers: dict[str, Pass], rounds: int, seconds: float) -> dict[str, list[Reading]]:
    """Run each reader for so long, in turns; the first pass of each is not counted."""
    found: dict[str, list[Reading]] = {name: [] for name in readers}
    sizes = {name: read(0) for name, read in readers.items()}
    if len(set(sizes.values())) > 1:
        raise SystemExit(f"the readers differ in clips and bytes: {sizes}")
    for number in range(rounds):
        names = list(readers)
        for name in names[number % len(names) :] + names[: number % len(names)]:
            found[name].append(_read_for(readers[name], seconds))
    return found


def _read_for(read: Pass, seconds: float) -> Reading:
    wall_s, cpu_s = time.monotonic(), time.process_time()
    clips = num_bytes = passes = 0
    while time.monotonic() - wall_s < seconds:
        passes += 1
        of_pass = read(passes)
        clips, num_bytes = clips + of_pass[0], num_bytes + of_pass[1]
    return Reading(clips, num_bytes, time.monotonic() - wall_s, time.process_time() - cpu_s)


def raw_figures(found: dict[str, list[Reading]]) -> dict[str, Any]:
    """Return medians over the rounds: each reader's speed, and ours over each other's."""
    facts: dict[str, Any] = {}
    for name, readings in found.items():
        facts[name] = {
            "mb_per_cpu_s": _median(r.num_bytes / 1e6 / r.cpu_s for r in readings),
            "clips_per_cpu_s": _median(r.clips / r.cpu_s for r in readings),
            "mb_per_wall_s": _median(r.num_bytes / 1e6 / r.wall_s for r in readings),
        }
    for name in found:
        if name != "ours":
            pairs = list(zip(found["ours"], found[name], strict=True))
            facts[f"ours_over_{name}_by_cpu"] = _median(
                (a.num_bytes / a.cpu_s) / (b.num_bytes / b.cpu_s) for a, b in pairs
            )
            facts[f"ours_over_{name}_by_wall"] = _median(
                (a.num_bytes / a.wall_s) / (b.num_bytes / b.wall_s) for a, b in pairs
            )
    return facts


def _median(values: Iterator[float]) -> float:
    return statistics.median(values)


def decoded(shards: Path, num_workers: int) -> dict[str, Any]:
    """Read an epoch of decoded samples."""
    before = _cpu_s()
    started = time.monotonic()
    loader = ShardLoader(str(shards), frames=FrameOptions(frame_px=384), num_workers=num_workers)
    samples = frames = 0
    first_s = 0.0
    for batch in loader:
        first_s = first_s or time.monotonic() - started
        samples, frames = samples + batch.num_real, frames + batch.num_frames
    wall_s = time.monotonic() - started
    loader.close()
    facts = {
        "workers": num_workers,
        "samples": samples,
        "frames": frames,
        "replaced": len(loader.replaced),
        "wall_s": wall_s,
        "samples_per_s": samples / wall_s,
        "frames_per_s": frames / wall_s,
        "first_batch_s": first_s,
    }
    if not num_workers:  # what a worker's own children used, nobody is told
        facts |= {"cpu_s": _cpu_s() - before, "frames_per_cpu_s": frames / (_cpu_s() - before)}
    return facts


def _cpu_s() -> float:
    """Return the CPU seconds of this process and of its children that have ended."""
    uses = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(use.ru_utime + use.ru_stime for use in uses)


def print_results(console: Console, facts: dict[str, Any]) -> None:
    """Print one table of raw reading and one of decoded samples."""
    table = Table("payload", "reader", "MB / CPU s", "clips / CPU s", "ours over it, by CPU")
    for payload, of_payload in facts["raw"].items():
        for name in ("ours", "webdataset", "litdata"):
            speed = of_payload[name]
            ratio = of_payload.get(f"ours_over_{name}_by_cpu", "")
            cells = (speed["mb_per_cpu_s"], speed["clips_per_cpu_s"], ratio)
            table.add_row(payload, name, *map(str, cells))
    console.print(table)
    for line in facts["decoded"]:
        console.print(line)


def _rounded(value: Any) -> Any:
    return json.loads(json.dumps(value), parse_float=lambda text: round(float(text), 3))


def main(argv: Sequence[str] | None = None) -> None:
    """Make the shards, measure, write the record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("folder", nargs="?", type=Path, metavar="DIR", help="videos: all in it")
    what.add_argument("--shards", type=Path, metavar="DIR", help="shards, in a folder a payload")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each reader in each round")
    parser.add_argument("--out", type=Path, default=records.RUNS / "loader.json", help="record")
    options = parser.parse_args(argv)
    facts: dict[str, Any] = {"settings": {"rounds": options.rounds, "seconds": options.seconds,
                                          "frame_px": 384}, "raw": {}, "decoded": []}  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="vxp-bench-") as temporary:
        if options.shards:
            shards = {payload: options.shards / payload for payload in PAYLOADS}
        else:
            shards = make_shards(options.folder, Path(temporary))
        for payload, folder in shards.items():
            readers = {
                "ours": ours(folder),
                "webdataset": plain_webdataset(folder),
                "litdata": litdata_stream(folder, Path(temporary) / f"litdata-{payload}"),
            }
            found = take_turns(readers, options.rounds, options.seconds)
            clips, num_bytes = readers["ours"](0)
            facts["raw"][payload] = {"clips": clips, "bytes": num_bytes, **raw_figures(found)}
            print(f"raw: {payload}", file=sys.stderr, flush=True)
        for payload in ("frames", "video"):
            for num_workers in WORKERS:
                facts["decoded"].append(
                    {"payload": payload, **decoded(shards[payload], num_workers)}
                )
                print(f"decoded: {payload}, {num_workers}", file=sys.stderr, flush=True)
    facts = _rounded(facts)
    console = Console(width=None if sys.stdout.isatty() else 150)
    print_results(console, facts)
    command = ["pipelines/bench/loader.py", *(sys.argv[1:] if argv is None else argv)]
    records.write_record(
        options.out.stem, facts, argv=command, libraries=LIBRARIES, folder=options.out.parent
    )
    console.print(f"record: {options.out.name}")


if __name__ == "__main__":
    main()
