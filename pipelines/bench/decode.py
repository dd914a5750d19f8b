"""Measure what frames cost: our probe and decode beside decord, clip by clip.

    python pipelines/bench/decode.py DIR [--seek exact|keyframe|auto]

Each library runs in a child process of its own that has it loaded; what is counted is the CPU time
of the whole call, one thread: ours reads the container and its timeline, plans and decodes; decord
opens the file and gets the batch. Beside them stands what ours cannot fall below: libavcodec alone
on the packets that the frames need, read before. They take turns on each clip. Clips that decord
does not read, or of which it counts other frames, are listed and left out of the sums.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import records
from measure_decode import Bench, ClipResult, redundancy, short
from rich.console import Console
from rich.table import Table

from vxp_data.core.frame_sampling import SEEKS


def figures(results: Sequence[ClipResult], bench: Bench) -> dict[str, Any]:
    """Sum up over the clips that both decode."""
    both = [result for result in results if not result.left_out]
    facts: dict[str, Any] = {
        "settings": {"frames": bench.num_frames, "px": bench.px, "repeat": bench.repeat,
                     "seek": bench.seek, "decord": "the uniform frames, in every mode"},
        "clips": len(results),
        "clips_in_sums": len(both),
        **_sums(both),
        "frames_compared": sum(result.frames for result in both),
        "frames_same": sum(result.same_frames for result in both),
        "slower": [result.clip for result in both if result.ratio < 1],
        "left_out": {result.clip: result.left_out for result in results if result.left_out},
    }  # fmt: skip
    if bench.seek != "exact":
        keys = [result for result in both if result.uses_key_frames]
        facts["where_key_frames_are_read"] = {"clips": len(keys), **_sums(keys)}
        facts["redundancy_against_exact"] = redundancy(results)
    return {**facts, "per_clip": [result.facts() for result in results]}


def _sums(results: Sequence[ClipResult]) -> dict[str, Any]:
    if not results:
        return {}
    ours_s = sum(result.ours_cpu_s for result in results)
    decord_s = sum(result.decord_cpu_s for result in results)
    codec_s = sum(result.codec_cpu_s for result in results)
    logs = [math.log(result.ratio) for result in results]
    facts: dict[str, Any] = {
        "ours_cpu_s": ours_s,
        "decord_cpu_s": decord_s,
        "decord_over_ours_total": decord_s / ours_s,
        "decord_over_ours_geometric_mean": math.exp(sum(logs) / len(logs)),
        "codec_cpu_s": codec_s,
        "ours_over_codec_total": ours_s / codec_s,
        "ours_share_probe": sum(result.probe_cpu_s for result in results) / ours_s,
        "ours_share_scale": sum(result.scale_cpu_s for result in results) / ours_s,
    }
    if any(result.uses_key_frames for result in results):
        same_s = sum(
            result.decord_cpu_s
            if result.decord_same_frames_cpu_s is None
            else result.decord_same_frames_cpu_s
            for result in results
        )
        facts["decord_same_frames_cpu_s"] = same_s
        facts["decord_same_frames_over_ours_total"] = same_s / ours_s
    return {name: short(value) for name, value in facts.items()}


def print_results(console: Console, facts: dict[str, Any], results: Sequence[ClipResult]) -> None:
    """Print one line a clip, slower ones marked, and the sums."""
    table = Table(title=f"CPU seconds a clip, seek {facts['settings']['seek']}")
    for name in ("clip", "kind", "frames"):
        table.add_column(name, overflow="fold")
    for name in ("probe", "decode", "of it scale", "ours", "codec", "decord", "ours/codec",
                 "decord/ours", "differ"):  # fmt: skip
        table.add_column(name, justify="right")
    for result in results:
        start = (result.clip, result.what, f"{result.frames} of {result.num_frames_video}")
        if result.left_out:
            table.add_row(*start, "", "", "", f"{result.ours_cpu_s:.3f}", "", result.left_out)
            continue
        parts = (result.probe_cpu_s, result.decode_cpu_s, result.scale_cpu_s)
        totals = (*parts, result.ours_cpu_s, result.codec_cpu_s, result.decord_cpu_s)
        cells = (f"{seconds:.3f}" for seconds in totals)
        ratio = f"{result.ratio:.2f}" + (" slower" if result.ratio < 1 else "")
        over_codec = f"{result.ours_cpu_s / result.codec_cpu_s:.2f}"
        row = (*start, *cells, over_codec, ratio, f"{result.mean_abs_difference:.2f}")
        table.add_row(*row, style="red" if result.ratio < 1 else None)
    console.print(table)
    for name, value in facts.items():
        if name not in ("per_clip", "left_out", "settings"):
            console.print(f"{name}: {value}", highlight=False)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure all files of a folder and write the record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, metavar="DIR", help="the clips: every file in it")
    parser.add_argument("--out", type=Path, help="record; manifests/runs/decode-SEEK.json")
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument("--px", type=int, default=384, help="side of the square images")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--seek", choices=SEEKS, default="exact")
    options = parser.parse_args(argv)
    paths = sorted(path for path in options.folder.iterdir() if path.is_file())
    if not paths:
        parser.error(f"{options.folder} has no files")
    console = Console(width=None if sys.stdout.isatty() else 170)
    bench = Bench(options.frames, options.px, options.repeat, options.seek)
    results = []
    try:
        for path in paths:
            results.append(bench.measure(path))
            print(f"{len(results)}/{len(paths)} {path.name}", file=sys.stderr, flush=True)
    finally:
        bench.close()
    facts = figures(results, bench)
    print_results(console, facts, results)
    out = options.out or records.RUNS / f"decode-{options.seek}.json"
    command = ["pipelines/bench/decode.py", *(sys.argv[1:] if argv is None else argv)]
    records.write_record(out.stem, facts, argv=command, folder=out.parent)
    console.print(f"record: {out.name}")


if __name__ == "__main__":
    main()
