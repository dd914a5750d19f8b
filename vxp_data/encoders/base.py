"""What every encoder is: images in, one unit vector an image out."""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from vxp_data.errors import UserError
from vxp_data.extras import is_installed, needs_extra


class EncoderSettings(Protocol):
    """What an encoder may be told; the config layer's encoder section has these attributes."""

    @property
    def name(self) -> str:
        """The encoder's own; of a family of encoders, the prefix and the model: 'timm:resnet50'."""

    @property
    def model(self) -> str:
        """Name of an open_clip model, for 'siglip'; default 'ViT-SO400M-14-SigLIP-384'."""

    @property
    def pretrained(self) -> str:
        """Tag of open_clip's pretrained weights of that model; default 'webli'."""

    @property
    def checkpoint(self) -> str:
        """Local weights, used instead of the hub's where the encoder knows any; '' for none.

        For 'siglip' and 'open_clip:' a folder with `open_clip_config.json` and one weights file (it
        then names its own model), or a weights file; for 'transformers' a folder; else a file.
        """

    @property
    def device(self) -> str:
        """'auto', 'cpu' or 'cuda'; 'auto' takes CUDA where this machine has it. A job names one."""

    @property
    def batch_frames(self) -> int:
        """Images a forward pass takes, 1 or more; default 64."""

    @property
    def precision(self) -> str:
        """'auto', 'fp32' or 'bf16'; 'auto': bf16 on CUDA, fp32 on CPU, or as an encoder says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderSpec:
    """What the decode stage and the run record must know, without loading any weights."""

    name: str
    """Registry name."""
    frame_px: int
    """Frames arrive as uint8 RGB [F, frame_px, frame_px, 3]: the whole displayed image squashed
    to a square, aspect ratio given up."""
    dim: int
    """Length D of an embedding."""
    fingerprint: str
    """16 hex digits over everything that changes the numbers: encoder and its version, model,
    weights, precision class, preprocessing. Not over batch size: see the encoder about that."""
    in_decode_task: bool
    """True: cheap and weight-free; runs in the CPU decode task, so that frames never enter the
    object store."""
    precision: str = ""
    """'fp32' or 'bf16', for messages: the fingerprint has it; '' where there is one only."""


class Encoder(Protocol):
    """Turns images into unit vectors whose dot product is their similarity.

    A class is registered in `registry.ENCODERS`. Same image and same batch size, same vector,
    whatever else is in the call.
    """

    @property
    def spec(self) -> EncoderSpec:
        """What this encoder takes and gives."""

    @classmethod
    def prepare(cls, settings: EncoderSettings) -> Path | None:
        """Make sure that the weights are here before anything is spent; fetch them if not.

        Returns:
            The weights file; None where there is none.

        Raises:
            UserError: they cannot be had; the message says how to bring them.
        """

    @classmethod
    def describe(cls, settings: EncoderSettings) -> EncoderSpec:
        """Return the spec without loading weights.

        Raises:
            UserError: the settings name a model, a tag or a file that does not exist.
        """

    @classmethod
    def load(cls, settings: EncoderSettings) -> Self:
        """Build the encoder, with weights where it has any, on its device.

        Raises:
            UserError: as `describe`; or weights or device are not there.
        """

    def embed(self, frames_FHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed images, in order.

        Args:
            frames_FHWC: uint8 RGB [F, frame_px, frame_px, 3]; F may be 0, and may span videos.

        Returns:
            emb_FD: float32 [F, D], rows of unit L2 norm to 1e-5.

        Raises:
            ValueError: another shape or dtype.
        """


class TextEncoder(Protocol):
    """Turns texts into unit vectors, whose dot product with an image's is their similarity.

    A class is registered in `registry.TEXT_ENCODERS` under the name of its image encoder.
    """

    @classmethod
    def prepare(cls, settings: EncoderSettings) -> None:
        """Make sure that weights and tokenizer are on this machine.

        Raises:
            UserError: they cannot be had; the message says how to bring them.
        """

    @classmethod
    def load(cls, settings: EncoderSettings) -> Self:
        """Build the encoder, with weights, on its device.

        Raises:
            UserError: as `prepare`; or the device is not there.
        """

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts, in order; of a long one, its beginning.

        Returns:
            emb_TD: float32 [T, D], rows of unit L2 norm.
        """


def check_frames(frames_FHWC: NDArray[np.uint8], *, frame_px: int) -> None:
    """Refuse anything but uint8 [F, frame_px, frame_px, 3].

    Raises:
        ValueError: another shape or dtype; the message has both.
    """
    wanted = (frame_px, frame_px, 3)
    if frames_FHWC.dtype != np.uint8 or frames_FHWC.ndim != 4 or frames_FHWC.shape[1:] != wanted:
        raise ValueError(
            f"frames_FHWC must be uint8 [F, {frame_px}, {frame_px}, 3], "
            f"got {frames_FHWC.dtype} {list(frames_FHWC.shape)}."
        )


def require_modules(encoder: str, extra: str, *modules: str) -> None:
    """Check that the modules that an encoder needs are installed.

    Raises:
        UserError: one is missing; with the extra that it comes with, and how to do without.
    """
    if missing := [module for module in modules if not is_installed(module)]:
        raise UserError(
            f"encoder {encoder!r} {needs_extra(extra, *missing)}. Or prune without it, on "
            "low-level similarity: --encoder thumbnail"
        )


def require_spec(found: EncoderSpec, wanted: EncoderSpec) -> None:
    """Refuse an encoder whose vectors cannot stand beside those of the job's others.

    Raises:
        UserError: it is another; names the machine it runs on, what it is and what was wanted.
    """
    if found == wanted:
        return
    raise UserError(
        f"on node {socket.gethostname()} the encoder {wanted.name!r} is {_words(found)}, and the "
        f"job's is {_words(wanted)}: their vectors cannot be compared. All nodes need the same "
        "weights, the same version of vxp and a device of the same kind; name the job's, "
        "--set encoder.device=cuda or cpu, or take the node out."
    )


def _words(spec: EncoderSpec) -> str:
    precision = f"{spec.precision}, " if spec.precision else ""
    return f"{precision}{spec.frame_px} px, {spec.dim} numbers, fingerprint {spec.fingerprint}"


def fingerprint(facts: Mapping[str, object]) -> str:
    """Hash JSON-serialisable facts, whatever their order, to 16 hex digits."""
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
