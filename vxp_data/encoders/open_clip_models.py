"""Any model of open_clip: CLIP, SigLIP, PE-Core, MobileCLIP and the others; its image tower."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from vxp_data.encoders.base import EncoderSettings, EncoderSpec, require_modules
from vxp_data.encoders.siglip_model import SiglipModel, find_any_model, find_weights
from vxp_data.encoders.torch_encoder import (
    TorchEncoder,
    model_spec,
    vector_length,
)
from vxp_data.errors import UserError

if TYPE_CHECKING:
    import torch

VERSION: Final = 1
"""Counts up with every change of the numbers; enters the fingerprint."""


class OpenClipEncoder(TorchEncoder):
    """Encoders 'open_clip:NAME': a name of open_clip's, with its weights.

    `checkpoint` is a weights file or a folder with open_clip_config.json; without it the weights of
    tag `pretrained` are the hub's. Images are squashed to the model's square, whatever its own
    transform crops. For SigLIPs take 'siglip': it starts faster.
    """

    @classmethod
    def prepare(cls, settings: EncoderSettings) -> Path:
        """Find or fetch the weights; see `Encoder.prepare`."""
        return find_weights(_model(settings))

    @classmethod
    def describe(cls, settings: EncoderSettings) -> EncoderSpec:
        """Return the spec; builds the model of shapes alone, for which torch is loaded.

        Raises:
            UserError: no such model, tag or checkpoint; its input is not square.
        """
        model = _model(settings)
        return model_spec(
            settings,
            image_px=model.image_px,
            dim=vector_length(partial(_build, model), model.image_px),
            mean=model.mean,
            std=model.std,
            version=VERSION,
            vision_cfg=model.vision_cfg,
            quick_gelu=model.quick_gelu,
            weights=model.weights_id(),
        )

    @classmethod
    def load(cls, settings: EncoderSettings) -> Self:
        """Build the image tower and read its weights; see `Encoder.load`."""
        model = _model(settings)

        def make() -> tuple[EncoderSpec, torch.nn.Module]:
            visual = _with_weights(_build(model), model)
            return cls.describe(settings), visual  # a download makes the weights' revision known

        return cls.of_model(make, settings, mean=model.mean, std=model.std)


def _model(settings: EncoderSettings) -> SiglipModel:
    require_modules(settings.name, "siglip", "open_clip", "torch", "torchvision", "safetensors")
    return find_any_model(settings, settings.name.partition(":")[2])


def _build(model: SiglipModel) -> torch.nn.Module:
    """Build the image tower.

    Raises:
        UserError: open_clip cannot.
    """
    from vxp_data.encoders.siglip_weights import open_clip_tower

    try:
        visual = open_clip_tower(model)
        if hasattr(visual, "output_tokens"):  # CoCa's captions need them
            setattr(visual, "output_tokens", False)  # noqa: B010 - no type knows it
        return visual
    except (NotImplementedError, RuntimeError):
        raise  # `vector_length` then builds it with numbers: shapes alone did not do
    except Exception as error:
        raise UserError(
            f"open_clip cannot build the image tower of {model.name}: {error}"
        ) from error


def _with_weights(visual: torch.nn.Module, model: SiglipModel) -> torch.nn.Module:
    """Give a tower its weights: copied, since buffers that are in no file must stay.

    Raises:
        UserError: they cannot be had, or do not fit.
    """
    from vxp_data.encoders.siglip_weights import tower_tensors

    try:
        visual.load_state_dict(dict(tower_tensors(find_weights(model), "visual")), strict=True)
    except RuntimeError as error:
        raise UserError(
            f"the weights do not fit the image tower of {model.name}: {error}"
        ) from error
    return visual.eval().requires_grad_(False)
