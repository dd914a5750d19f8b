"""EfficientNet-Lite0 up to its pooled features: its layers, and their weights from the known file.

No batch norms are left: they are folded into the convolutions. The network is that of timm's
`tf_efficientnet_lite0`, tensor by tensor in order; here they go by the names that the file has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vxp_data.encoders.legacy_torch_file import read_legacy_tensors
from vxp_data.errors import UserError

DIM: Final = 1280
"""Channels of the last feature map, pooled."""
FRAME_PX: Final = 224
MINUS: Final = 127.0
OVER: Final = 128.0
"""A pixel value x, 0 to 255, comes in as (x - MINUS) / OVER."""
NORM_EPS: Final = 1e-3
NUM_CLASSES: Final = 1000
"""Of ImageNet; the classifier is in the file, and not used."""

_STEM_CHANNELS: Final = 32
_STAGES: Final = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
"""Blocks, kernel, stride of the first block, expansion, channels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conv:
    """A convolution and the batch norm behind it, by their names in the file."""

    conv: str
    norm: str
    inner: int
    """Channels that come in."""
    outer: int
    """Channels that go out."""
    kernel: int = 1
    stride: int = 1
    depthwise: bool = False
    relu6: bool = True
    """What goes out is cut to 0..6."""

    @property
    def groups(self) -> int:
        """Groups of channels that do not meet."""
        return self.inner if self.depthwise else 1

    @property
    def padding(self) -> tuple[int, int]:
        """Zeros before and after, in both directions: TensorFlow's, for sides that are even.

        An image that is halved gets one pixel more at the right and bottom edge.
        """
        both = self.kernel - self.stride
        return both // 2, both - both // 2

    @property
    def tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Return the tensors, in the file's order, with their shapes."""
        shape = (self.outer, self.inner // self.groups, self.kernel, self.kernel)
        yield f"{self.conv}.weight", shape
        for name in ("weight", "bias", "running_mean", "running_var"):
            yield f"{self.norm}.{name}", (self.outer,)
        yield f"{self.norm}.num_batches_tracked", ()


def blocks() -> Iterator[tuple[Conv, ...]]:
    """Return each block: expansion (none in the first), depthwise, projection."""
    inner, number = _STEM_CHANNELS, 0
    for repeats, kernel, first_stride, expansion, outer in _STAGES:
        for repeat in range(repeats):
            name, wide = f"_blocks.{number}.", inner * expansion
            first = Conv(conv=f"{name}_expand_conv", norm=f"{name}_bn0", inner=inner, outer=wide)
            middle = Conv(
                conv=f"{name}_depthwise_conv",
                norm=f"{name}_bn1",
                inner=wide,
                outer=wide,
                kernel=kernel,
                stride=first_stride if repeat == 0 else 1,
                depthwise=True,
            )
            last = Conv(
                conv=f"{name}_project_conv",
                norm=f"{name}_bn2",
                inner=wide,
                outer=outer,
                relu6=False,
            )
            yield (first, middle, last) if expansion > 1 else (middle, last)
            inner, number = outer, number + 1


def adds(block: tuple[Conv, ...]) -> bool:
    """Whether what comes into a block is added to what it gives: both have the same shape."""
    return block[0].inner == block[-1].outer and all(conv.stride == 1 for conv in block)


STEM: Final = Conv(
    conv="_conv_stem", norm="_bn0", inner=3, outer=_STEM_CHANNELS, kernel=3, stride=2
)
HEAD: Final = Conv(conv="_conv_head", norm="_bn1", inner=_STAGES[-1][-1], outer=DIM)
CONVS: Final = (STEM, *(conv for block in blocks() for conv in block), HEAD)
"""All of them, in order."""

Folded = dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]
"""By a convolution's name, its weight and bias, the norm within."""


def file_tensors() -> list[tuple[str, tuple[int, ...]]]:
    """Return the names and shapes of all tensors of the weights file, in order."""
    convs = [tensor for conv in CONVS for tensor in conv.tensors]
    return [*convs, ("_fc.weight", (NUM_CLASSES, DIM)), ("_fc.bias", (NUM_CLASSES,))]


def read_folded(path: Path) -> Folded:
    """Read the weights file, and fold its norms.

    Raises:
        UserError: it cannot be read as weights, or holds other tensors.
    """
    try:
        state = read_legacy_tensors(path)
    except ValueError as error:
        raise UserError(f"{str(path)!r} cannot be read as weights: {error}") from error
    found = [(name, tensor.shape) for name, tensor in state.items()]
    if found != (wanted := file_tensors()):
        pairs = zip(found, wanted, strict=False)
        differ = next((pair for pair in pairs if pair[0] != pair[1]), (len(found), len(wanted)))
        raise UserError(
            f"{str(path)!r} does not hold the weights of EfficientNet-Lite0: got {differ[0]}, "
            f"wanted {differ[1]}."
        )
    return {conv.conv: _folded(conv, state) for conv in CONVS}


def _folded(
    conv: Conv, state: Mapping[str, NDArray[np.generic]]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    gain, bias, mean, var = (
        state[f"{conv.norm}.{name}"].astype(np.float64)
        for name in ("weight", "bias", "running_mean", "running_var")
    )
    gain /= np.sqrt(var + NORM_EPS)
    weight = state[f"{conv.conv}.weight"].astype(np.float64) * gain[:, None, None, None]
    return weight.astype(np.float32), (bias - mean * gain).astype(np.float32)
