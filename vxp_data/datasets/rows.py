"""From an annotation to a row of our manifests, which has LLaVA's shape."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from vxp_data.datasets.layouts.base import Annotation, LlavaRow


def manifest_row(annotation: Annotation | LlavaRow, task: str | None) -> dict[str, Any]:
    """Write an annotation as a row `{id, video or image, conversations, task, ...}`.

    The first question begins with the media's placeholder. A row without an id gets one from its
    content, so that it is the same whatever rows stand around it. LLaVA's rows keep all that they
    have.

    Args:
        annotation: what a layout gave; its media is already a path below the root.
        task: of the row; None: no task is written, and rules over the words decide.
    """
    if isinstance(annotation, LlavaRow):
        return {**annotation.fields, **({"task": task} if task else {})}
    kind = "image" if annotation.is_image else "video"
    row: dict[str, Any] = {"id": annotation.row_id}
    if annotation.media:
        row[kind] = annotation.media
    mark = f"<{kind}>\n" if annotation.media else ""
    turns = []
    for number, (question, answer) in enumerate(annotation.exchanges):
        turns.append({"from": "human", "value": question if number else mark + question})
        turns.append({"from": "gpt", "value": answer})
    row["conversations"] = turns
    if task:
        row["task"] = task
    for name in ("clip_start_s", "clip_end_s"):
        if (seconds := getattr(annotation, name)) is not None:
            row[name] = seconds
    if not annotation.row_id:
        row["id"] = hashlib.sha256(row_json(row)).hexdigest()[:16]
    return row


def row_json(row: Mapping[str, Any]) -> bytes:
    """Write a row as one line of JSON, without the line's end.

    Raises:
        ValueError: it holds what JSON does not have, such as NaN.
    """
    text = json.dumps(row, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode()
