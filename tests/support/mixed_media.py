"""A small manifest with a row of every kind, and the files that it names."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

from support.runs import caption_row, write_rows
from support.shard_fixtures import make_image, make_video

COPY: Final = "film ünï 日本.v1.mp4"
"""Of the same content as '0.mp4'."""


def write_media(folder: Path) -> Path:
    """Write the files and a LLaVA manifest beside them; return the manifest's path."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(5):
        make_video(folder / f"{number}.mp4", 30 + 10 * number, seed=number)
    make_video(folder / "one.mp4", 1, seed=10)
    shutil.copyfile(folder / "0.mp4", folder / COPY)
    _animation().save(folder / "moving.gif", save_all=True, append_images=[_animation(1)] * 4)
    _animation(2).save(folder / "waving.gif", save_all=True, append_images=[_animation(3)] * 2)
    make_image(folder / "still.png")
    return write_rows(folder / "rows.json", list(_rows()))


def _animation(seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(np.kron(rng.integers(0, 255, (6, 8, 3), dtype=np.uint8),
                                   np.ones((8, 8, 1), dtype=np.uint8)))  # fmt: skip


def _rows() -> list[dict[str, Any]]:
    videos = [*(f"{number}.mp4" for number in range(5)), "one.mp4", COPY, "moving.gif"]
    rows = [caption_row(f"caption-{video}", video) for video in videos]
    rows += [_choice_row(f"choice-{number}", f"{number}.mp4") for number in range(4)]
    rows += [
        caption_row("part", "1.mp4", clip_start_s=0.5, clip_end_s=2.0),
        caption_row("end", "1.mp4", clip_start_s=2.0),
        {"id": "silent", "video": "2.mp4"},
        {**_image_row("png", "still.png"), "more": {"ä": [1, None, 2.5]}},
        _image_row("gif", "waving.gif"),
        {"id": "talk", "conversations": [
            {"from": "human", "value": "Hello, 你好"}, {"from": "gpt", "value": "Good day."}]},
        {"id": "mute", "conversations": [{"from": "human", "value": "And?"}]},
    ]  # fmt: skip
    return rows


def _image_row(row_id: str, image: str) -> dict[str, Any]:
    row = caption_row(row_id, "")
    del row["video"]
    return {**row, "image": image}


def _choice_row(row_id: str, video: str) -> dict[str, Any]:
    question = "<video>\nWhich is it?\nA. A cat\nB. A dog\nAnswer with the option's letter."
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": "B"}]
    return {"id": row_id, "video": video, "conversations": turns}
