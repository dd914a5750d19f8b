"""Replies made elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vxp_model.errors import UserError
from vxp_model.eval.adapters.answers_file import read_answers


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows) + "\n")
    return path


def test_replies_are_read_by_question(tmp_path: Path) -> None:
    path = write(
        tmp_path / "replies.jsonl",
        {"question_id": "a/1", "reply": "B"},
        {"question_id": "b", "reply": "ü\u2028x", "model": "elsewhere"},
        {"question_id": "c", "reply": ""},
        {"question_id": "d", "reply": None, "error": {"reason": "missing"}},
    )
    assert read_answers(path) == {"a/1": "B", "b": "ü\u2028x", "c": ""}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "holds no replies"),
        (["B"], 'line 1: wanted {"question_id": "...", "reply": "..."}, got "B"'),
        ([{"question_id": "a"}], "line 1: wanted"),
        ([{"doc_id": 3, "filtered_resps": ["B"]}], "Samples of lmms-eval name no question"),
        ([{"question_id": 3, "reply": "B"}], "'question_id' must be text .* got 3 and 'B'"),
        ([{"question_id": "a", "reply": ["B"]}], "'reply' text or null"),
        (
            [{"question_id": "a", "reply": "B"}, {"question_id": "a", "reply": None}],
            "line 2: question 'a' has a reply in line 1 already",
        ),
    ],
)
def test_other_files_are_refused(tmp_path: Path, rows: list[Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_answers(write(tmp_path / "replies.jsonl", *rows))


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_answers(tmp_path / "none.jsonl")
    path = tmp_path / "broken.jsonl"
    path.write_text('{"question_id": "a", "reply": "B"}\n{"question_id": "b", ')
    with pytest.raises(UserError, match="line 2: not JSON"):
        read_answers(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="cannot be read"):
        read_answers(path)
