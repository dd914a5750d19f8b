"""The script that people write: decord, open_clip's own transform, one clip after the other.

python decord_script.py CLIPS CHECKPOINT OUT.json
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import open_clip
import torch
from decord import VideoReader, cpu
from PIL import Image

NUM_FRAMES = 20


def main(clips: str, checkpoint: str, out: str) -> None:
    """Score every clip: mean cosine over the pairs of its frames."""
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{checkpoint}")
    model.eval()
    scores = {}
    encoder_cpu_s = 0.0
    for path in sorted(Path(clips).iterdir()):
        reader = VideoReader(str(path), ctx=cpu(0), num_threads=1)
        indices = np.linspace(0, len(reader) - 1, NUM_FRAMES).round().astype(int)
        frames = reader.get_batch(indices).asnumpy()
        batch = torch.stack([transform(Image.fromarray(frame)) for frame in frames])
        started_s = time.process_time()
        with torch.inference_mode():
            emb = model.encode_image(batch, normalize=True)
        encoder_cpu_s += time.process_time() - started_s
        cosine = emb @ emb.T
        above = torch.triu_indices(NUM_FRAMES, NUM_FRAMES, offset=1)
        scores[path.name] = float(cosine[above[0], above[1]].mean())
    Path(out).write_text(json.dumps({"scores": scores, "encoder_cpu_s": encoder_cpu_s}))


if __name__ == "__main__":
    main(*sys.argv[1:])
