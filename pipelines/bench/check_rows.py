"""Time the pass over an index that finds rows which cannot be learned from.

    python pipelines/bench/check_rows.py [--rows 100000]

Rows are written for the purpose: two of three about a video of a minute, whose plan has 60 frames,
the others text; words by a lognormal law, with a median of 400 bytes. One of a thousand has no
answer, another marks a medium that it has not, a third has a text of 60,000 bytes, of which the
tokens are counted. `format_2` is what `vxp-data shard` writes: the index says all but of the last
two. `format_1` has no such columns, so that every record is read. `without_length` leaves out how
long text is; `check` are the seconds of the whole, with those in which the first of the two loads
the tokenizer's libraries.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import records

from vxp_data.conversation import conversation_from_json
from vxp_data.shard_index import SAMPLE_COLUMNS, sample_columns, word_counts
from vxp_model.data.row_check import check_rows
from vxp_model.data.sources import Source, read_rows
from vxp_model.settings.mllm import MllmRecipe
from vxp_model.train.mllm.text_limit import limit_before_start

LIBRARIES: Final = ("vxp", "numpy", "pyarrow", "torch", "transformers")
EVERY: Final = 1000
LONG_BYTES: Final = 60_000
FRAMES: Final = 60


def conversation(number: int, num_bytes: int) -> list[dict[str, Any]]:
    """Return a row's messages."""
    answer = ("A bar moves to the left. " * (num_bytes // 25 + 1))[:num_bytes]
    words = "What happens in the scene?"
    is_video, kind = number % 3 != 0, number % EVERY
    if kind == 2:
        answer = "word " * (LONG_BYTES // 5)
    if kind == 3 and not is_video:
        words = f"<video>\n{words}"
    shown: Any = [{"type": "video"}, {"type": "text", "text": words}] if is_video else words
    turns = [{"role": "user", "content": shown}]
    return turns if kind == 1 else [*turns, {"role": "assistant", "content": answer}]


def record_of(number: int, turns: list[dict[str, Any]], version: int) -> dict[str, Any]:
    """Return a record of a format: of its fields, what takes room."""
    is_video = number % 3 != 0
    times = [float(n) for n in range(FRAMES * is_video)]
    plan = {"epoch": 0, "policy": "fixed_fps", "fps": 1.0}
    plans = [{**plan, "frame_index": [int(t * 25) for t in times], "time_s": times}] * is_video
    names = ("dataset", "task", "decision", "reason", "measure", "annotation")
    row: dict[str, Any] = dict.fromkeys(names, "d") | {
        "sample_id": f"d/{number}", "row": number, "plans": plans, "has_score": True, "score": 0.5,
        "has_threshold": True, "threshold": 0.6,
    }  # fmt: skip
    if version == 1:
        text = ["".join(_text(turn) for turn in turns if turn["role"] == role)
                for role in ("user", "assistant")]  # fmt: skip
        row["exchanges"] = json.dumps([text])
    else:
        row["conversation"] = json.dumps(turns)
    media = dict.fromkeys(("media_id", "uri", "container", "codec", "pixel_format"), "m") | {
        "num_bytes": 0, "width_px": 0, "height_px": 0, "fps": 25.0, "num_frames": 1500,
        "duration_s": 60.0, "start_s": 0.0, "rotation": 0, "timeline": "A" * 400 * is_video,
    }  # fmt: skip
    image_format = "picture_format" if version == 1 else "image_format"
    payload: dict[str, Any] = dict.fromkeys(("suffix", "sha256", image_format), "")
    payload |= {"kind": "none"} | dict.fromkeys(
        ("num_bytes", "width_px", "height_px", "num_frames", "num_exact"), 0
    )
    provenance = dict.fromkeys(("run", "encoder", "sampler", "vxp_version"), "p")
    return {
        "format_version": version, "key": f"{number:024d}", "kind": "video" if is_video else "text",
        "clip_start_s": 0.0, "clip_end_s": 60.0, "media": media, "payload": payload,
        "sampling": "{}", "provenance": provenance, "rows": [row],
    }  # fmt: skip


def _text(turn: dict[str, Any]) -> str:
    content = turn["content"]
    return content if isinstance(content, str) else f"<video>\n{content[1]['text']}"


def write(folder: Path, num_rows: int, version: int) -> None:
    """Write shards of a format: a tar for videos, one for text, and the index."""
    sizes = np.random.default_rng(0).lognormal(np.log(400), 0.8, num_rows).astype(int) + 1
    entries, table = [], []
    for shard, kind in enumerate(("video", "text")):
        path = folder / f"{kind}-00000.tar"
        own = [n for n in range(num_rows) if (n % 3 != 0) == (kind == "video")]
        with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
            for number in own:
                turns = conversation(number, int(sizes[number]))
                data = json.dumps(record_of(number, turns, version)).encode()
                info = tarfile.TarInfo(f"{number:024d}.json")
                info.size = len(data)
                offset = tar.offset + 512
                tar.addfile(info, io.BytesIO(data))
                table.append(_index_row(shard, number, turns, offset, len(data)))
        facts = {"num_clips": len(own), "num_samples": len(own), "num_frames": 0}
        entries.append(
            {"name": path.name, "kind": kind, **facts, "num_bytes": path.stat().st_size,
             "decode_cost": 0.0, "sha256": ""}
        )  # fmt: skip
    columns = sample_columns(version)
    schema = pa.schema([(name, pa.type_for_alias(kind)) for name, kind in columns.items()])
    rows = [{name: row[name] for name in columns} for row in table]
    pq.write_table(pa.Table.from_pylist(rows, schema), folder / "samples.parquet")
    sha256 = hashlib.sha256((folder / "samples.parquet").read_bytes()).hexdigest()
    index = {
        "format_version": version, "payload": "none", "num_epochs": 1, "sampling": "{}",
        "provenance": dict.fromkeys(("run", "encoder", "sampler", "vxp_version"), "p"),
        "samples": {"name": "samples.parquet", "num_rows": len(rows), "sha256": sha256},
        "quarantine": {"name": "quarantine.parquet", "num_rows": 0, "sha256": ""},
        "quarantined_by_reason": {}, "shards": entries,
    }  # fmt: skip
    (folder / "index.json").write_text(json.dumps(index))


def _index_row(
    shard: int, number: int, turns: list[dict[str, Any]], offset: int, num_bytes: int
) -> dict[str, Any]:
    is_video = number % 3 != 0
    said = conversation_from_json(json.dumps(turns))
    values = dict.fromkeys(SAMPLE_COLUMNS, 0) | word_counts(said, num_media=int(is_video))
    return values | {
        "shard": shard, "key": f"{number:024d}", "sample_id": f"d/{number}", "task": "caption",
        "json_offset": offset, "json_bytes": num_bytes, "num_frames": FRAMES * is_video,
        "dataset": "d",
    }  # fmt: skip


def timed(folder: Path) -> dict[str, Any]:
    """Check the rows of a folder; return the seconds, and what was found."""
    data = {"sources": [{"uri": str(folder)}]}
    recipe = MllmRecipe.model_validate(
        {
            "stage": "sft",
            "start": {"preset": "tiny"},
            "data": data,
            "selector": {"drops_images": True},
        }
    )
    limit = limit_before_start(recipe)
    assert limit is not None
    marks = [(time.perf_counter(), time.process_time())]
    parts = read_rows([Source(uri=str(folder))])
    marks.append((time.perf_counter(), time.process_time()))
    check_rows(parts, reads_words=True)
    marks.append((time.perf_counter(), time.process_time()))
    found = check_rows(parts, reads_words=True, limit=limit)
    marks.append((time.perf_counter(), time.process_time()))
    seconds = [[round(b - a, 3) for a, b in zip(*pair, strict=True)]
               for pair in pairwise(marks)]  # fmt: skip
    return {
        "index_wall_s": seconds[0][0],
        "without_length_wall_s": seconds[1][0],
        "without_length_cpu_s": seconds[1][1],
        "check_wall_s": seconds[2][0],
        "check_cpu_s": seconds[2][1],
        "rows": found.num_all,
        "left_out": found.by_reason(),
        "tokenised": limit.num_tokenised,
    }


def _formats(num_rows: int) -> Iterator[tuple[str, dict[str, Any]]]:
    for version in (2, 1):
        with tempfile.TemporaryDirectory() as name:
            write(Path(name), num_rows, version)
            yield f"format_{version}", timed(Path(name))


def main() -> None:
    """Measure, print, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=100_000)
    asked = parser.parse_args()
    figures = dict(_formats(asked.rows))
    print(json.dumps(figures, indent=1))
    records.write_record("check-rows", figures, argv=sys.argv, libraries=LIBRARIES)


if __name__ == "__main__":
    main()
