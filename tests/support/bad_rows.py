"""Forty rows to train on, of which ten cannot be learned from, each in another way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from support.shard_fixtures import (
    Clip,
    Shards,
    damage,
    make_image,
    make_video,
    media_clip,
    rewrite_samples,
    text_clip,
    told,
    write_shards,
)

FRAMES_NHWC = np.random.default_rng(0).integers(0, 255, (9, 24, 32, 3), dtype=np.uint8)

LEFT_OUT = {
    "asked": "no_answer",
    "blank": "no_answer",
    "system": "no_answer",
    "long question": "too_long",
    "long answer": "too_long",
    "marked": "marker_without_medium",
    "unplaced": "media_misplaced",
    "answered by a video": "media_misplaced",
}
"""Sample id -> why it is left out before the first step."""
REPLACED = {"broken": "checksum", "changed": "bad_row"}
"""Sample id -> why another takes its place when it is read."""


def asked(*content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content[0] if len(content) == 1 else list(content)}


def answered(content: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content}


def said(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


VIDEO, IMAGE = {"type": "video"}, {"type": "image"}


def forty_rows(folder: Path, *, context_limit: int = 32_768) -> Shards:
    """Write them: text of more than so many positions is too long."""
    folder.mkdir(parents=True, exist_ok=True)
    long = "word " * (context_limit // 5)
    texts = [told(text_clip(f"text {n}"), _good("text", n), f"d{n % 2}") for n in range(14)]
    texts += [
        told(text_clip("asked"), [asked("Who?")]),
        told(text_clip("blank"), [asked("Who?"), answered(" \n")]),
        told(text_clip("system"), [{"role": "system", "content": "Be brief."}]),
        told(text_clip("long question"), [asked(long), answered("Yes.")]),
        told(text_clip("long answer"), [asked("Say it."), answered(long)]),
        told(text_clip("marked"), [asked("<video>\nWhat happens?"), answered("A bar moves.")]),
    ]
    images = [_image(folder, f"image {n}", _good("image", n)) for n in range(8)]
    images.append(_image(folder, "unplaced", [asked("What is it?"), answered("A square.")]))
    videos = [_video(folder, f"video {n}", _good("video", n)) for n in range(8)]
    videos += [
        _video(folder, "answered by a video", [asked("Show it."), answered([said("So:"), VIDEO])]),
        _video(folder, "broken", _good("video", 98)),
        _video(folder, "changed", _good("video", 99)),
    ]
    shards = write_shards(folder / "shards", [texts, images, videos], payload="frames")
    assert len(shards.sample_ids) == 40
    (broken,) = (clip for clip in videos if clip.record.rows[0].sample_id == "broken")
    damage(shards, broken.record.key)
    rewrite_samples(shards, "changed", text_bytes=3)
    return shards


def _good(kind: str, number: int) -> list[dict[str, Any]]:
    words = f"What is number {number}?"
    shown = {"text": words, "image": [IMAGE, said(words)], "video": [VIDEO, said(words)]}[kind]
    return [asked(shown), answered(f"It is {number}.")]


def _image(folder: Path, name: str, conversation: list[dict[str, Any]]) -> Clip:
    path = make_image(folder / f"{name}.png", seed=hash_of(name))
    clip = media_clip(
        path, [name], payload="frames", frames_NHWC=FRAMES_NHWC[:1], is_image=True
    )  # fmt: skip
    return told(clip, conversation, "pictures")


def _video(folder: Path, name: str, conversation: list[dict[str, Any]]) -> Clip:
    path = make_video(folder / f"{name}.mp4", 9, seed=hash_of(name))
    clip = media_clip(path, [name], payload="frames", frames_NHWC=FRAMES_NHWC)
    return told(clip, conversation, "films")


def hash_of(name: str) -> int:
    return sum(ord(letter) << (7 * (n % 4)) for n, letter in enumerate(name)) % 2**31


def without_plans(clip: Clip) -> Clip:
    """Let the stored plans of a clip's rows have no frame."""
    rows = [
        replace(row, plans=[replace(plan, frame_index=[], time_s=[]) for plan in row.plans])
        for row in clip.record.rows
    ]
    return replace(clip, record=replace(clip.record, rows=rows))
