"""Rows whose conversations are more than a question and an answer, and what is wanted of each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from support.flat_videos import GREEN, write_flat_video
from support.runs import run_prune, write_rows
from support.shard_fixtures import make_image

DEFAULT: Final = "You are a helpful assistant."
CALL: Final = '<tool_call>\n{"name": "count", "arguments": {"of": "cats"}}\n</tool_call>'


@dataclass(frozen=True, kw_only=True)
class Talk:
    """A row, and what is wanted of it."""

    row: dict[str, Any]
    turns: list[tuple[str, Any]]
    """(role, content) in the run and in shards; '@video' in a list is the video's place."""
    prompt: list[tuple[str, str]]
    """(speaker, text) of what training sees; '@' is where the frames are."""
    exported: list[tuple[str, str]]
    """(role, text) in other trainers' rows, '@' for their marker; none where there is no row."""
    kind: str = "video"

    def messages(self) -> list[dict[str, Any]]:
        """Return the turns as a shard has them."""
        return [{"role": role, "content": _content(content)} for role, content in self.turns]


def _content(content: Any) -> Any:
    if isinstance(content, str):
        return content
    return [
        {"type": part[1:]} if part.startswith("@") else {"type": "text", "text": part}
        for part in content
    ]


def said(*turns: tuple[str, str]) -> list[dict[str, str]]:
    """Return turns as LLaVA writes them."""
    return [{"from": name, "value": text} for name, text in turns]


TALKS: Final[dict[str, Talk]] = {
    "system": Talk(
        row={
            "video": "v.mp4", "source": {"page": [1, None]}, "score": 2.5,
            "conversations": said(
                ("system", "Answer in French."),
                ("human", "<video>\nWhat is it?"),
                ("gpt", "Un carré vert."),
            ),
        },
        turns=[
            ("system", "Answer in French."), ("user", ["@video", "What is it?"]),
            ("assistant", "Un carré vert."),
        ],
        prompt=[
            ("system", "Answer in French."), ("user", "@\nWhat is it?"),
            ("assistant", "Un carré vert."),
        ],
        exported=[
            ("system", "Answer in French."), ("user", "@\nWhat is it?"),
            ("assistant", "Un carré vert."),
        ],
    ),
    "tool": Talk(
        row={
            "video": "v.mp4",
            "messages": [
                {"role": "user", "content": [
                    {"type": "video"}, {"type": "text", "text": "How many?"}]},
                {"role": "assistant", "content": None, "tool_calls": [
                    {"id": "1", "type": "function", "function": {
                        "name": "count", "arguments": '{"of": "cats"}'}}]},
                {"role": "tool", "content": "4 <image> tags", "tool_call_id": "1"},
                {"role": "assistant", "content": "Four."},
            ],
        },
        turns=[
            ("user", ["@video", "How many?"]), ("assistant", CALL), ("tool", "4 <image> tags"),
            ("assistant", "Four."),
        ],
        prompt=[
            ("system", DEFAULT), ("user", "@\nHow many?"), ("assistant", CALL),
            ("user", "<tool_response>\n4 <image> tags\n</tool_response>"),
            ("assistant", "Four."),
        ],
        exported=[
            ("user", "@\nHow many?"), ("assistant", CALL), ("tool", "4 <image> tags"),
            ("assistant", "Four."),
        ],
    ),
    "two answers": Talk(
        row={
            "video": "v.mp4",
            "conversations": said(
                ("human", "<image>\nWho?"), ("gpt", "He."), ("gpt", "Or she."),
                ("human", "Why?"), ("gpt", "So."),
            ),
        },
        turns=[
            ("user", ["@video", "Who?"]), ("assistant", "He."), ("assistant", "Or she."),
            ("user", "Why?"), ("assistant", "So."),
        ],
        prompt=[
            ("system", DEFAULT), ("user", "@\nWho?"), ("assistant", "He."),
            ("assistant", "Or she."), ("user", "Why?"), ("assistant", "So."),
        ],
        exported=[
            ("user", "@\nWho?"), ("assistant", "He."), ("user", "Why?"), ("assistant", "So."),
        ],
    ),
    "no last answer": Talk(
        row={
            "video": "v.mp4",
            "conversations": said(
                ("human", "Look:\n<video>"), ("human", "Who?"), ("gpt", "He."), ("gpt", " "),
                ("human", "And?"),
            ),
        },
        turns=[
            ("user", ["Look:\n", "@video"]), ("user", "Who?"), ("assistant", "He."),
            ("assistant", " "), ("user", "And?"),
        ],
        prompt=[
            ("system", DEFAULT), ("user", "Look:\n@"), ("user", "Who?"), ("assistant", "He."),
        ],
        exported=[("user", "Look:\n@\nWho?"), ("assistant", "He.")],
    ),
    "words": Talk(
        row={
            "image": "i.png",
            "conversations": said(
                ("human", "Is <image> green?"),
                ("gpt", "Yes: <video> and <image> are tags."),
            ),
        },
        turns=[
            ("user", ["Is ", "@image", " green?"]),
            ("assistant", "Yes: <video> and <image> are tags."),
        ],
        prompt=[
            ("system", DEFAULT), ("user", "Is @\n green?"),
            ("assistant", "Yes: <video> and <image> are tags."),
        ],
        exported=[
            ("user", "Is @ green?"), ("assistant", "Yes: <video> and <image> are tags."),
        ],
        kind="image",
    ),
    "html": Talk(
        row={
            "conversations": said(
                ("human", "What do <video> and <image> mean?"), ("gpt", "<video>\nA tag."),
            ),
        },
        turns=[
            ("user", "What do <video> and <image> mean?"), ("assistant", "<video>\nA tag."),
        ],
        prompt=[
            ("system", DEFAULT), ("user", "What do <video> and <image> mean?"),
            ("assistant", "<video>\nA tag."),
        ],
        exported=[
            ("user", "What do <video> and <image> mean?"), ("assistant", "<video>\nA tag."),
        ],
        kind="text",
    ),
    "caption": Talk(
        row={"video": "v.mp4", "caption": "A green square."},
        turns=[("user", ["@video"]), ("assistant", "A green square.")],
        prompt=[("system", DEFAULT), ("user", "@"), ("assistant", "A green square.")],
        exported=[("user", "@"), ("assistant", "A green square.")],
    ),
    "options": Talk(
        row={
            "video": "v.mp4", "question": "<video>\nWhich?", "options": ["A cat", "A dog"],
            "answer": "A",
        },
        turns=[("user", ["@video", "Which?\nA. A cat\nB. A dog"]), ("assistant", "A")],
        prompt=[
            ("system", DEFAULT), ("user", "@\nWhich?\nA. A cat\nB. A dog"), ("assistant", "A"),
        ],
        exported=[("user", "@\nWhich?\nA. A cat\nB. A dog"), ("assistant", "A")],
    ),
}  # fmt: skip
"""By the row's id."""

UNANSWERED: Final = {
    "asked": {"video": "v.mp4", "question": "<video>\nWhich?"},
    "shown late": {
        "video": "v.mp4",
        "conversations": said(
            ("human", "Hello."), ("gpt", "Hi."), ("human", "<video>\nWhat?"),
        ),
    },
}  # fmt: skip
"""Rows from which nothing is learnt, or nothing of their video."""


def talks_run(folder: Path) -> Path:
    """Prune all these rows, and keep them."""
    media = folder / "media"
    media.mkdir(parents=True)
    write_flat_video(media / "v.mp4", num_frames=20, rgb=GREEN)
    make_image(media / "i.png")
    rows = {name: talk.row for name, talk in TALKS.items()} | UNANSWERED
    manifest = write_rows(folder / "rows.json", [{"id": name, **row} for name, row in rows.items()])
    run_prune(manifest, folder / "run", media, thresholds__default="keep 1.0")
    return folder / "run"
