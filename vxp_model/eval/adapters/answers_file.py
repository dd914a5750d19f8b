"""Replies that were made elsewhere: no model, no frames, only scores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vxp_model.errors import UserError


def read_answers(path: Path | str) -> dict[str, str]:
    """Read replies from JSON Lines: `{"question_id": "...", "reply": "..."}` a line.

    Further fields are left alone, so that the answers of a run of ours are such a file too; its
    questions without a reply, whose 'reply' is null, are left out.

    Returns:
        replies: by question id. Whether there is such a question, the caller finds out.

    Raises:
        UserError: there is no such file, a line is no such object, or a question has two replies.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}.") from error
    replies: dict[str, str] = {}
    seen: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        question_id, reply = _read_line(line, f"{path}, line {number}")
        if question_id in seen:
            raise UserError(
                f"{path}, line {number}: question {question_id!r} has a reply in line "
                f"{seen[question_id]} already. Leave one of them."
            )
        seen[question_id] = number
        if reply is not None:
            replies[question_id] = reply
    if not seen:
        raise UserError(f"{path} holds no replies.")
    return replies


def _read_line(line: str, where: str) -> tuple[str, str | None]:
    try:
        row: Any = json.loads(line)
    except ValueError as error:
        raise UserError(f"{where}: not JSON: {error}.") from error
    if not isinstance(row, dict) or "question_id" not in row or "reply" not in row:
        hint = ""
        if isinstance(row, dict) and "filtered_resps" in row:
            # Its doc_id is a row of a table that only lmms-eval knows, and no question of ours.
            hint = " Samples of lmms-eval name no question: write its id beside each reply."
        raise UserError(
            f'{where}: wanted {{"question_id": "...", "reply": "..."}}, got {line:.80}.{hint}'
        )
    question_id, reply = row["question_id"], row["reply"]
    if not isinstance(question_id, str) or not isinstance(reply, str | None):
        raise UserError(
            f"{where}: 'question_id' must be text and 'reply' text or null, got "
            f"{question_id!r:.40} and {reply!r:.40}."
        )
    return question_id, reply
