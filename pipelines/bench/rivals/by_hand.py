"""What one writes by hand for a folder of clips: 20 frames each, embed, mean cosine, keep half.

python by_hand.py CLIPS ENCODER OUT.json [CHECKPOINT]

ENCODER is `thumbnail` or `efficientnet_lite0`, both ours, or `siglip`, by open_clip with its own
transform, of the weights in CHECKPOINT. A clip that decord cannot open is left out.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from decord import DECORDError, VideoReader, cpu

NUM_FRAMES = 20
Embed = Callable[[np.ndarray], np.ndarray]


def thumbnail() -> tuple[int | None, Embed]:
    """Return the size that decord is to give, and what embeds."""
    from vxp_data.encoders.thumbnail import FRAME_PX, ThumbnailEncoder

    return FRAME_PX, ThumbnailEncoder().embed


def efficientnet_lite0() -> tuple[int | None, Embed]:
    """Return the size that decord is to give, and what embeds."""
    from vxp_data.encoders.efficientnet_lite0 import NAME, Lite0Encoder
    from vxp_data.encoders.lite0_layers import FRAME_PX
    from vxp_data.settings.prune import EncoderConfig

    return FRAME_PX, Lite0Encoder.load(EncoderConfig(name=NAME, device="cpu")).embed


def siglip(checkpoint: str) -> tuple[int | None, Embed]:
    """Return the size that decord is to give, None for the clip's own, and what embeds."""
    import open_clip
    import torch
    from PIL import Image

    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{checkpoint}")
    model.eval()

    def embed(frames: np.ndarray) -> np.ndarray:
        batch = torch.stack([transform(Image.fromarray(frame)) for frame in frames])
        with torch.inference_mode():
            found: np.ndarray = model.encode_image(batch, normalize=True).numpy()
        return found

    return None, embed


def main(clips: str, encoder: str, out: str, checkpoint: str = "") -> None:
    """Score every clip, and write the names of the half that is least redundant."""
    ours = {"thumbnail": thumbnail, "efficientnet_lite0": efficientnet_lite0}
    size_px, embed = ours[encoder]() if encoder in ours else siglip(checkpoint)
    scores = {}
    for path in sorted(Path(clips).iterdir()):
        try:
            sizes = {} if size_px is None else {"width": size_px, "height": size_px}
            reader = VideoReader(str(path), ctx=cpu(0), num_threads=1, **sizes)
        except (DECORDError, RuntimeError):
            continue
        indices = np.linspace(0, len(reader) - 1, NUM_FRAMES).round().astype(int)
        emb = embed(reader.get_batch(indices).asnumpy())
        scores[path.name] = float((emb @ emb.T)[np.triu_indices(NUM_FRAMES, 1)].mean())
    kept = sorted(scores, key=scores.__getitem__)[: len(scores) // 2]
    Path(out).write_text(json.dumps({"scores": scores, "kept": sorted(kept)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
