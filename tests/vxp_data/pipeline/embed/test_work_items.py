"""From samples to the files that must be read, against plain dictionaries and sorting."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from support.wanted import wanted_of
from vxp_data.engines.files import FILE_SCHEMA, num_clips
from vxp_data.pipeline.embed import wanted_media as module
from vxp_data.pipeline.embed.wanted_media import read_wanted_media
from vxp_data.pipeline.embed.work_items import WorkList, done_clips, gathered
from vxp_data.pipeline.run_dir.directory import open_run, write_batches
from vxp_data.schemas import CURRENT_COLUMNS, SAMPLE_SCHEMA

WHOLE = (0.0, math.inf)
CLIPS = (WHOLE, (0.0, 1.5), (1.5, 3.0), (1.5, 9.0), (7.25, math.inf))


def sample_row(rng: np.random.Generator, number: int) -> dict:
    row = dict.fromkeys(SAMPLE_SCHEMA.names)
    uri = f"/v/{rng.integers(30):02}é.mp4" if rng.random() < 0.95 else ""
    start_s, end_s = CLIPS[rng.integers(len(CLIPS))]
    row |= {
        "sample_id": str(number), "media_uri": uri, "clip_start_s": start_s, "clip_end_s": end_s,
        "modality": "video" if rng.random() < 0.3 else "image",
        "reason": "bad_row" if rng.random() < 0.1 else "", "clips": [],
    }  # fmt: skip
    if rng.random() < 0.2:
        row["clips"] = [
            {"modality": "video" if i else "image", "media_uri": f"/w/{rng.integers(9)}.mp4",
             "clip_start_s": 0.0, "clip_end_s": math.inf}
            for i in range(2)
        ]  # fmt: skip
    return row


@pytest.mark.parametrize("rows_held", [1, 40, 1 << 20])
def test_wanted_media_are_what_plain_python_finds(
    rows_held: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ROWS_HELD", rows_held)
    rng = np.random.default_rng(rows_held)
    rows = [sample_row(rng, number) for number in range(300)]
    run = open_run(tmp_path)
    tables = [pa.Table.from_pylist(rows[i : i + 50], SAMPLE_SCHEMA) for i in range(0, 300, 50)]
    write_batches(run.samples, SAMPLE_SCHEMA, iter(tables))
    clips: dict[str, set] = {}
    videos = set()
    for row in rows:
        one = {name: row[name] for name in ("modality", "media_uri", "clip_start_s", "clip_end_s")}
        for named in [one, *row["clips"]]:
            if named["media_uri"] and not row["reason"]:
                clip_s = (named["clip_start_s"], named["clip_end_s"])
                clips.setdefault(named["media_uri"], set()).add(clip_s)
                videos |= {named["media_uri"]} if named["modality"] == "video" else set()
    asked: list[str] = []

    def versions(uris):
        asked.extend(uris)
        return {uri: "" if uri.endswith("1.mp4") else f"{len(uri)}-7" for uri in uris}

    wanted = read_wanted_media(run, versions)
    assert asked == wanted.uri.to_pylist() == sorted(clips)
    assert wanted.num_bytes_N.tolist() == [0 if u.endswith("1.mp4") else len(u) for u in asked]
    assert wanted.is_image_N.tolist() == [uri not in videos for uri in asked]
    pairs = list(zip(wanted.start_s_C.tolist(), wanted.end_s_C.tolist(), strict=True))
    assert pairs == [clip_s for uri in asked for clip_s in sorted(clips[uri])]
    assert wanted.first_clip.tolist() == np.cumsum([0, *(len(clips[u]) for u in asked)]).tolist()


def part_rows(rng: np.random.Generator, number: int) -> list[dict]:
    def pick(*values):
        return values[0] if rng.random() < 0.6 else values[rng.integers(len(values))]

    rows = []
    for _ in range(number):
        start_s, end_s = CLIPS[rng.integers(len(CLIPS))]
        uri = f"/v/{rng.integers(50):02}.mp4"
        row = (uri, start_s, end_s, pick("10-1", "10-0"), pick("e", "f"), pick("s", "t"),
               pick("", "crashed", "fetch_failed"))  # fmt: skip
        rows.append(dict(zip(CURRENT_COLUMNS, row, strict=True)))
    return rows


@pytest.mark.parametrize("seed", range(3))
def test_what_is_done_and_what_is_to_do_is_what_plain_python_finds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    clips = {
        f"/v/{i:02}.mp4": {CLIPS[j] for j in rng.integers(0, len(CLIPS), rng.integers(1, 5))}
        for i in range(0, 50, 2)
    }
    versions = {uri: f"{rng.integers(1, 4)}-1" if i % 3 else "10-1" for i, uri in enumerate(clips)}
    wanted = wanted_of(clips, versions, images=[*clips][::4])
    rows = part_rows(rng, 400)
    done = {
        (row["uri"], row["clip_start_s"], row["clip_end_s"])
        for row in rows
        if versions.get(row["uri"]) == row["file_version"]
        and (row["encoder"], row["sampler"]) == ("e", "s")
        and row["reason"] != "fetch_failed"
    }
    tables = [pa.Table.from_pylist(rows[i : i + 7]) for i in range(0, len(rows), 7)]
    is_done_C = done_clips(tables, wanted, encoder="e", sampler="s", but=("fetch_failed",))
    keys = [(uri, *clip_s) for uri in sorted(clips) for clip_s in sorted(clips[uri])]
    assert is_done_C.tolist() == [key in done for key in keys]
    assert 0 < is_done_C.sum() < len(keys)

    todo = {u: sorted(c for c in clips[u] if (u, *c) not in done) for u in clips}
    files = [uri for uri in clips if todo[uri]]
    files.sort(key=lambda uri: (-int(versions[uri].partition("-")[0]), uri))
    work = WorkList(wanted, is_done_C)
    assert (len(work), work.num_clips) == (len(files), len(keys) - int(is_done_C.sum()))
    assert work.uris().to_pylist() == sorted(files)
    jobs = list(work.jobs(files_per_job=7))
    assert [len(job) for job in jobs[:-1]] == [7] * (len(jobs) - 1)
    for job in jobs:
        assert job.schema == FILE_SCHEMA
        numbers = [number for own in job["clip"].to_pylist() for number in own]
        assert numbers == list(range(num_clips(job)))
    given = [row for job in jobs for row in job.to_pylist()]
    assert [row["uri"] for row in given] == files
    for row in given:
        clips_s = list(zip(row["clip_start_s"], row["clip_end_s"], strict=True))
        assert clips_s == todo[row["uri"]]
        assert row["is_image"] == (row["uri"] in [*clips][::4])
        assert row["file_version"] == versions[row["uri"]]
        assert row["num_bytes"] == int(row["file_version"].partition("-")[0])


def test_with_nothing_wanted_nothing_is_done() -> None:
    wanted = wanted_of({})
    rows = pa.Table.from_pylist(part_rows(np.random.default_rng(0), 3))
    is_done_C = done_clips([rows], wanted, encoder="e", sampler="s")
    work = WorkList(wanted, is_done_C)
    assert (len(is_done_C), len(work), list(work.jobs())) == (0, 0, [])


def test_tables_are_gathered_until_they_are_many() -> None:
    tables = [pa.table({"x": range(i, i + 3)}) for i in range(0, 21, 3)]
    sizes = [len(table) for table in gathered(tables, 7)]
    assert sizes == [9, 9, 3]
    assert pa.concat_tables(gathered(tables, 7)).equals(pa.concat_tables(tables))
    assert list(gathered([])) == []
