"""Random-weight models on disk, for tests and for trying things without the hub.

From the command line: PYTHONPATH=tests python -m support.tiny_models FOLDER [image_px]
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from av.video.reformatter import Interpolation
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

SQUASH = (
    Interpolation.BICUBIC
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
)
"""The swscale flags that come nearest to open_clip's own resizing."""

SO400M = "ViT-SO400M-14-SigLIP-384"

PREPROCESS = {
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
    "interpolation": "bicubic",
    "resize_mode": "squash",
}


WORDS = ("a", "the", "of", "in", "on", "and", "is", "red", "green", "blue", "cat", "dog", "car")
"""What the tiny tokenizer knows."""


@dataclass(frozen=True)
class Settings:
    """Encoder settings, with the defaults of the config layer but for the device."""

    name: str = "siglip"
    model: str = "ViT-SO400M-14-SigLIP-384"
    pretrained: str = "webli"
    checkpoint: str = ""
    device: str = "cpu"
    batch_frames: int = 64
    precision: str = "auto"


def images(num: int, px: int, *, seed: int = 0) -> NDArray[np.uint8]:
    """Random images of large and small patches: no two alike."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (num, 4, 4, 3)).repeat(px // 4, 1).repeat(px // 4, 2)
    fine = rng.integers(-40, 41, (num, px, px, 3))
    image_FHWC: NDArray[np.uint8] = np.clip(coarse + fine, 0, 255).astype(np.uint8)
    return image_FHWC


def write_tiny_siglip(
    folder: Path,
    *,
    image_px: int = 64,
    seed: int = 0,
    timm_model_name: str = "test_vit",
    pool: str = "map",
) -> Path:
    """Write a SigLIP of 0.5 M parameters with random weights as an open_clip local-dir checkpoint.

    The layout and tensor names are those of the real models (timm ViT with attention pooling,
    open_clip text tower); timm's own small test ViT stands in for the image tower: width 64, 6
    layers, 16 px patches, any input size. Same arguments, same bytes.

    Args:
        folder: made if missing; gets open_clip_config.json and open_clip_model.safetensors.
        image_px: side of the square input; a multiple of 16.
        seed: of the weights.
        timm_model_name: another image tower of width 64.
        pool: how it pools, as open_clip names it.
    """
    config = {
        "embed_dim": 64,
        "init_logit_bias": -10,
        "custom_text": True,
        "vision_cfg": {
            "image_size": image_px,
            "timm_model_name": timm_model_name,
            "timm_model_pretrained": False,
            "timm_pool": pool,
            "timm_proj": "none",
        },
        "text_cfg": {
            "context_length": 8,
            "vocab_size": 64,
            "hf_tokenizer_name": "tiny",
            "tokenizer_kwargs": {"clean": "canonicalize"},
            "width": 64,
            "heads": 2,
            "layers": 2,
            "no_causal_mask": True,
            "proj_bias": True,
            "pool_type": "last",
            "norm_kwargs": {"eps": 1e-6},
        },
    }
    _write_tokenizer(folder)
    return _write(folder, config, seed=seed, keep="", dtype="float32")


def _write_tokenizer(folder: Path) -> None:
    """Write a tokenizer of a few words, in the files that the real models have."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import PreTrainedTokenizerFast

    known = ["<pad>", "</s>", "<unk>", *WORDS]
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(known)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)


def write_random_so400m(folder: Path, *, seed: int = 0) -> Path:
    """Write the default model's architecture with random weights, image tower only: 0.9 GB in bf16.

    Needs about 2.6 GB of memory for a moment.
    """
    import open_clip

    config = open_clip.get_model_config(SO400M)
    return _write(folder, config, seed=seed, keep="visual.", dtype="bfloat16")


def _write(folder: Path, config: dict[str, Any], *, seed: int, keep: str, dtype: str) -> Path:
    import open_clip
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"model_cfg": config, "preprocess_cfg": PREPROCESS}, indent=2)
    (folder / "open_clip_config.json").write_text(text + "\n")
    with torch.device("meta"):  # names and shapes only
        model = open_clip.CustomTextCLIP(**{k: v for k, v in config.items() if k != "custom_text"})
    shapes = [(name, tuple(t.shape)) for name, t in model.state_dict().items()]
    state = random_state(
        ((n, s) for n, s in shapes if n.startswith(keep)), seed, getattr(torch, dtype)
    )
    save_file(state, folder / "open_clip_model.safetensors")
    return folder


def random_state(
    shapes: Iterable[tuple[str, tuple[int, ...]]], seed: int, dtype: torch.dtype | None = None
) -> dict[str, torch.Tensor]:
    """Draw weights that keep activations at size one, so that different images differ."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in shapes:
        if len(shape) >= 2:
            fan_in = 1 if "embed" in name and "proj" not in name else math.prod(shape[1:])
            tensor = torch.randn(shape, generator=generator) / math.sqrt(fan_in)
        elif "norm" in name and name.endswith("weight"):
            tensor = torch.ones(shape)
        else:
            tensor = torch.zeros(shape)
        state[name] = tensor.to(dtype)
    return state


if __name__ == "__main__":
    write_tiny_siglip(Path(sys.argv[1]), image_px=int(sys.argv[2]) if len(sys.argv) > 2 else 64)
