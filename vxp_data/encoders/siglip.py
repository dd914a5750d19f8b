"""SigLIP image encoder: the product's embedding.

torch is imported where a model is built and run: the command that plans a run loads none.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from vxp_data.encoders.base import EncoderSettings, EncoderSpec, fingerprint
from vxp_data.encoders.siglip_model import SiglipModel, find_model, find_weights, require_siglip
from vxp_data.encoders.torch_encoder import (
    TorchEncoder,
    batch_on,
    device_type_of,
    is_bf16,
    pixel_scaling,
    usable_device,
)

if TYPE_CHECKING:
    import torch

VERSION: Final = 1
"""Counts up with every change of the numbers; enters the fingerprint."""

_NEEDS: Final = ("torch", "safetensors")


class SiglipEncoder(TorchEncoder):
    """Encoder 'siglip': any open_clip SigLIP or SigLIP2 with one square input size.

    Only the image tower stays in memory (1.7 GB for the default model).
    """

    def __init__(
        self,
        spec: EncoderSpec,
        model: SiglipModel,
        visual: torch.nn.Module,
        *,
        device: torch.device,
        bf16: bool,
        batch_frames: int,
    ) -> None:
        scale_C, shift_C = pixel_scaling(model.mean, model.std)
        super().__init__(
            spec,
            visual,
            scale_C=scale_C,
            shift_C=shift_C,
            device=device,
            bf16=bf16,
            batch_frames=batch_frames,
        )

    @classmethod
    def prepare(cls, settings: EncoderSettings) -> Path:
        """Find or fetch the weights; see `Encoder.prepare`."""
        require_siglip(*_NEEDS)
        return find_weights(find_model(settings))

    @classmethod
    def describe(cls, settings: EncoderSettings) -> EncoderSpec:
        """Return the spec; reads model configs and at most 12 MiB of a local weights file.

        With device 'auto' the precision class, and so the fingerprint, is that of the machine this
        runs on: a job names the device of the machines it runs on. Weights of the hub that are not
        in this machine's cache count as revision 'main'.

        Raises:
            UserError: unknown model, tag, device or precision; no such checkpoint; not a SigLIP.
        """
        require_siglip(*_NEEDS)
        return _spec(find_model(settings), bf16=is_bf16(settings, device_type_of(settings)))

    @classmethod
    def load(cls, settings: EncoderSettings) -> Self:
        """Build the image tower and read its weights, from disk or, if need be, from the hub.

        Raises:
            UserError: as `describe`; the weights cannot be had or do not fit; no CUDA device.
        """
        require_siglip(*_NEEDS)
        device = usable_device(settings)
        from vxp_data.encoders.siglip_weights import load_image_tower

        bf16 = is_bf16(settings, device.type)
        model = find_model(settings)
        visual = load_image_tower(model, device)
        return cls(
            _spec(model, bf16=bf16),  # after the weights: a download has made their revision known
            model,
            visual,
            device=device,
            bf16=bf16,
            batch_frames=batch_on(device, settings),
        )


def _spec(model: SiglipModel, *, bf16: bool) -> EncoderSpec:
    facts = {
        "encoder": "siglip",
        "version": VERSION,
        "embed_dim": model.embed_dim,
        "vision_cfg": model.vision_cfg,
        "quick_gelu": model.quick_gelu,
        "weights": model.weights_id(),
        "precision": "bf16" if bf16 else "fp32",
        "preprocess": {"px": model.image_px, "mean": model.mean, "std": model.std},
    }
    return EncoderSpec(
        name="siglip",
        frame_px=model.image_px,
        dim=model.embed_dim,
        fingerprint=fingerprint(facts),
        in_decode_task=False,
        precision=str(facts["precision"]),
    )
