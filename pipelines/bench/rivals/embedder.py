"""What the rivals' dataframes call: frames to unit vectors, and a clip's vectors to its score."""

import time

import numpy as np
import open_clip
import torch
from PIL import Image


class Embedder:
    """Embeds frames with open_clip and its own transform."""

    def __init__(self, checkpoint: str) -> None:
        """Load the checkpoint's folder."""
        self.model, _, self.transform = open_clip.create_model_and_transforms(
            f"local-dir:{checkpoint}"
        )
        self.model.eval()
        self.encoder_cpu_s = 0.0

    def embed(self, frames: list[np.ndarray]) -> np.ndarray:
        """Return a unit vector a frame; frames are uint8 [H, W, 3]."""
        batch = torch.stack([self.transform(Image.fromarray(frame)) for frame in frames])
        started_s = time.process_time()
        with torch.inference_mode():
            emb = self.model.encode_image(batch, normalize=True).numpy()
        self.encoder_cpu_s += time.process_time() - started_s
        return emb


def mean_pairwise(embeddings: list[np.ndarray]) -> float:
    """Return the mean cosine over the pairs."""
    emb = np.stack([np.asarray(one, np.float32) for one in embeddings])
    cosine = emb @ emb.T
    return float(cosine[np.triu_indices(len(emb), 1)].mean())
