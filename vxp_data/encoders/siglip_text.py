"""SigLIP text encoder, from open_clip: how well a caption fits its image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Self

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray

from vxp_data.encoders.base import EncoderSettings
from vxp_data.encoders.siglip_model import (
    SiglipModel,
    find_model,
    find_tokenizer,
    find_weights,
)
from vxp_data.encoders.siglip_weights import with_weights
from vxp_data.encoders.torch_encoder import batch_on, is_bf16, usable_device
from vxp_data.errors import UserError

_SMALLEST_VISION: Final = {
    "image_size": 16,
    "patch_size": 16,
    "width": 64,
    "head_width": 64,
    "layers": 1,
}


class SiglipTextEncoder:
    """The text tower that belongs to encoder 'siglip', with open_clip's own tokenizer for it.

    It sees as many tokens as the model has positions (64), the beginning of a long caption. On CPU
    every text goes alone, on CUDA all passes have one shape, as images do.
    """

    def __init__(
        self,
        tower: torch.nn.Module,
        tokenize: Callable[[list[str]], torch.Tensor],
        *,
        device: torch.device,
        bf16: bool,
        batch_texts: int,
    ) -> None:
        self._tower = tower
        self._tokenize = tokenize
        self._device = device
        self._bf16 = bf16
        self._batch_texts = batch_texts

    @classmethod
    def prepare(cls, settings: EncoderSettings) -> None:
        """Find or fetch weights and tokenizer; see `TextEncoder.prepare`."""
        model = find_model(settings)
        find_weights(model)
        _tokenizer(model)

    @classmethod
    def load(cls, settings: EncoderSettings) -> Self:
        """Build the text tower and read its weights.

        Raises:
            UserError: no such model; weights or tokenizer cannot be had or do not fit; no CUDA
                device where one is wanted.
        """
        model = find_model(settings)
        device = usable_device(settings)
        return cls(
            _load_text(model, device),
            _tokenizer(model),
            device=device,
            bf16=is_bf16(settings, device.type),
            batch_texts=batch_on(device, settings),
        )

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts, in order.

        Args:
            texts: any; what an empty one means is the model's business.

        Returns:
            emb_TD: float32 [T, D], unit rows; [0, 0] of no texts.
        """
        starts = range(0, len(texts), self._batch_texts)
        parts = [self._forward(list(texts[s : s + self._batch_texts])) for s in starts]
        return np.concatenate(parts) if parts else np.empty((0, 0), np.float32)

    def _forward(self, batch: list[str]) -> NDArray[np.float32]:
        filled = batch + [""] * (self._batch_texts - len(batch))
        with (
            torch.inference_mode(),
            torch.autocast(self._device.type, torch.bfloat16, enabled=self._bf16),
        ):
            emb_BD = self._tower(self._tokenize(filled).to(self._device))
            emb_BD = torch.nn.functional.normalize(emb_BD.float(), dim=-1)
            unit_BD: NDArray[np.float32] = emb_BD[: len(batch)].cpu().numpy()
        return unit_BD


def _tokenizer(model: SiglipModel) -> Callable[[list[str]], torch.Tensor]:
    """Make the model's tokenizer.

    Raises:
        UserError: the model has no text tower, or its tokenizer cannot be had.
    """
    if not model.text_cfg.get("hf_tokenizer_name"):
        raise UserError(
            f"{model.name} names no tokenizer (text_cfg.hf_tokenizer_name), so that captions "
            "cannot be compared with images: leave the filter image_text_similarity out."
        )
    folder = find_tokenizer(model)
    try:
        tokenize: Callable[[list[str]], torch.Tensor] = open_clip.get_tokenizer(folder)
    except Exception as error:
        raise UserError(
            f"the tokenizer of {model.name} cannot be read: {type(error).__name__}: {error}"
        ) from error
    return tokenize


def _load_text(model: SiglipModel, device: torch.device) -> torch.nn.Module:
    """Build the text tower without memory, then give it the weights.

    Raises:
        UserError: open_clip cannot build it, or the weights do not fit it.
    """
    try:
        with torch.device("meta"):
            tower: torch.nn.Module = open_clip.CustomTextCLIP(
                embed_dim=model.embed_dim,
                vision_cfg=_SMALLEST_VISION,  # the class insists on an image tower; it is dropped
                text_cfg=model.text_cfg,
                quick_gelu=model.quick_gelu,
            ).text
    except Exception as error:
        raise UserError(
            f"open_clip cannot build the text tower of {model.name}: {error}"
        ) from error
    if next(tower.buffers(), None) is not None:  # a causal mask: it is in no checkpoint
        raise UserError(f"the text tower of {model.name} is causal, as no SigLIP's is.")
    return with_weights(tower, model, "text", device)
