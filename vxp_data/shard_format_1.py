"""Records of shard format 1, which no version writes any more, with today's fields.

Format 1 kept a conversation as pairs of question and answer, markers of media among their words,
and without system and tool turns. Knows that format by heart: nothing else does any more.
"""

from __future__ import annotations

import json
from typing import Any

from vxp_data.conversation import MEDIA_TYPES, conversation_json, turns_of_pairs
from vxp_data.media_markers import place_media


def clip_of_format_1(value: dict[str, Any]) -> dict[str, Any]:
    """Return a clip's record with the names of today; its `format_version` stays.

    Raises:
        ValueError: a conversation is not a JSON list of [question, answer].
    """
    kinds = [value["kind"]] if value.get("kind") in MEDIA_TYPES else []
    rows, payload = value.get("rows"), value.get("payload")
    changed = dict(value)
    if isinstance(rows, list):
        changed["rows"] = [_row(row, kinds) for row in rows]
    if isinstance(payload, dict):
        changed["payload"] = _renamed(payload, "picture_format", "image_format")
    return changed


def _row(row: Any, kinds: list[str]) -> Any:
    if not isinstance(row, dict) or not isinstance(row.get("exchanges"), str):
        return row
    turns = place_media(turns_of_pairs(_pairs(row["exchanges"])), kinds)
    return _renamed(row, "exchanges", "conversation") | {"conversation": conversation_json(turns)}


def _pairs(text: str) -> list[list[str]]:
    pairs = json.loads(text)
    if not isinstance(pairs, list):
        raise ValueError(f"exchanges is {type(pairs).__name__}, wanted a list")
    for pair in pairs:
        if not isinstance(pair, list) or [type(words) for words in pair] != [str, str]:
            raise ValueError(f"exchanges has {pair!r:.80}, wanted [question, answer]")
    return pairs


def _renamed(fields: dict[str, Any], old: str, new: str) -> dict[str, Any]:
    return {new if name == old else name: value for name, value in fields.items()}
