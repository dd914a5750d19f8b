"""Read the public Video-XL-Pro-3B checkpoint as a model of ours, and account for every tensor.

The names were read from the released model code (VectorSpaceLab/Video-XL at 6e3dc89), not from the
weights. What the released code does and this model does not, with these weights: it pads short
groups with frames drawn at random, shows an image as tiles, and drops tokens at random whatever
the length; ours pads with the last frame, shows an image as one group, and keeps every token that
fits. Its selector has other parts than ours, so that ours starts from chance: it acts above the
context limit alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn
from transformers import Qwen2Config

from vxp_model.errors import UserError
from vxp_model.models.released import OTHER_PARTS, load_released_dts, load_released_projector
from vxp_model.models.tensor_files import TensorFiles
from vxp_model.models.video_xl_pro import PARTS, VideoXLProForConditionalGeneration
from vxp_model.models.video_xl_pro_config import VideoXLProConfig, vision_to_transformers
from vxp_model.modules.shapes import VisionConfig

_TOWER: Final = "model.vision_tower.vision_tower.vision_model."
_TEXT_FIELDS: Final = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "vocab_size",
    "max_position_embeddings",
    "rms_norm_eps",
)
_TEXT_NAMES: Final = ("model.embed_tokens.", "model.layers.", "model.norm.", "lm_head.")


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorFate:
    """Where one tensor of the checkpoint went."""

    name: str
    part: str
    """Of our model; '' where it was left out."""
    why: str
    """Why it was left out; '' where it was taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportReport:
    """What became of a checkpoint."""

    fates: tuple[TensorFate, ...]
    """Of every tensor in it, by name."""
    random_parts: tuple[str, ...]
    """Parts of our model that it has no weights for."""

    def summary(self) -> str:
        """Return how many tensors went where, a line for each part."""
        counts: dict[str, int] = {}
        for fate in self.fates:
            line = fate.part or f"left out: {fate.why}"
            counts[line] = counts.get(line, 0) + 1
        lines = [f"{count:6} {line}" for line, count in sorted(counts.items())]
        return "\n".join([*lines, f"random: {', '.join(self.random_parts)}"])


def load_released_model(
    folder: Path | str,
    *,
    vision: VisionConfig | None = None,
    grid: int = 24,
    visual_token_id: int = 151_654,
    seed: int = 0,
    ignore: Sequence[str] = (),
) -> tuple[VideoXLProForConditionalGeneration, ImportReport]:
    """Build a model with released weights, on the CPU, in fp32.

    The legacy flags of compressor and visual rotation are on.

    Args:
        folder: config.json and weights of a Video-XL-Pro checkpoint.
        vision: the tower's shape; None: SigLIP SO400M/14 at 384 px, 26 layers.
        grid: tokens along a side of a frame; the file does not tell.
        visual_token_id: Qwen's `<|vision_pad|>`.
        seed: of the selector's random weights.
        ignore: beginnings of names of further tensors that may be in it.

    Raises:
        UserError: it is no such checkpoint; a tensor is missing, unknown, or of another shape.
    """
    folder = Path(folder)
    files = TensorFiles(folder)
    vision = vision or VisionConfig()
    dts, _ = load_released_dts(folder, ignore=ignore)
    projector, _ = load_released_projector(folder, ignore=ignore)
    config = VideoXLProConfig(
        vision_config=vision_to_transformers(vision),
        text_config=_text_config(folder),
        grid=grid,
        legacy_frame_layout=True,
        legacy_relpos_transpose=True,
        visual_rotary=True,
        visual_token_id=visual_token_id,
        random_parts=["selector"],
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = VideoXLProForConditionalGeneration(config)
    _copy(model.get_submodule(PARTS["dts"]), dts.state_dict(), "compressor", folder)
    _copy(model.vision.projector, projector.state_dict(), "projector", folder)
    tower = model.vision.tower
    names = {name: _TOWER + re.sub(r"^layers\.", "encoder.layers.", name) for name in _names(tower)}
    _copy(tower, _read(files, names), "vision tower", folder)
    _copy(model.language_model, _read_text(files, model.language_model), "language model", folder)
    model.requires_grad_(True)
    model.vision.tower.requires_grad_(False)
    model.train(False)
    return model, ImportReport(
        fates=_fates(files, {*names.values()}, ignore), random_parts=("selector",)
    )


def _text_config(folder: Path) -> Qwen2Config:
    try:
        values: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        given = {name: values[name] for name in _TEXT_FIELDS}
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"{str(folder)!r} has no config.json of a Qwen2 model: {type(error).__name__}: {error}"
        ) from error
    rope = {"rope_type": "default", "rope_theta": float(values.get("rope_theta", 1e6))}
    tied = bool(values.get("tie_word_embeddings", False))
    return Qwen2Config(**given, rope_parameters=rope, tie_word_embeddings=tied)


def _read_text(files: TensorFiles, language_model: nn.Module) -> dict[str, Tensor]:
    """Read the language model; a tied head may be in the file, and must be equal then."""
    names = {name: name for name in _names(language_model)}
    is_tied = bool(language_model.config.tie_word_embeddings)  # type: ignore[union-attr]
    if is_tied and "lm_head.weight" not in files.names:
        names["lm_head.weight"] = "model.embed_tokens.weight"
    state = _read(files, names)
    if is_tied and not torch.equal(state["lm_head.weight"], state["model.embed_tokens.weight"]):
        raise UserError(
            f"{str(files.path)!r}: config.json says that head and embeddings are one, and they "
            "differ. Set tie_word_embeddings to false in it."
        )
    return state


def _names(module: nn.Module) -> Iterable[str]:
    return module.state_dict().keys()


def _read(files: TensorFiles, names: Mapping[str, str]) -> dict[str, Tensor]:
    if lacking := sorted(set(names.values()) - set(files.names)):
        raise UserError(
            f"{str(files.path)!r} lacks {len(lacking)} tensors: {', '.join(lacking[:5])}."
        )
    read = files.read(set(names.values()))
    return {ours: read[theirs].float() for ours, theirs in names.items()}


def _copy(module: nn.Module, state: Mapping[str, Tensor], what: str, folder: Path) -> None:
    try:
        module.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise UserError(f"the {what} in {str(folder)!r} does not fit: {error}") from error


def _fates(
    files: TensorFiles, tower_names: set[str], ignore: Sequence[str]
) -> tuple[TensorFate, ...]:
    fates = []
    for name in files.names:
        part, why = "", ""
        if name.startswith("model.sae."):
            part = "compressor"
        elif name.startswith("model.mm_projector."):
            part = "projector"
        elif name in tower_names:
            part = "vision tower"
        elif name.startswith(_TEXT_NAMES):
            part = "language model"
        elif name.startswith("model.vision_tower."):
            why = "of the vision tower behind the layers that are run"
        elif name.startswith(("model.text_mlp.", "model.WindowTimeToTokenAttention.")):
            why = "of the released selector, which is built in another way"
        elif name.startswith(OTHER_PARTS):
            why = "never used by the released code for video"
        else:
            assert name.startswith(tuple(ignore)), name  # the readers refuse all others
            why = "asked for"
        fates.append(TensorFate(name=name, part=part, why=why))
    return tuple(fates)
