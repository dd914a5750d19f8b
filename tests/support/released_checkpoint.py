"""Invented checkpoints with the names and shapes of the published models, at tiny widths."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from support.released_dts import WIDTH, released_dts
from support.tensors import random
from vxp_model.models.byte_tokenizer import NUM_TOKENS, byte_tokenizer

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import Qwen2ForCausalLM, SiglipVisionModel

Kind = Literal["video-xl-pro", "video-xl-2"]
Layout = Literal["one", "shards", "bins"]

TEXT_WIDTH: Final = 24
TEXT: Final[dict[str, Any]] = {
    "hidden_size": TEXT_WIDTH,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": NUM_TOKENS,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-6,
}
SELECTOR: Final = {
    "model.text_mlp.0.weight": (TEXT_WIDTH, TEXT_WIDTH),
    "model.text_mlp.0.bias": (TEXT_WIDTH,),
    **{
        f"model.WindowTimeToTokenAttention.{name}_proj.{kind}": shape
        for name in ("q", "k", "v", "out")
        for kind, shape in (("weight", (TEXT_WIDTH, TEXT_WIDTH)), ("bias", (TEXT_WIDTH,)))
    },
}


def siglip() -> SiglipVisionModel:
    """Build the tower, without the layer that the released code deletes."""
    import torch
    from transformers import SiglipVisionConfig, SiglipVisionModel

    torch.manual_seed(1)
    return SiglipVisionModel(
        SiglipVisionConfig(
            hidden_size=WIDTH,
            intermediate_size=96,
            num_hidden_layers=2,
            num_attention_heads=1,
            image_size=56,
            patch_size=14,
            vision_use_head=False,
        )
    ).eval()


def qwen(*, tied: bool) -> Qwen2ForCausalLM:
    """Build the language model."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(2)
    rope = {"rope_type": "default", "rope_theta": 1e6}
    return Qwen2ForCausalLM(
        Qwen2Config(**TEXT, rope_parameters=rope, tie_word_embeddings=tied)
    ).eval()


def released_state(kind: Kind) -> dict[str, Tensor]:
    """Return a checkpoint's tensors: Pro's head is tied and it has a selector, else neither."""
    tower = "model.vision_tower.vision_tower.vision_model."
    tied = kind == "video-xl-pro"
    state = {f"model.sae.{name}": tensor for name, tensor in released_dts().items()}
    state |= {tower + name: tensor for name, tensor in siglip().state_dict().items()}
    text = qwen(tied=tied).state_dict()
    state |= {name: text[name] for name in text if not (tied and name == "lm_head.weight")}
    state |= {
        "model.mm_projector.0.weight": random(TEXT_WIDTH, WIDTH),
        "model.mm_projector.0.bias": random(TEXT_WIDTH),
        "model.mm_projector.2.weight": random(TEXT_WIDTH, TEXT_WIDTH),
        "model.mm_projector.2.bias": random(TEXT_WIDTH),
        "model.image_newline": random(TEXT_WIDTH),
    }
    if kind == "video-xl-pro":
        state |= {name: random(*shape) for name, shape in SELECTOR.items()}
    return state


def write_released(
    folder: Path,
    kind: Kind = "video-xl-pro",
    layout: Layout = "one",
    *,
    tokenizer: bool = True,
    dtype: str = "float32",
    config: dict[str, Any] | None = None,
    **more: Tensor,
) -> dict[str, Tensor]:
    """Write one, as transformers lays out files.

    Args:
        folder: made where it is not there.
        kind: see `released_state`.
        layout: one safetensors file; three with an index; or three torch files with an index.
        tokenizer: write one of bytes beside it.
        dtype: of the weights.
        config: further fields of config.json.
        more: further tensors.
    """
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    state = released_state(kind) | more
    state = {name: tensor.to(getattr(torch, dtype)) for name, tensor in state.items()}
    _write_files(folder, state, layout)
    known = {"model_type": "llava_qwen", "mm_projector_type": "mlp2x_gelu", "rope_theta": 1e6}
    known |= {**TEXT, "tie_word_embeddings": kind == "video-xl-pro", **(config or {})}
    (folder / "config.json").write_text(json.dumps(known))
    if tokenizer:
        byte_tokenizer().save_pretrained(folder)
    return state


def _write_files(folder: Path, state: dict[str, Tensor], layout: Layout) -> None:
    import torch
    from safetensors.torch import save_file

    if layout == "one":
        save_file(state, folder / "model.safetensors")
        return
    stem, suffix = ("model", "safetensors") if layout == "shards" else ("pytorch_model", "bin")
    names = sorted(state)
    weight_map = {}
    for number in range(3):
        file = f"{stem}-{number + 1:05}-of-00003.{suffix}"
        part = {name: state[name].contiguous() for name in names[number::3]}
        weight_map |= dict.fromkeys(part, file)
        if layout == "shards":
            save_file(part, folder / file, metadata={"format": "pt"})
        else:
            torch.save(part, folder / file)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / f"{stem}.{suffix}.index.json").write_text(json.dumps(index))
