"""SigLIP image encoder: the product's embedding.

torch is imported where a model is built and run: the command that plans a run loads none.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import numpy as np
from numpy.typing import NDArray

from vxp_data.cuda import has_cuda
from vxp_data.encoders.base import EncoderSettings, EncoderSpec, check_frames, fingerprint
from vxp_data.encoders.siglip_model import SiglipModel, find_model, find_weights, require_siglip
from vxp_data.errors import UserError, unknown_name

if TYPE_CHECKING:
    import torch

VERSION: Final = 1
"""Counts up with every change of the numbers; enters the fingerprint."""

_NEEDS: Final = ("torch", "safetensors")

logger = logging.getLogger(__name__)


class SiglipEncoder:
    """Encoder 'siglip': any open_clip SigLIP or SigLIP2 with one square input size.

    Only the image tower stays in memory (1.7 GB for the default model). bf16 is autocast over fp32
    weights: LayerNorm, softmax and the residual stream then stay fp32. The price, casting the
    weights in every pass, is small beside a batch of 64 frames.

    On CUDA every pass has one shape: the last batch is filled up with black images. So a call
    costs ceil(F / batch_frames) full passes: give it the frames of several videos, or a
    batch_frames that divides F. No vector depends on what the other images are; its index in the
    batch and the batch size (which shrinks when memory runs out) may change its last bits.

    On CPU every image goes alone, whatever batch_frames is, so that its vector is the same bit
    for bit wherever it stands. Measured in batches of 8 and 64: the neighbours' content changes
    nothing, the index changes the last bits (2e-7) of half the vectors. Little is lost: the default
    model takes 12 s a frame alone on two cores, 11 s in fours.

    Attributes:
        spec: what it makes.
        visual: the image tower.
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
        import torch

        self.spec: Final = spec
        self.visual: Final = visual
        self._device = device
        self._bf16 = bf16
        self._batch_frames = batch_frames
        # Of 0..255: the same as ToTensor and Normalize, in one multiply and one add.
        std = torch.tensor(model.std, device=device).view(1, 3, 1, 1)
        self._scale = 1.0 / (255.0 * std)
        self._shift = -torch.tensor(model.mean, device=device).view(1, 3, 1, 1) / std

    @classmethod
    def prepare(cls, settings: EncoderSettings) -> Path:
        """Find or fetch the weights; see `Encoder.prepare`."""
        require_siglip(*_NEEDS)
        return find_weights(find_model(settings))

    @classmethod
    def describe(cls, settings: EncoderSettings) -> EncoderSpec:
        """Return the spec; reads model configs and at most 12 MiB of a local weights file.

        With device 'auto' the precision class, and so the fingerprint, is that of the machine this
        runs on: name the device where a job is planned on one machine and run on another. Weights
        of the hub that are not in this machine's cache count as revision 'main'.

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
        import torch

        from vxp_data.encoders.siglip_weights import load_image_tower

        device_type = device_type_of(settings)
        bf16 = is_bf16(settings, device_type)
        if settings.batch_frames < 1:
            raise UserError(f"batch_frames must be 1 or more, got {settings.batch_frames}.")
        if device_type == "cuda" and not torch.cuda.is_available():
            raise UserError(
                "the encoder's device is 'cuda', and torch finds no CUDA device here "
                f"(torch {torch.__version__}). Set it to 'auto' or 'cpu', or look at nvidia-smi."
            )
        model = find_model(settings)
        device = torch.device(device_type)
        visual = load_image_tower(model, device)
        return cls(
            _spec(model, bf16=bf16),  # after the weights: a download has made their revision known
            model,
            visual,
            device=device,
            bf16=bf16,
            batch_frames=settings.batch_frames if device_type == "cuda" else 1,
        )

    @property
    def batch_frames(self) -> int:
        """Images a forward pass takes; less than was asked for once memory has run out."""
        return self._batch_frames

    def embed(self, frames_FHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed images, in order.

        Args:
            frames_FHWC: uint8 RGB [F, frame_px, frame_px, 3]. To match open_clip's own transform,
                squash with a bicubic filter that widens with the reduction (swscale: BICUBIC |
                ACCURATE_RND | FULL_CHR_H_INT | FULL_CHR_H_INP).

        Returns:
            emb_FD: float32 [F, D], unit rows.

        Raises:
            ValueError: another shape or dtype.
            UserError: one image alone does not fit into device memory; the weights give vectors
                that are not finite.
        """
        import torch

        check_frames(frames_FHWC, frame_px=self.spec.frame_px)
        emb_FD = np.empty((len(frames_FHWC), self.spec.dim), np.float32)
        start = 0
        while start < len(frames_FHWC):
            batch_BHWC = frames_FHWC[start : start + self._batch_frames]
            try:
                emb_FD[start : start + len(batch_BHWC)] = self._forward(batch_BHWC)
            except torch.OutOfMemoryError as error:
                self._halve(error)
            else:
                start += len(batch_BHWC)
                continue
            torch.cuda.empty_cache()  # not in `except`, whose traceback holds the pass's tensors
        if not np.isfinite(emb_FD).all():
            raise UserError(
                f"the weights give vectors that are not finite ({self.spec}): the file is damaged, "
                "or the model needs precision fp32."
            )
        return emb_FD

    def _forward(self, frames_BHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed up to batch_frames images in one pass of fixed shape."""
        import torch

        # Always the full batch: other shapes may take other kernels, which round otherwise.
        padded_BHWC = np.zeros((self._batch_frames, *frames_BHWC.shape[1:]), np.uint8)
        padded_BHWC[: len(frames_BHWC)] = frames_BHWC
        with (
            torch.inference_mode(),
            torch.autocast(self._device.type, torch.bfloat16, enabled=self._bf16),
        ):
            pixels_BCHW = torch.from_numpy(padded_BHWC).to(self._device).permute(0, 3, 1, 2)
            emb_BD = self.visual(pixels_BCHW * self._scale + self._shift)
            emb_BD = torch.nn.functional.normalize(emb_BD.float(), dim=-1)
            unit_BD: NDArray[np.float32] = emb_BD[: len(frames_BHWC)].cpu().numpy()
        return unit_BD

    def _halve(self, error: torch.OutOfMemoryError) -> None:
        """Halve the batch, for the life of this encoder.

        Raises:
            UserError: the batch was one image.
        """
        if self._batch_frames == 1:
            raise UserError(
                f"one image of {self.spec.frame_px} px does not fit into the memory of device "
                f"{self._device}: free it (nvidia-smi shows who holds it), take a smaller model, "
                f"or device cpu. {str(error).partition(chr(10))[0]}"
            ) from error
        before = self._batch_frames
        self._batch_frames = before // 2
        logger.warning(
            "out of memory on %s with %d frames a batch: going on with %d, for good",
            self._device,
            before,
            self._batch_frames,
        )


def device_type_of(settings: EncoderSettings) -> str:
    """Return 'cpu' or 'cuda'.

    Raises:
        UserError: no such device.
    """
    if settings.device not in (known := ("auto", "cpu", "cuda")):
        raise unknown_name("encoder device", settings.device, known)
    if settings.device != "auto":
        return settings.device
    return "cuda" if has_cuda() else "cpu"


def is_bf16(settings: EncoderSettings, device_type: str) -> bool:
    """Whether a model runs in bf16 there.

    Raises:
        UserError: no such precision.
    """
    if settings.precision not in (known := ("auto", "bf16", "fp32")):
        raise unknown_name("encoder precision", settings.precision, known)
    return settings.precision == "bf16" or (settings.precision == "auto" and device_type == "cuda")


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
    )
