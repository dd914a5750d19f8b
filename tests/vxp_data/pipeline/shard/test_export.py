"""Kept rows in the layouts of other trainers."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from support.mixed_media import COPY
from support.runs import table
from vxp_data.cli import app
from vxp_data.errors import UserError

pytestmark = pytest.mark.usefixtures("engine")


@pytest.fixture(scope="module")
def kept(mixed_run: Path) -> list[str]:
    return [row["sample_id"] for row in table(mixed_run, "decisions") if row["decision"] == "keep"]


def export(run: Path, out: Path, *more: str) -> str:
    done = CliRunner().invoke(app, ["export", str(run), "--out", str(out), *more])
    assert done.exit_code == 0, done.output
    return done.output


def test_llava_rows_are_read_back_by_their_ids(
    mixed_run: Path, kept: list[str], tmp_path: Path
) -> None:
    said = export(mixed_run, tmp_path / "out.json")
    assert f"{len(kept)} rows" in said
    rows = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert [row["id"] for row in rows] == kept
    by_id: dict[str, dict[str, Any]] = {row["id"].partition("/")[2]: row for row in rows}
    assert len(by_id) == len(kept)
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
    assert len(rows) == len(kept)
    assert Counter(
        next((name for name in ("videos", "images") if name in row), "text") for row in rows
    ) == {"videos": len(kept) - 4, "images": 2, "text": 2}
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
