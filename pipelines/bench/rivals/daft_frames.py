"""Daft's reading of video frames, one file after the other, then the embedder.

python daft_frames.py CLIPS CHECKPOINT OUT.json

Not all files in one dataframe: on two cores Daft 0.7.26 then waits for itself without end (each of
its threads reads a file and waits for another to say whether the file exists).
"""

import json
import sys
from pathlib import Path

import daft
import numpy as np
from embedder import Embedder, mean_pairwise

INTERVAL_S = 0.5  # 20 frames of 10 s


def main(clips: str, checkpoint: str, out: str) -> None:
    """Score every clip."""
    embedder = Embedder(checkpoint)
    scores = {}
    for path in sorted(Path(clips).iterdir()):
        frames = daft.read_video_frames(
            [str(path)], image_height=384, image_width=384, sample_interval_seconds=INTERVAL_S
        )
        images = frames.select("data").to_pydict()["data"]
        emb = embedder.embed([np.asarray(image) for image in images])
        scores[path.name] = mean_pairwise(list(emb))
    result = {"scores": scores, "encoder_cpu_s": embedder.encoder_cpu_s}
    Path(out).write_text(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
