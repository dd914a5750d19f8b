"""A small run with rows of several media: videos, images, both, shared, repeated, in part."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
from PIL import Image

from support.runs import run_prune, run_shard, write_rows
from support.shard_fixtures import make_image, make_video
from vxp_data.pipeline.shard.command import ShardResult

COPY: Final = "same as 0.mp4"
"""Of the same content as '0.mp4'."""

MEDIA: Final[dict[str, list[str]]] = {
    "two": ["0.mp4", "1.mp4"],
    "two-again": ["0.mp4", "1.mp4"],
    "two-copied": [COPY, "1.mp4"],
    "two-turned": ["1.mp4", "0.mp4"],
    "twice": ["0.mp4", "0.mp4"],
    "pages": ["a.png", "b.png", "c.png"],
    "lecture": ["2.mp4", "a.png", "b.png"],
    "cover": ["c.png", "2.mp4"],
    "one": ["2.mp4"],
    "still": ["c.png"],
    "talk": [],
}
"""The media of each row, in the order in which its conversation shows them."""
PARTS: Final = {"lecture": (1.5, 6.0)}
"""Seconds of the row's part of its video, where it is about a part."""
SEVERAL: Final = [name for name, media in MEDIA.items() if len(media) > 1]
MAX_FRAMES: Final = 24
NUM_FRAMES: Final = {"0.mp4": 30, COPY: 30, "1.mp4": 60, "2.mp4": 90}
"""At ten a second, nearly."""


def kind_of(name: str) -> str:
    return "image" if name.endswith(".png") else "video"


def media_row(row_id: str) -> dict[str, Any]:
    """The row as a manifest has it: paths by kind, a marker for each medium."""
    media = MEDIA[row_id]
    marks = [f"<{kind_of(name)}>\n" for name in media]
    row: dict[str, Any] = {"id": row_id, "number": len(media)}
    for kind in ("video", "image"):
        own = [name for name in media if kind_of(name) == kind]
        row |= {kind: own if len(own) > 1 else own[0]} if own else {}
    if row_id in PARTS:
        row |= dict(zip(("clip_start_s", "clip_end_s"), PARTS[row_id], strict=True))
    later = marks.pop() if row_id == "lecture" else ""  # shown in another turn than the rest
    row["conversations"] = [
        {"from": "human", "value": f"{''.join(marks)}What is in {row_id}?"},
        {"from": "gpt", "value": f"It is {row_id}."},
    ]
    if later:
        row["conversations"] += [
            {"from": "human", "value": f"{later}And here?"}, {"from": "gpt", "value": "B."},
        ]  # fmt: skip
    return row


def messages(row_id: str) -> list[dict[str, Any]]:
    """The row's conversation as the run has it, by hand."""
    shown = [{"type": kind_of(name)} for name in MEDIA[row_id]]
    later = [shown.pop()] if row_id == "lecture" else []
    asked = f"What is in {row_id}?"
    turns: list[dict[str, Any]] = [
        {"role": "user", "content": [*shown, {"type": "text", "text": asked}] if shown else asked},
        {"role": "assistant", "content": f"It is {row_id}."},
    ]
    if later:
        said = {"type": "text", "text": "And here?"}
        turns.append({"role": "user", "content": [*later, said]})
        turns.append({"role": "assistant", "content": "B."})
    return turns


def write_media(folder: Path) -> Path:
    """Write the files and a LLaVA manifest beside them; return the manifest's path."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(3):
        name = f"{number}.mp4"
        make_video(folder / name, NUM_FRAMES[name], seed=number)
    shutil.copyfile(folder / "0.mp4", folder / COPY)
    for seed, name in enumerate(("a.png", "b.png", "c.png")):
        make_image(folder / name, seed=seed)
    return write_rows(folder / "rows.json", [media_row(row_id) for row_id in MEDIA])


def several_run(folder: Path) -> Path:
    """Prune such a manifest and keep all of it; the media lie in `folder / 'media'`."""
    manifest = write_media(folder / "media")
    run_prune(manifest, folder / "run", thresholds__default="keep 1.0")
    return folder / "run"


def write_shards(run: Path, out: Path, payload: str, **settings: Any) -> ShardResult:
    """Shard the run; a row has 24 frames at most."""
    values = {"sampling__max_frames": MAX_FRAMES, "shard__frame_px": 56, "shard__num_epochs": 2}
    return run_shard(run, out, shard__payload=payload, **(values | settings))


def records(out: Path) -> dict[str, Any]:
    """Every record of the mixed shards by the ids of its rows, read with tarfile and json alone."""
    found = {}
    for path in sorted(out.glob("mixed-*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                if member.name.endswith(".json"):
                    file = tar.extractfile(member)
                    assert file is not None
                    record = json.load(file)
                    for row in record["rows"]:
                        found[row["sample_id"].partition("/")[2]] = (record, row)
    return found


def decoded(path: Path) -> list[Image.Image]:
    """Every picture of a file in the order of presentation, in its own size."""
    if kind_of(path.name) == "image":
        with Image.open(path) as image:
            return [image.convert("RGB")]
    with av.open(str(path), format="mp4") as container:
        return [frame.to_image() for frame in container.decode(video=0)]


def shown_frames(frames_THWC: Any, path: Path) -> list[int]:
    """Which picture of a file each of some frames is: the one that is least unlike it."""
    side_px = frames_THWC.shape[1]
    pictures = np.stack(
        [np.asarray(image.resize((side_px, side_px)), dtype=np.int16) for image in decoded(path)]
    )
    distance_T = [np.abs(pictures - frame).mean((1, 2, 3)) for frame in frames_THWC]
    assert all(own.min() < 12 for own in distance_T)  # another's are 40 away and more
    return [int(own.argmin()) for own in distance_T]
