"""Daft's reading of video frames, and a class that embeds.

python daft_frames.py CLIPS CHECKPOINT OUT.json
"""

import json
import sys
from pathlib import Path

import daft
import numpy as np
from daft import col
from embedder import Embedder, mean_pairwise

INTERVAL_S = 0.5  # 20 frames of 10 s


def main(clips: str, checkpoint: str, out: str) -> None:
    """Score every clip."""

    @daft.udf(return_dtype=daft.DataType.python(), batch_size=20, concurrency=1)
    class Embed:
        def __init__(self) -> None:
            self.embedder = Embedder(checkpoint)

        def __call__(self, frames: daft.Series) -> list[np.ndarray]:
            return list(self.embedder.embed([np.asarray(frame) for frame in frames.to_pylist()]))

    paths = sorted(str(path) for path in Path(clips).iterdir())
    frames = daft.read_video_frames(
        paths, image_height=384, image_width=384, sample_interval_seconds=INTERVAL_S
    )
    rows = frames.select(col("path"), Embed(col("data")).alias("emb")).to_pydict()
    found: dict[str, list[np.ndarray]] = {}
    for path, emb in zip(rows["path"], rows["emb"], strict=True):
        found.setdefault(Path(path).name, []).append(emb)
    scores = {name: mean_pairwise(emb) for name, emb in found.items()}
    Path(out).write_text(json.dumps(scores))


if __name__ == "__main__":
    main(*sys.argv[1:])
