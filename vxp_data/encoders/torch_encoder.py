"""What encoders of torch share: devices, precision, batches; pixels to unit vectors.

torch is imported where a model is built and run: the command that plans a run loads none.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from vxp_data.cuda import has_cuda
from vxp_data.encoders.base import EncoderSettings, EncoderSpec, check_frames, fingerprint
from vxp_data.encoders.pinned_frames import PinnedFrames
from vxp_data.errors import UserError, unknown_name

if TYPE_CHECKING:
    import torch

_OFF_UNIT: Final = 1e-3
"""How far from 1 the norm of a vector may be that has been divided by its norm."""

logger = logging.getLogger(__name__)


class TorchEncoder:
    """An image tower in torch, and how images are handed to it.

    bf16 is autocast over fp32 weights: LayerNorm, softmax and the residual stream then stay fp32.
    The price, casting the weights in every pass, is small beside a batch of 64 frames.

    On CUDA every pass has one shape: the last batch is filled up with black images. So a call
    costs ceil(F / batch_frames) full passes: give it the frames of several videos, or a
    batch_frames that divides F. While one pass is computed the next one's images are copied from
    pinned memory, and the vectors come back together. No vector depends on what the other images
    are; its index in the batch and the batch size (which shrinks when memory runs out) may change
    its last bits.

    On CPU every image goes alone, whatever batch_frames is, so that its vector is the same bit
    for bit wherever it stands. Measured with SigLIP in batches of 8 and 64: the neighbours' content
    changes nothing, the index changes the last bits (2e-7) of half the vectors. Little is lost:
    SO400M takes 12 s a frame alone on two cores, 11 s in fours.

    Attributes:
        spec: what it makes.
        visual: the image tower: pixels [B, 3, H, W] to vectors [B, D], of any norm.
    """

    def __init__(
        self,
        spec: EncoderSpec,
        visual: torch.nn.Module,
        *,
        scale_C: torch.Tensor,
        shift_C: torch.Tensor,
        device: torch.device,
        bf16: bool,
        batch_frames: int,
    ) -> None:
        self.spec: Final = spec
        self.visual: Final = visual
        self._device = device
        self._bf16 = bf16
        self._batch_frames = batch_frames
        self._scale = scale_C.to(device).view(1, 3, 1, 1)
        self._shift = shift_C.to(device).view(1, 3, 1, 1)
        self._pinned: PinnedFrames | None = None

    @classmethod
    def of_model(
        cls,
        make: Callable[[], tuple[EncoderSpec, torch.nn.Module]],
        settings: EncoderSettings,
        *,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> Self:
        """Return the encoder of a model that somebody else's package builds, on its device.

        Args:
            make: gives the spec and the model with its weights; called once the device is known.
            settings: of device, precision and batch.
            mean: of RGB in 0..1, which images are scaled by.
            std: likewise.

        Raises:
            UserError: the device cannot be used; or what `make` raises.
        """
        device = usable_device(settings)
        scale_C, shift_C = pixel_scaling(mean, std)
        spec, visual = make()
        return cls(
            spec,
            visual.to(device),
            scale_C=scale_C,
            shift_C=shift_C,
            device=device,
            bf16=is_bf16(settings, device.type),
            batch_frames=batch_on(device, settings),
        )

    @property
    def batch_frames(self) -> int:
        """Images a forward pass takes; less than was asked for once memory has run out."""
        return self._batch_frames

    def embed(self, frames_FHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed images, in order.

        Args:
            frames_FHWC: uint8 RGB [F, frame_px, frame_px, 3]. To match open_clip's own squashing,
                squash with a bicubic filter that widens with the reduction (swscale: BICUBIC |
                ACCURATE_RND | FULL_CHR_H_INT | FULL_CHR_H_INP).

        Returns:
            emb_FD: float32 [F, D], unit rows.

        Raises:
            ValueError: another shape or dtype.
            UserError: one image alone does not fit into device memory; the weights give vectors
                that are not finite, or zero.
        """
        import torch

        check_frames(frames_FHWC, frame_px=self.spec.frame_px)
        passes: list[torch.Tensor] = []
        start = 0
        while start < len(frames_FHWC):
            batch_BHWC = frames_FHWC[start : start + self._batch_frames]
            try:
                passes.append(self._forward(batch_BHWC))
            except torch.OutOfMemoryError as error:
                self._halve(error)
            else:
                start += len(batch_BHWC)
                continue
            torch.cuda.empty_cache()  # not in `except`, whose traceback holds the pass's tensors
        emb_FD = np.empty((len(frames_FHWC), self.spec.dim), np.float32)
        if passes:
            emb_FD[:] = torch.cat(passes).cpu().numpy()
        norm_F = np.linalg.norm(emb_FD, axis=1)
        if not (np.abs(norm_F - 1) <= _OFF_UNIT).all():  # NaN is caught too
            raise no_direction(norm_F, str(self.spec))
        return emb_FD

    def _forward(self, frames_BHWC: NDArray[np.uint8]) -> torch.Tensor:
        """Embed up to batch_frames images in one pass of fixed shape; [B, D] on the device."""
        import torch

        if self._pinned is None or self._pinned.batch_frames != self._batch_frames:
            self._pinned = PinnedFrames(self._batch_frames, self.spec.frame_px, self._device)
        with (
            torch.inference_mode(),
            torch.autocast(self._device.type, torch.bfloat16, enabled=self._bf16),
        ):
            # Always the full batch: other shapes may take other kernels, which round otherwise.
            pixels_BCHW = self._pinned.to_device(frames_BHWC).permute(0, 3, 1, 2)
            emb_BD = self.visual(pixels_BCHW * self._scale + self._shift)
            return torch.nn.functional.normalize(emb_BD.float(), dim=-1)[: len(frames_BHWC)]

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


def unit_rows(emb_FD: NDArray[np.float32]) -> NDArray[np.float32]:
    """Divide vectors by their norms, in place.

    Raises:
        UserError: one has none, or is not finite.
    """
    norm_F = np.linalg.norm(emb_FD, axis=1)
    if not (np.isfinite(norm_F) & (norm_F > 0)).all():
        raise no_direction(norm_F, "of an image encoder")
    emb_FD /= norm_F[:, None]
    return emb_FD


def no_direction(norm_F: NDArray[np.floating[Any]], what: str) -> UserError:
    """Build the error for vectors of which some are zero or not finite."""
    how = "are zero" if np.isfinite(norm_F).all() else "are not finite"
    return UserError(
        f"the weights give vectors that {how} ({what}): the file is damaged or of no trained "
        "model, or the model needs precision fp32."
    )


def pixel_scaling(mean: Sequence[float], std: Sequence[float]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return scale and shift [3] that make of 0..255 what ToTensor and Normalize make of it."""
    import torch

    std_C = torch.tensor(std)
    return 1.0 / (255.0 * std_C), -torch.tensor(mean) / std_C


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


def model_spec(
    settings: EncoderSettings,
    *,
    image_px: int,
    dim: int,
    mean: Sequence[float],
    std: Sequence[float],
    **facts: object,
) -> EncoderSpec:
    """Return the spec of a model that somebody else's package builds.

    Args:
        settings: the encoder's.
        image_px: side of its square input.
        dim: length of its vectors.
        mean: of RGB in 0..1.
        std: likewise.
        facts: what else changes the numbers: version, weights.
    """
    numbers = {
        "encoder": settings.name,
        "precision": "bf16" if is_bf16(settings, device_type_of(settings)) else "fp32",
        "preprocess": {"px": image_px, "mean": list(mean), "std": list(std)},
        **facts,
    }
    return EncoderSpec(
        name=settings.name,
        frame_px=image_px,
        dim=dim,
        fingerprint=fingerprint(numbers),
        in_decode_task=False,
        precision=str(numbers["precision"]),
    )


def vector_length(build: Callable[[], torch.nn.Module], image_px: int) -> int:
    """Return how long a model's vectors are: of shapes alone, where it can be built of these.

    Raises:
        UserError: the model cannot be built; or an image of that size does not give one vector.
    """
    import torch

    def shape_on(device: str) -> list[int]:
        with torch.device(device), torch.inference_mode():
            return list(build().eval()(torch.zeros(1, 3, image_px, image_px)).shape)

    try:
        shape = shape_on("meta")
    except (NotImplementedError, RuntimeError):  # it reads its own numbers while it is built
        shape = _or_user_error(lambda: shape_on("cpu"))
    except (TypeError, AttributeError, AssertionError) as error:
        raise _no_vector(error) from error
    if len(shape) != 2 or shape[0] != 1:
        raise UserError(f"the model makes {shape} of an image, wanted one vector: [1, D].")
    return shape[1]


def _or_user_error(shape: Callable[[], list[int]]) -> list[int]:
    try:
        return shape()
    except (TypeError, AttributeError, AssertionError, RuntimeError) as error:
        raise _no_vector(error) from error


def _no_vector(error: Exception) -> UserError:
    return UserError(f"the model does not make a vector of an image alone: {error}")


def usable_device(settings: EncoderSettings) -> torch.device:
    """Return the device that a model is loaded to.

    Raises:
        UserError: no such device, or there is none here; batch_frames is below 1.
    """
    import torch

    device_type = device_type_of(settings)
    if settings.batch_frames < 1:
        raise UserError(f"batch_frames must be 1 or more, got {settings.batch_frames}.")
    if device_type == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "the encoder's device is 'cuda', and torch finds no CUDA device here "
            f"(torch {torch.__version__}). Set it to 'auto' or 'cpu', or look at nvidia-smi."
        )
    return torch.device(device_type)


def batch_on(device: torch.device, settings: EncoderSettings) -> int:
    """Return how many images a pass takes: on CPU one; see `TorchEncoder`."""
    return settings.batch_frames if device.type == "cuda" else 1
