"""What `make pipeline` counts and draws; the whole of it runs as a slow test."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from smoke import evaluate
from smoke.mixture_check import MixtureSeen, mixture_seen

from support.repo import ROOT
from vxp_data.errors import ExpectationError


def row(row_id: str, question: str, answer: str) -> dict[str, Any]:
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    return {"id": row_id, "video": "v.mp4", "conversations": turns}


CHOICE = row("a-mc", "<image>\nWhich?\nA. One\nB. Two\nC. Three\nD. Four\nAnswer.", "B")


@pytest.mark.parametrize(
    ("got", "is_right"),
    [("B", True), ("(B) Two", True), ("B. Two", True), ("A", False), ("Bees fly", False),
     ("", False), ("the answer is B", False)],
)  # fmt: skip
def test_a_letter_is_right_or_wrong_and_never_guessed(got: str, is_right: bool) -> None:
    judged = evaluate.judge(CHOICE, got)
    assert (judged.is_right, judged.chance) == (is_right, 0.25)


def test_an_open_answer_is_right_by_its_words() -> None:
    asked = row("a-oe", "<image>\nWhat colour?", "The yellow one.")
    assert evaluate.judge(asked, "the Yellow one").is_right is True
    assert evaluate.judge(asked, "yellow").is_right is False


def test_captions_are_compared_by_words() -> None:
    judged = evaluate.judge(row("a-caption", "<image>\nDescribe.", "a red ball rolls"), "a ball")
    assert judged.is_right is None
    assert judged.word_f1 == pytest.approx(2 * 2 / (2 + 4))
    assert evaluate.word_f1([], ["x"]) == 0


def test_sums_are_by_task() -> None:
    judged = [evaluate.judge(CHOICE, got) for got in ("B", "A", "C", "B")]
    judged.append(evaluate.judge(row("a-caption", "<image>\nDescribe.", "x"), "x"))
    sums = evaluate.figures(judged)
    assert sums["multiple_choice"]["right"] == 2
    assert sums["multiple_choice"]["accuracy"] == 0.5
    assert sums["caption"] == {"rows": 1, "word_f1": 1.0}
    lines = evaluate.table(sums).splitlines()
    assert [len(line) for line in lines] == [66, 66, 66]
    assert lines[2].split() == ["multiple_choice", "4", "2", "0.5", "0.25", "0.5"]


SEEN = MixtureSeen(
    wanted={"a": 18, "b": 4}, sharded={"a": 18, "b": 4}, seen={"a": 785, "b": 175}, num_epochs=40
)
"""Of 960 samples: 785.5 and 174.5 by the rows."""


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({}, ""),
        ({"seen": {"a": 800, "b": 160}}, ""),  # an epoch of 24 is 20 and 4
        ({"seen": {"a": 860, "b": 100}}, "rows of b 100 times, wanted 175 within 40"),
        ({"seen": {"a": 960}}, "rows of b 0 times"),
        ({"sharded": {"a": 18, "b": 6}}, "the shards hold {'a': 18, 'b': 6} rows, wanted"),
        ({"unseen": ("a/7", "b/1")}, "never saw 2 rows, such as a/7"),
    ],
)
def test_a_mixture_that_training_did_not_see_is_told(changed: dict[str, Any], problem: str) -> None:
    problems = replace(SEEN, **changed).problems()
    assert (problem in "".join(problems)) if problem else problems == []
    assert SEEN.lines()[1].endswith("seen 175 times, 18.2% of training; asked 18.2%")


def test_shards_and_logs_are_counted_by_dataset(tmp_path: Path) -> None:
    ids = ["a/1", "a/2", "b/1"]
    pq.write_table(pa.table({"sample_id": ids}), tmp_path / "samples.parquet")
    steps = [{"epoch": 0.5, "sample_ids": ["a/1", "b/1"]}, {"epoch": 1.0, "sample_ids": ["a/1"]}]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(step) + "\n" for step in steps))
    got = mixture_seen({"a": 2, "b": 1}, tmp_path, tmp_path / "log.jsonl")
    assert (dict(got.sharded), dict(got.seen)) == ({"a": 2, "b": 1}, {"a": 2, "b": 1})
    assert (got.num_epochs, got.unseen) == (1, ("a/2",))
    with pytest.raises(ExpectationError, match="never saw 1 rows, such as a/2"):
        got.require()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_whole_pipeline_runs(tmp_path: Path) -> None:
    (tmp_path / "pipelines").symlink_to(ROOT / "pipelines")
    done = subprocess.run(
        [sys.executable, "pipelines/pipeline.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=1100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "From raw clips to an answer in" in done.stdout
    asked = json.loads((tmp_path / "runs/smoke/evaluation.json").read_text())
    held_out = json.loads((tmp_path / "runs/smoke/clips/evaluation.json").read_text())
    assert [answer["id"] for answer in asked["answers"]] == [one["id"] for one in held_out]
