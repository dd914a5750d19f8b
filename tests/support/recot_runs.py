"""Small ReCoT trainings for the tests: shards that cost no decoding, recipes of the tiny preset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import yaml
from PIL import Image

from support.shard_fixtures import Clip, make_image, make_video, media_clip, write_shards
from vxp_data.settings.file import Loaded
from vxp_model.settings.recot import RECIPES, ReCoTRecipe


def training_shards(folder: Path, *, videos: int = 5, images: int = 3) -> str:
    """Write shards of images: videos of 8 to 60 frames, and images."""
    files = folder / "media"
    files.mkdir(parents=True)
    lengths = (60, 8, 24, 31, 45)
    moving: list[Clip] = []
    for i in range(videos):
        path = make_video(files / f"v{i}.mp4", lengths[i % len(lengths)], seed=i)
        with av.open(str(path)) as container:
            frames = np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])
        moving.append(media_clip(path, [f"video/{i}"], payload="frames", frames_NHWC=frames))
    still: list[Clip] = []
    for i in range(images):
        path = make_image(files / f"i{i}.png", seed=100 + i)
        frame = np.asarray(Image.open(path).convert("RGB"))[None]
        still.append(
            media_clip(
                path, [f"image/{i}"], payload="frames", frames_NHWC=frame, is_image=True
            )
        )  # fmt: skip
    shards = [clips for clips in (still, moving) if clips]
    return write_shards(folder / "shards", shards, payload="frames").uri


def tree(shards: str, out: Path | str, **changes: Any) -> dict[str, Any]:
    """Settings of a small training; changes by section, or by key with '__' for the dot."""
    settings: dict[str, Any] = {
        "model": {"preset": "tiny"},
        "tower": {"init": "random"},
        "data": {
            "sources": [
                {"uri": shards, "kinds": ["image"], "weight": 1},
                {"uri": shards, "kinds": ["video"], "weight": 3},
            ],
            "workers": 0,
        },
        "batch": {"global_samples": 4, "micro_samples": 2},
        "optim": {"lr": 1e-3},
        "engine": {"zero_stage": 0, "device": "cpu"},
        "run": {"out": str(out), "steps": 6, "checkpoint_steps": 3, "picture_steps": 0},
    }
    for key, value in changes.items():
        section, _, name = key.partition("__")
        settings.setdefault(section, {}).update({name: value} if name else value)
    return settings


def recipe(shards: str, out: Path | str, **changes: Any) -> Loaded[ReCoTRecipe]:
    """Load such settings."""
    return RECIPES.read(tree(shards, out, **changes), "test")


def recipe_file(path: Path, shards: str, out: Path | str, **changes: Any) -> Path:
    """Write such settings as a recipe."""
    path.write_text(yaml.safe_dump(tree(shards, out, **changes)))
    return path
