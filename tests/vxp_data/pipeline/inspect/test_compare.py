"""`compare`: every row that ended otherwise is counted once, under its subset and reasons."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from synthetic_run import write_synthetic_run
from typer.testing import CliRunner

from support.runs import table
from vxp_data.cli import app
from vxp_data.core.thresholds import parse_keep
from vxp_data.errors import UserError
from vxp_data.pipeline.redecide import redecide


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A quarter kept; the same with other thresholds."""
    folder = tmp_path_factory.mktemp("pair")
    write_synthetic_run(folder / "a", num_rows=300, num_videos=100, seed=5)
    shutil.copytree(folder / "a", folder / "b")
    redecide(folder / "b", measure=None, thresholds={"caption": parse_keep("0.1")},
             default=parse_keep("0.5"))  # fmt: skip
    return folder / "a", folder / "b"


def said(*words: object) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


def compared(*words: object) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(said("compare", *words, "--json"))
    return read


def ends(run: Path) -> dict[str, tuple[str, str, str]]:
    return {
        row["sample_id"]: (row["task"], row["decision"], row["reason"])
        for row in table(run, "decisions")
    }


def test_changes_are_those_that_a_plain_count_finds(pair: tuple[Path, Path]) -> None:
    before, after = (ends(run) for run in pair)
    wanted = Counter((*before[i], *after[i][1:]) for i in before if before[i] != after[i])
    found = compared(*pair)
    names = ("task", "outcome_a", "reason_a", "outcome_b", "reason_b")
    assert {tuple(c[n] for n in names): c["num_rows"] for c in found["changes"]} == wanted
    assert {c["outcome_b"] for c in found["changes"] if c["task"] == "caption"} == {"prune"}
    assert {c["outcome_b"] for c in found["changes"] if c["task"] != "caption"} == {"keep"}
    assert found["num_same"] + found["num_changed"] == 300
    for change in found["changes"]:
        assert len(change["examples"]) == min(3, change["num_rows"])
        for example in change["examples"]:
            assert before[example["sample_id"]][1] == change["outcome_a"]
            assert after[example["sample_id"]][1] == change["outcome_b"]
            assert example["score_a"] == example["score_b"]
    kept = [sum(end[1] == "keep" for end in side.values()) for side in (before, after)]
    assert [found["costs_a"]["rows"], found["costs_b"]["rows"]] == kept


def test_a_run_is_the_same_as_itself(pair: tuple[Path, Path]) -> None:
    assert compared(pair[0], pair[0])["changes"] == []
    assert "300 rows have the same outcome and reason, 0 have not" in said(
        "compare", pair[0], pair[0]
    )


def test_rows_of_one_run_alone_are_absent_from_the_other(
    pair: tuple[Path, Path], tmp_path: Path
) -> None:
    run = Path(shutil.copytree(pair[0], tmp_path / "run"))
    for name in ("samples", "decisions"):
        rows: pa.Table = pq.read_table(run / f"{name}.parquet").slice(0, 290)
        pq.write_table(rows, run / f"{name}.parquet")
    for order, side in (((run, pair[0]), "a"), ((pair[0], run), "b")):
        changes = compared(*order)["changes"]
        assert sum(change["num_rows"] for change in changes) == 10
        assert {change[f"outcome_{side}"] for change in changes} == {"absent"}


def test_the_text_names_subset_ways_and_an_example(pair: tuple[Path, Path]) -> None:
    text = said("compare", *pair, "--examples", 1)
    assert "open_ended: prune redundant -> keep within_threshold" in text
    assert "caption: keep within_threshold -> prune redundant" in text
    assert "Please describe this video in detail." in text
    assert "Scores and thresholds are on mean_pairwise." in text


def test_what_is_no_run_is_named(pair: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no finished run"):
        said("compare", pair[0], tmp_path)
