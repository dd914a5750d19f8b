"""Ray Data's own video reader, then an actor that embeds.

python ray_data.py CLIPS CHECKPOINT OUT.json
"""

import json
import sys
from pathlib import Path

import numpy as np
import ray
from embedder import Embedder, mean_pairwise

FPS = 2  # 20 frames of 10 s


class EmbedBatch:
    """A UDF: loads once an actor."""

    def __init__(self, checkpoint: str) -> None:
        """Load the weights."""
        self.embedder = Embedder(checkpoint)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Embed a batch of frames."""
        emb = self.embedder.embed(list(batch["frame"]))
        cpu_s = np.full(len(emb), self.embedder.encoder_cpu_s / len(emb))
        self.embedder.encoder_cpu_s = 0.0
        return {"path": batch["path"], "emb": emb, "encoder_cpu_s": cpu_s}


def main(clips: str, checkpoint: str, out: str) -> None:
    """Score every clip."""
    ray.init(num_cpus=2, include_dashboard=False, object_store_memory=1 << 30)
    frames = ray.data.read_videos(clips, include_paths=True, fps=FPS, resize=(384, 384))
    rows = frames.map_batches(
        EmbedBatch, fn_constructor_args=(checkpoint,), batch_size=20, concurrency=1
    )
    found: dict[str, list[np.ndarray]] = {}
    encoder_cpu_s = 0.0
    for row in rows.iter_rows():
        encoder_cpu_s += float(row["encoder_cpu_s"])
        found.setdefault(Path(row["path"]).name, []).append(row["emb"])
    scores = {name: mean_pairwise(emb) for name, emb in found.items()}
    Path(out).write_text(json.dumps({"scores": scores, "encoder_cpu_s": encoder_cpu_s}))


if __name__ == "__main__":
    main(*sys.argv[1:])
