"""From parts of every kind to media.parquet and scores.parquet, against the plain way to do it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from support.wanted import wanted_of
from vxp_data.core.similarity import score_videos
from vxp_data.pipeline.curate.score import score_clips
from vxp_data.pipeline.run_dir import ordered_rows as placed_rows
from vxp_data.pipeline.run_dir.directory import RunDirectory, open_run, read_table, write_table
from vxp_data.pipeline.run_dir.part_columns import part_of
from vxp_data.pipeline.run_dir.part_merging import merge_here
from vxp_data.pipeline.run_dir.part_table import write_part
from vxp_data.registry import MEASURES
from vxp_data.schemas import EMBEDDING_FACTS, EMBEDDING_SCHEMA

DIM = 8
CLIPS = ((0.0, 1.5), (0.0, math.inf), (1.5, 3.0))


def part_row(rng: np.random.Generator, uri: str, clip_s: tuple[float, float], **more) -> dict:
    emb_FD = rng.normal(size=(int(rng.integers(1, 5)), DIM))
    emb_FD = (emb_FD / np.linalg.norm(emb_FD, axis=1, keepdims=True)).astype(np.float16)
    row = {
        **dict.fromkeys(EMBEDDING_FACTS.names),
        "uri": uri,
        "media_id": f"id of {uri}",
        "clip_start_s": clip_s[0],
        "clip_end_s": clip_s[1],
        "file_version": "10-1",
        "encoder": "e",
        "sampler": "s",
        "reason": "",
        "message": "",
        "frame_index": list(range(len(emb_FD))),
        "embedding": emb_FD.tobytes(),
    }
    row |= more
    return row | ({"embedding": None} if row["reason"] else {})


def write_parts(run: RunDirectory, rng: np.random.Generator) -> list[list[dict]]:
    """Write parts with clips, failures, repetitions, and rows of other settings and files."""
    rows = []
    for number in range(60):
        for clip_s in CLIPS[: 1 + number % 3]:
            uri = f"/videos/{number:03}.mp4"
            rows.append(part_row(rng, uri, clip_s))
            others = (
                {"reason": "crashed"},
                {"reason": "fetch_failed"},
                {"encoder": "another"},
                {"sampler": "another"},
                {"file_version": "10-0"},
                {"media_id": "twice"},
            )
            rows += [part_row(rng, uri, clip_s, **o) for o in others if rng.random() < 0.3]
            if rng.random() < 0.2:
                rows = [
                    r
                    for r in rows
                    if r["reason"] or (r["uri"], r["clip_end_s"]) != (uri, clip_s[1])
                ]
    rows.append(part_row(rng, "/videos/not in the samples.mp4", CLIPS[1]))
    rows.append(part_row(rng, "/videos/000.mp4", (7.0, 8.0)))
    rng.shuffle(rows)
    parts = [rows[start : start + 5] for start in range(0, len(rows), 5)]
    schema = EMBEDDING_SCHEMA
    for number, part in enumerate(parts):
        write_table(run.parts.file(f"part-{number:04}.parquet"), pa.Table.from_pylist(part, schema))
    return parts


def expected(parts: list[list[dict]], uris: set[str]) -> dict[tuple, dict]:
    best: dict[tuple, dict] = {}
    for row in (row for part in parts for row in part):
        key = (row["uri"], row["clip_start_s"], row["clip_end_s"])
        if row["uri"] not in uris or key[1:] not in CLIPS:
            continue
        if (row["encoder"], row["sampler"], row["file_version"]) != ("e", "s", "10-1"):
            continue
        rank = {"": 0, "fetch_failed": 2}.get(row["reason"], 1)
        if key not in best or rank < {"": 0, "fetch_failed": 2}.get(best[key]["reason"], 1):
            best[key] = row
    return dict(sorted(best.items()))


@pytest.mark.parametrize("group_rows", [1 << 17, 10])
def test_the_best_row_of_each_clip_is_scored_in_order(
    group_rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placed_rows.PlacedRows.__init__, "__defaults__", (group_rows,))
    run = open_run(tmp_path)
    parts = write_parts(run, np.random.default_rng(0))
    uris = {f"/videos/{number:03}.mp4" for number in range(60)}
    wanted_clips = wanted_of(dict.fromkeys(uris, CLIPS))
    best = expected(parts, uris)
    assert {row["reason"] for row in best.values()} == {"", "crashed", "fetch_failed"}
    assert score_clips(run, wanted_clips, encoder="e", sampler="s") == len(best)
    media = read_table(run.media)
    assert media.schema.equals(EMBEDDING_FACTS)
    facts = [{name: row[name] for name in EMBEDDING_FACTS.names} for row in best.values()]
    assert media.equals(pa.Table.from_pylist(facts, EMBEDDING_FACTS))
    scores = read_table(run.scores).to_pylist()
    assert [(s["uri"], s["clip_start_s"], s["clip_end_s"]) for s in scores] == list(best)
    measures = [MEASURES.load(name) for name in MEASURES.names()]
    for got, row in zip(scores, best.values(), strict=True):
        if row["reason"]:
            wanted = dict.fromkeys(MEASURES.names())
        else:
            emb_FD = np.frombuffer(row["embedding"], np.float16).reshape(-1, DIM)
            one = score_videos([emb_FD], measures)
            wanted = {name: float(column[0]) for name, column in one.items()}
        assert {name: got[name] for name in MEASURES.names()} == wanted


def scored(run: RunDirectory) -> dict[str, bytes]:
    uris = {f"/videos/{number:03}.mp4" for number in range(60)}
    score_clips(run, wanted_of(dict.fromkeys(uris, CLIPS)), encoder="e", sampler="s")
    files = (run.media, run.scores, run.means)
    return {file.name: file.read_bytes() for file in files}


def with_scores(part: pa.Table) -> pa.Table:
    """Return a part as workers write it, of one without scores and means."""
    embeddings = [
        value and np.frombuffer(value, np.float16).reshape(-1, DIM)
        for value in part["embedding"].to_pylist()
    ]
    return part_of(part.drop_columns("embedding"), embeddings)


def test_what_parts_hold_is_taken_to_the_bit_and_vectors_are_not_read(tmp_path: Path) -> None:
    run = open_run(tmp_path)
    write_parts(run, np.random.default_rng(0))
    from_vectors = scored(run)
    for file in run.part_files():
        part = with_scores(read_table(file))
        nothing = pa.array([value and b"" for value in part["embedding"].to_pylist()])
        index = part.schema.get_field_index("embedding")
        write_part(file, part.set_column(index, "embedding", nothing.cast(pa.large_binary())))
    assert scored(run) == from_vectors
    merge_here(run)
    assert len(run.part_files()) == 1
    assert read_table(run.scores).num_rows > 60
    stored = scored(run)
    assert stored[run.scores.name] == from_vectors[run.scores.name]
    assert stored[run.means.name] == from_vectors[run.means.name]


@pytest.mark.parametrize("lacks", ["score:mean_adjacent@1", "mean"])
def test_what_parts_lack_is_worked_out_of_vectors(tmp_path: Path, lacks: str) -> None:
    run = open_run(tmp_path)
    write_parts(run, np.random.default_rng(0))
    from_vectors = scored(run)
    for number, file in enumerate(run.part_files()):
        part = with_scores(read_table(file))
        if number % 3 == 0:  # of another version
            names = [f"{name}-before" if name == lacks else name for name in part.column_names]
            part = part.rename_columns(names)
        elif number % 3 == 1:  # it could not be told when they were written
            index = part.schema.get_field_index(lacks)
            part = part.set_column(index, lacks, pa.nulls(len(part), part.schema.field(lacks).type))
        write_part(file, part)
    assert scored(run) == from_vectors


def test_vectors_that_are_no_unit_rows_are_stored_and_named_when_they_are_scored(
    tmp_path: Path,
) -> None:
    run = open_run(tmp_path)
    (row,) = write_parts(run, np.random.default_rng(0))[0][:1]
    uris = {row["uri"]: ((row["clip_start_s"], row["clip_end_s"]),)}
    facts = pa.Table.from_pylist([row | {"encoder": "e", "reason": ""}], EMBEDDING_FACTS)
    num_frames = len(row["frame_index"])
    part = part_of(facts, [np.full((num_frames, DIM), 2, dtype=np.float16)])
    assert part["score:mean_pairwise@1"].to_pylist() == [None]
    for file in run.part_files():
        run.parts.remove(file.name)
    write_part(run.parts.file("part-0.parquet"), part)
    with pytest.raises(ValueError, match="must have rows of unit L2 norm"):
        score_clips(run, wanted_of(uris), encoder="e", sampler=row["sampler"])


def test_a_run_without_parts_has_empty_tables(tmp_path: Path) -> None:
    run = open_run(tmp_path)
    (tmp_path / "embeddings").mkdir()
    assert score_clips(run, wanted_of({}), encoder="e", sampler="s") == 0
    assert len(read_table(run.media)) == len(read_table(run.scores)) == 0
