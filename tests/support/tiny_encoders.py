"""Small models with random weights for every encoder that takes a model of yours."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from support.tiny_models import Settings, random_state, write_tiny_siglip

TIMM = "test_vit"

CLIP: dict[str, Any] = {
    "embed_dim": 48,
    "vision_cfg": {"image_size": 64, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16},
    "text_cfg": {"context_length": 8, "vocab_size": 64, "width": 32, "heads": 2, "layers": 1},
    "quick_gelu": True,
}
"""A CLIP as OpenAI's: a tower of open_clip's own, and text parts beside it."""

CLIP_PREPROCESS = {
    "mean": [0.48145466, 0.4578275, 0.40821073],
    "std": [0.26862954, 0.26130258, 0.27577711],
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}


def write_tiny_timm(folder: Path, name: str = TIMM) -> Path:
    """Write timm's own test model, with its classifier; return the file."""
    import timm
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    model = timm.create_model(name, pretrained=False)
    state = dict(model.state_dict())
    drawn = random_state(((n, tuple(t.shape)) for n, t in state.items()), 0)
    flat = {name: tensor for name, tensor in state.items() if tensor.ndim < 2}  # norms, biases
    save_file(drawn | flat, folder / "model.safetensors")
    return folder / "model.safetensors"


def write_tiny_clip(folder: Path) -> Path:
    """Write a CLIP in the files of open_clip; return the folder."""
    import open_clip
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    config = {"model_cfg": CLIP, "preprocess_cfg": CLIP_PREPROCESS}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    shapes = [(n, tuple(t.shape)) for n, t in open_clip.CLIP(**CLIP).state_dict().items()]
    state = random_state(shapes, 0)
    for name in list(state):
        if name.endswith(("ln_pre.weight", "ln_post.weight", "ln_1.weight", "ln_2.weight")):
            state[name] = state[name] + 1
    save_file(state, folder / "open_clip_model.safetensors")
    return folder


def write_tiny_vision(folder: Path, kind: str = "siglip_vision_model") -> Path:
    """Write a vision model of transformers: by itself, or as a part of one that reads texts too."""
    from transformers import AutoConfig, AutoModel

    vision = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 64,
        "patch_size": 16,
    }
    words = {
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "vocab_size": 64,
        "projection_size": 64,
    }
    two = {"vision_config": vision, "text_config": words, "projection_dim": 64}
    config = AutoConfig.for_model(kind, **(two if kind in ("siglip", "clip") else vision))
    model = AutoModel.from_config(config)
    shapes = [(n, tuple(t.shape)) for n, t in model.state_dict().items()]
    state = random_state(shapes, 0)
    for name in list(state):
        if "norm" in name and name.endswith("weight"):
            state[name] = state[name] * 0 + 1
        elif name.endswith("position_ids"):
            del state[name]
    model.load_state_dict(state, strict=False)
    model.save_pretrained(folder)
    size = {"height": 64, "width": 64}
    processor = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3, "size": size}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


_OURS: Mapping[str, Callable[[Path], Settings]] = {
    "siglip": lambda folder: Settings(checkpoint=str(write_tiny_siglip(folder))),
    "open_clip:": lambda folder: Settings(
        name="open_clip:tiny", checkpoint=str(write_tiny_clip(folder))
    ),
    "timm:": lambda folder: Settings(name=f"timm:{TIMM}", checkpoint=str(write_tiny_timm(folder))),
    "transformers": lambda folder: Settings(checkpoint=str(write_tiny_vision(folder))),
}


def settings_for(name: str, folder: Path) -> Settings:
    """Return settings with which a registered encoder can be loaded, its model in the folder."""
    if name not in _OURS:
        return Settings(name=name)
    made = _OURS[name](folder)
    return made if name.endswith(":") else replace(made, name=name)
