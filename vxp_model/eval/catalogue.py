"""What benchmarks there are, for people: `vxp-model benchmarks`."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Final

from vxp_data.storage.local import whole_file
from vxp_model.errors import UserError
from vxp_model.eval.benchmarks.base import Benchmark
from vxp_model.eval.contamination import media_list, media_manifest
from vxp_model.eval.store import write_lines
from vxp_model.eval.text_tables import shortened
from vxp_model.registry import BENCHMARKS

_WIDTH: Final = 100


def load_benchmark(name: str) -> Benchmark:
    """Return a benchmark.

    Raises:
        UserError: there is none of that name.
    """
    benchmark: Benchmark = BENCHMARKS.load(name)()
    return benchmark


def describe_all() -> str:
    """Return a line for each: name, counts, mean length of a video, what its score is."""
    rows: list[tuple[str, ...]] = [("name", "questions", "videos", "a video", "known by")]
    for name in BENCHMARKS.names():
        one = load_benchmark(name)
        counts = [one.expected.get(key) for key in ("questions", "videos")]
        length = one.about.mean_s
        rows.append(
            (
                name,
                *("-" if count is None else f"{count:,}" for count in counts),
                "-" if length is None else f"{length:,.0f} s",
                shortened(one.about.metric, 40),
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for name, *numbers, metric in rows:
        right = (cell.rjust(width) for cell, width in zip(numbers, widths[1:], strict=False))
        lines.append("  ".join([name.ljust(widths[0]), *right, metric]))
    return "\n".join([*lines, "", "Files, licence, prompts of one: vxp-model benchmarks NAME"])


def describe_one(name: str) -> str:
    """Return all that a user needs before the first run of a benchmark."""
    one = load_benchmark(name)
    rows = {
        "title": one.about.title,
        "from": one.about.source,
        "licence": one.about.licence,
        "files": one.about.files,
        "published": ", ".join(f"{key} {number:,}" for key, number in one.expected.items())
        or "counts are not checked",
        "known by": one.about.metric,
        "checked": one.about.checked_against,
        "styles": ", ".join(one.styles),
        "--compat": ", ".join(sorted(one.conventions)) or "none",
        "try": f"vxp-model eval MODEL --benchmark {name} --data DIR --out runs/{name}",
    }
    lines = [f"{name} (version {one.version})"]
    for key, value in rows.items():
        wrapped = textwrap.wrap(value, _WIDTH - 14, break_on_hyphens=False) or [""]
        lines.append(f"  {key:<10}  {wrapped[0]}")
        lines += [f"{'':14}{line}" for line in wrapped[1:]]
    return "\n".join(lines)


def write_media(name: str, data: Path | None, out: Path | None) -> str:
    """List a benchmark's media, to a file where one is named.

    Raises:
        UserError: no folder is named, or its files are not the benchmark's.
    """
    if data is None:
        raise UserError(f"--media {name}: say where its files lie with --data DIR.")
    benchmark = load_benchmark(name)
    if out is not None and out.suffix == ".jsonl":
        rows = list(media_manifest(benchmark, data))
        write_lines(out, rows)
        return (
            f"{len(rows)} media in {out}. Embed them with: vxp-data prune {out} --media-root "
            f"{data} --out runs/{name}-media; then exclude what looks like them: vxp-data prune "
            f"... --exclude runs/{name}-media"
        )
    lines = media_list(benchmark, data)
    if out is None:
        return "\n".join(lines)
    with whole_file(out) as beside:
        beside.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return f"{len(lines)} lines in {out}. Exclude them: vxp-data prune ... --exclude {out}"
