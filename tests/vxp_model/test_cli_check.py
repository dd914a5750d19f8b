"""`vxp-model check`: the table, the ids, the file, the exit codes."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from support.bad_rows import LEFT_OUT, forty_rows
from support.mllm_runs import tree
from support.shard_fixtures import Shards
from vxp_data.errors import UserError
from vxp_model.cli import app


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Shards:
    return forty_rows(tmp_path_factory.mktemp("forty"))


def run(folder: Path, rows: Shards, *options: str, **changes: Any) -> tuple[str, BaseException]:
    path = folder / "sft.yaml"
    path.write_text(yaml.safe_dump(tree(rows.uri, folder / "out", **changes)))
    done = CliRunner().invoke(app, ["check", str(path), *options])
    return done.output, done.exception  # type: ignore[return-value]


def test_rows_by_source_dataset_and_reason(rows: Shards, tmp_path: Path) -> None:
    said, error = run(
        tmp_path, rows, "--set", "data.max_bad_share=0.2", "--out", str(tmp_path / "bad.jsonl")
    )
    assert error is None
    lines = [line.split() for line in said.splitlines()]
    assert lines[1][1:] == [
        "dataset", "rows", "left", "out", "no_answer", "media_misplaced", "marker_without_medium",
        "too_long",
    ]  # fmt: skip
    table = {line[1]: line[2:] for line in lines[2:7]}
    assert table == {
        "d": ["6", "6", "3", "0", "1", "2"],
        "d0": ["7", "0", "0", "0", "0", "0"],
        "d1": ["7", "0", "0", "0", "0", "0"],
        "films": ["11", "1", "0", "1", "0", "0"],
        "pictures": ["9", "1", "0", "1", "0", "0"],
    }
    assert "  no_answer: asked, blank, system (the first: it has no answer)" in said
    listed = [json.loads(line) for line in (tmp_path / "bad.jsonl").read_text().splitlines()]
    assert {row["sample_id"]: row["reason"] for row in listed} == LEFT_OUT
    assert not (tmp_path / "out").exists()


def test_above_the_share_it_ends_with_2_and_says_what_to_do(rows: Shards, tmp_path: Path) -> None:
    said, error = run(tmp_path, rows, "--ids", "1")
    assert "no_answer: asked, ... (the first" in said
    assert isinstance(error, UserError)
    assert error.exit_code == 2
    assert "20.0%, at most 5.0% may be (data.max_bad_share)" in str(error)
    assert "Put the rows right and shard them anew, or" in str(error)
    assert "no_answer:" not in str(error)  # it was printed before
    assert "vxp-model check" not in str(error)


def test_where_no_ids_are_printed_the_message_has_them(rows: Shards, tmp_path: Path) -> None:
    said, error = run(tmp_path, rows, "--ids", "0")
    assert "no_answer:" not in said
    assert "no_answer: asked, blank, system (the first" in str(error)


def test_a_list_goes_into_a_folder_that_is_made(rows: Shards, tmp_path: Path) -> None:
    out = tmp_path / "lists" / "bad.jsonl"
    run(tmp_path, rows, "--out", str(out))
    assert len(out.read_text().splitlines()) == 8
    _, error = run(tmp_path, rows, "--out", str(out.parent))
    assert isinstance(error, SystemExit)
    assert error.code == 2


def test_a_mixture_that_is_none_is_told_before_a_training_tells(
    rows: Shards, tmp_path: Path
) -> None:
    _, error = run(tmp_path, rows, data__mixture="nope")
    assert str(error).startswith("mixture 'nope': there is no such file")


def test_held_out_rows_are_looked_at_too(rows: Shards, tmp_path: Path) -> None:
    good = [{"uri": rows.uri, "datasets": ["d0", "d1"]}]
    said, error = run(tmp_path, rows, data__sources=good, validation={"sources": deepcopy(good)})
    assert error is None
    assert said.count("all 14 rows can be learned from") == 2
    _, error = run(tmp_path, rows, data__sources=good, validation={"sources": [{"uri": rows.uri}]})
    assert str(error).startswith("validation.sources: 8 of 40 rows")


def test_before_the_model_is_there_it_says_what_it_does_not_look_at(
    rows: Shards, tmp_path: Path
) -> None:
    said, error = run(tmp_path, rows, start={"model": str(tmp_path / "none")})
    assert "is not there yet: how long text may be is not looked at" in said
    assert "too_long" not in said
    assert "data.sources: 6 of 40 rows" in str(error)


def test_recipes_of_other_kinds_are_refused() -> None:
    done = CliRunner().invoke(app, ["check", "video_xl_pro/eval"])
    assert "it is no recipe of a training" in str(done.exception)
