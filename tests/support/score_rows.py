"""Rows to be scored by a model, written as `vxp-data score-template` writes them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vxp_data.conversation import Role, Turn, conversation_json


def template_row(
    name: str, *texts: str, task: str = "multiple_choice", **more: Any
) -> dict[str, Any]:
    """Make a row of questions and answers in turn."""
    roles = (Role.USER, Role.ASSISTANT)
    turns = [Turn.of_text(roles[n % 2], text) for n, text in enumerate(texts)]
    return {
        "sample_id": name, "dataset": "d", "task": task, "media_uri": f"/v/{name}.mp4",
        "clip_start_s": 0.0, "clip_end_s": None, "turns": conversation_json(turns), "score": None,
        **more,
    }  # fmt: skip


def choice_row(name: str, question: str, options: Sequence[str], gold: int) -> dict[str, Any]:
    """Make a row of one question with lettered options."""
    letters = "ABCDEFGH"
    listed = "\n".join(f"{letters[n]}. {option}" for n, option in enumerate(options))
    asked = f"{question}\n{listed}\nAnswer with the option's letter from the given choices."
    return template_row(name, asked, letters[gold])


def write_template(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """Write the rows as JSON Lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def asked_options(body: dict[str, Any]) -> tuple[str, list[str]]:
    """Return the question of a request and its options in the order in which they are listed."""
    lines = body["messages"][-1]["content"].splitlines()
    return lines[0], [line[3:] for line in lines if line[1:3] == ". "]
