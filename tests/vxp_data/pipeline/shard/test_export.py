"""Kept rows in the layouts of other trainers."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from support.mixed_media import COPY
from support.runs import run_prune, table
from support.talks import TALKS, talks_run
from vxp_data.cli import app
from vxp_data.errors import UserError

pytestmark = pytest.mark.usefixtures("engine")


@pytest.fixture(scope="module")
def kept(mixed_run: Path) -> list[str]:
    return [row["sample_id"] for row in table(mixed_run, "decisions") if row["decision"] == "keep"]


def trained(kept: list[str]) -> list[str]:
    """The ids of those rows that have an answer, as their manifest has them."""
    return [name.partition("/")[2] for name in kept if not name.endswith(("/silent", "/mute"))]


def export(run: Path, out: Path, *more: str) -> str:
    done = CliRunner().invoke(app, ["export", str(run), "--out", str(out), *more])
    assert done.exit_code == 0, done.output
    return done.output


def test_llava_rows_are_read_back_by_their_ids(
    mixed_run: Path, kept: list[str], tmp_path: Path
) -> None:
    said = export(mixed_run, tmp_path / "out.json")
    assert f"{len(trained(kept))} rows in" in said
    rows = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert [row["id"] for row in rows] == trained(kept)
    by_id: dict[str, dict[str, Any]] = {row["id"]: row for row in rows}
    assert by_id["png"]["more"] == {"ä": [1, None, 2.5]}
    media = mixed_run.parent / "media"
    first = by_id["caption-0.mp4"]
    assert first["video"] == str(media / "0.mp4")
    assert first["conversations"] == [
        {"from": "human", "value": "<image>\nPlease describe this video in detail."},
        {"from": "gpt", "value": "A test image."},
    ]
    assert Path(by_id[f"caption-{COPY}"]["video"]).name == COPY
    assert (by_id["part"]["clip_start_s"], by_id["part"]["clip_end_s"]) == (0.5, 2.0)
    assert by_id["end"]["clip_start_s"] == 2.0
    assert "clip_end_s" not in by_id["end"]
    assert "clip_start_s" not in first
    assert by_id["png"]["image"] == str(media / "still.png")
    assert by_id["png"]["conversations"][0]["value"].startswith("<image>\n")
    assert "video" not in by_id["talk"]
    assert "image" not in by_id["talk"]
    assert by_id["talk"]["conversations"][0] == {"from": "human", "value": "Hello, 你好"}


def test_ms_swift_rows_have_messages_and_lists_of_media(
    mixed_run: Path, kept: list[str], tmp_path: Path
) -> None:
    export(mixed_run, tmp_path / "out.jsonl", "--format", "ms-swift")
    lines = (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["id"] for row in rows] == trained(kept)
    assert Counter(
        next((name for name in ("videos", "images") if name in row), "text") for row in rows
    ) == {"videos": len(rows) - 3, "images": 2, "text": 1}
    for row in rows:
        placeholder = {"videos": "<video>", "images": "<image>"}
        for name, mark in placeholder.items():
            marks = sum(message["content"].count(mark) for message in row["messages"])
            assert marks == len(row.get(name, []))
            assert all(Path(path).is_file() for path in row.get(name, []))
        assert {message["role"] for message in row["messages"]} <= {"user", "assistant"}
    choice = next(row for row in rows if "Which is it?" in row["messages"][0]["content"])
    assert choice["messages"] == [
        {
            "role": "user",
            "content": "<video>\nWhich is it?\nA. A cat\nB. A dog\n"
            "Answer with the option's letter.",
        },
        {"role": "assistant", "content": "B"},
    ]


def test_parquet_has_a_row_for_each_plan(mixed_run: Path, kept: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    export(mixed_run, out, "--format", "parquet", "--set", "shard.num_epochs=2")
    rows = pq.read_table(out).to_pylist()
    samples = {row["sample_id"]: row for row in table(mixed_run, "samples")}
    with_media = [name for name in kept if samples[name]["modality"] != "text"]
    assert Counter((row["sample_id"], row["epoch"]) for row in rows) == Counter(
        [(name, epoch) for name in with_media for epoch in (0, 1)]
        + [(name, None) for name in kept if name not in with_media]
    )
    for row in rows:
        assert row["annotation"] == samples[row["sample_id"]]["annotation"]
        if row["epoch"] is not None:
            assert len(row["frame_index"]) == len(row["time_s"]) > 0
        else:
            assert row["frame_index"] == row["time_s"] == []


def test_an_unknown_layout_is_named_with_the_known_ones(mixed_run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'lava'. Did you mean 'llava'\? Known: llava, ms-swift"):
        app(
            ["export", str(mixed_run), "--out", str(tmp_path / "x"), "--format", "lava"],
            standalone_mode=False,
        )


@pytest.fixture(scope="module")
def talks(tmp_path_factory: pytest.TempPathFactory, engine: None) -> Path:  # noqa: ARG001
    return talks_run(tmp_path_factory.mktemp("talks"))


def columns(row: dict[str, Any]) -> dict[str, Any]:
    """The columns that an export has nothing to do with."""
    ours = {"video", "image", "videos", "images", "conversations", "messages"}
    return {name: value for name, value in row.items() if name not in ours}


LEFT_OUT = (
    "Left out: 1 answers right after another answer, 1 turns that say nothing, 1 turns after the "
    "last answer, 1 rows without an answer, 1 rows that show their video or image after the last "
    "answer."
)
MARKED = "3 rows have the words <video> or <image> where no video or image is"


@pytest.mark.parametrize(
    ("layout", "names", "markers"),
    [
        (
            "llava",
            {"system": "system", "user": "human", "assistant": "gpt", "tool": "observation"},
            {"video": "<image>", "image": "<image>"},
        ),
        (
            "ms-swift",
            {name: name for name in ("system", "user", "assistant", "tool")},
            {"video": "<video>", "image": "<image>"},
        ),
    ],
)
def test_every_turn_that_can_be_trained_on_is_written_and_read_back(
    talks: Path, tmp_path: Path, layout: str, names: dict[str, str], markers: dict[str, str]
) -> None:
    out = tmp_path / ("out.json" if layout == "llava" else "out.jsonl")
    printed = export(talks, out, "--format", layout)
    assert LEFT_OUT in printed.replace("\n", " ")
    assert MARKED in printed.replace("\n", " ")
    text = out.read_text(encoding="utf-8")
    rows = json.loads(text) if layout == "llava" else [*map(json.loads, text.splitlines())]
    assert [row["id"] for row in rows] == [*TALKS]
    for row in rows:
        talk = TALKS[row["id"]]
        key, who, what = ("conversations", "from", "value")
        if layout == "ms-swift":
            key, who, what = ("messages", "role", "content")
        shown = "" if talk.kind == "text" else markers[talk.kind]
        assert row[key] == [
            {who: names[role], what: said.replace("@", shown)} for role, said in talk.exported
        ]
        assert columns(row) == {"id": row["id"], **columns(talk.row)}
        media = row.get("video", row.get("image"))
        if layout == "ms-swift":
            media, *others = row.get("videos", row.get("images", [None]))
            assert others == []
        assert media == (
            str(talks.parent / "media" / talk.row[talk.kind]) if talk.kind != "text" else None
        )
    again = tmp_path / "again"
    run_prune(out, again, talks.parent / "media", thresholds__default="keep 1.0")
    found = {row["sample_id"].partition("/")[2]: row for row in table(again, "samples")}
    before = {row["sample_id"].partition("/")[2]: row for row in table(talks, "samples")}
    assert found.keys() == TALKS.keys()
    for name, row in found.items():
        assert (row["reason"], row["media_uri"]) == ("", before[name]["media_uri"])
        if name not in ("two answers", "no last answer"):
            assert row["turns"] == before[name]["turns"]
    second = tmp_path / f"second{out.suffix}"
    printed = export(again, second, "--format", layout)
    assert second.read_bytes() == out.read_bytes()
    assert "Left out" not in printed


def test_columns_and_ids_of_any_manifest_are_kept(talks: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "rows.csv"
    manifest.write_text(
        'video_path,question,answer,note,clip_start_s\nv.mp4,<video>What?,"A, b",1;2,0.5\n'
        "v.mp4,Who?,He,,\n",
        encoding="utf-8",
    )
    media = talks.parent / "media"
    run_prune(manifest, tmp_path / "run", media, thresholds__default="keep 1.0")
    export(tmp_path / "run", tmp_path / "out.json")
    first, second = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    names = {row["sample_id"] for row in table(tmp_path / "run", "samples")}
    assert {f"rows/{row.pop('id')}" for row in (first, second)} == names
    assert first == {
        "question": "<video>What?",
        "answer": "A, b",
        "note": "1;2",
        "video": str(media / "v.mp4"),
        "clip_start_s": 0.5,
        "conversations": [
            {"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A, b"},
        ],
    }  # fmt: skip
    assert second["note"] == ""
    rows = [{"question_id": 7, "image": "i.png", "caption": "\ud800"}]
    (tmp_path / "q.json").write_text(json.dumps(rows), encoding="utf-8")
    run_prune(tmp_path / "q.json", tmp_path / "q", media, thresholds__default="keep 1.0")
    for layout in ("llava", "ms-swift"):
        export(tmp_path / "q", tmp_path / "q.out", "--format", layout)
        text = (tmp_path / "q.out").read_text(encoding="utf-8")
        (row,) = json.loads(text) if layout == "llava" else [json.loads(text)]
        assert (row["question_id"], row["caption"], "id" in row) == (7, "\ud800", False)


def test_rows_that_are_not_those_decided_are_said(talks: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(talks, run)
    rows = json.loads((run / "kept.json").read_text(encoding="utf-8"))
    (run / "kept.json").write_text(json.dumps(rows[:-1]), encoding="utf-8")
    with pytest.raises(UserError, match="kept rows of 'rows' are fewer than were decided"):
        app(["export", str(run), "--out", str(tmp_path / "out.json")], standalone_mode=False)
