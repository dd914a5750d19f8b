"""EfficientNet-Lite0 in plain torch, up to its pooled features, with the batch norms folded in.

timm has it as `tf_efficientnet_lite0`; importing timm takes twice the time of importing torch,
which every process that embeds would pay, and a folded norm is no work at all: 20 frames take
0.27 CPU-seconds instead of 0.37. Tensors are read by the names that the weights file has.

Shape suffixes: B images, C channels, H W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from vxp_data.errors import UserError

DIM: Final = 1280
"""Channels of the last feature map, pooled."""
NORM_EPS: Final = 1e-3
NUM_CLASSES: Final = 1000
"""Of ImageNet; the classifier is in the file, and not read."""

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
class ConvShape:
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

    @property
    def tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Return the tensors, in the file's order, with their shapes."""
        inner = 1 if self.depthwise else self.inner
        yield f"{self.conv}.weight", (self.outer, inner, self.kernel, self.kernel)
        for name in ("weight", "bias", "running_mean", "running_var"):
            yield f"{self.norm}.{name}", (self.outer,)
        yield f"{self.norm}.num_batches_tracked", ()


def blocks() -> Iterator[list[ConvShape]]:
    """Return the convolutions of each block: expansion (none in the first), depthwise, projection.

    A block whose result has the shape of what comes in adds the two.
    """
    inner, number = _STEM_CHANNELS, 0
    for repeats, kernel, first_stride, expansion, outer in _STAGES:
        for repeat in range(repeats):
            name, wide = f"_blocks.{number}.", inner * expansion
            first = ConvShape(
                conv=f"{name}_expand_conv", norm=f"{name}_bn0", inner=inner, outer=wide
            )
            middle = ConvShape(
                conv=f"{name}_depthwise_conv",
                norm=f"{name}_bn1",
                inner=wide,
                outer=wide,
                kernel=kernel,
                stride=first_stride if repeat == 0 else 1,
                depthwise=True,
            )
            last = ConvShape(
                conv=f"{name}_project_conv", norm=f"{name}_bn2", inner=wide, outer=outer
            )
            yield [*([first] if expansion > 1 else []), middle, last]
            inner, number = outer, number + 1


STEM: Final = ConvShape(
    conv="_conv_stem", norm="_bn0", inner=3, outer=_STEM_CHANNELS, kernel=3, stride=2
)
HEAD: Final = ConvShape(conv="_conv_head", norm="_bn1", inner=_STAGES[-1][-1], outer=DIM)


def file_tensors() -> list[tuple[str, tuple[int, ...]]]:
    """Return the names and shapes of all tensors of the weights file, in order."""
    shapes = [STEM, *(shape for block in blocks() for shape in block), HEAD]
    convs = [tensor for shape in shapes for tensor in shape.tensors]
    return [*convs, ("_fc.weight", (NUM_CLASSES, DIM)), ("_fc.bias", (NUM_CLASSES,))]


class Lite0Tower(nn.Module):
    """Images to pooled features.

    Args:
        state: the weights file's tensors.
    """

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.stem = _Conv(STEM, state)
        self.blocks = nn.Sequential(*[_Block(shapes, state) for shapes in blocks()])
        self.head = _Conv(HEAD, state)

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        """Embed images.

        Args:
            pixels_BCHW: float32 [B, 3, 224, 224], `(x - 127) / 128` of 0..255.

        Returns:
            features_BC: [B, 1280], means over the last feature map, 0 or more; not of unit norm.
        """
        x_BCHW = functional.relu6(self.stem(pixels_BCHW))
        x_BCHW = functional.relu6(self.head(self.blocks(x_BCHW)))
        features_BC: Tensor = x_BCHW.mean((2, 3))
        return features_BC


class _Block(nn.Module):
    def __init__(self, shapes: list[ConvShape], state: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.wide = nn.ModuleList([_Conv(shape, state) for shape in shapes[:-1]])
        self.narrow = _Conv(shapes[-1], state)
        same_size = all(shape.stride == 1 for shape in shapes)
        self.adds = same_size and shapes[0].inner == shapes[-1].outer

    def forward(self, x_BCHW: Tensor) -> Tensor:
        wide_BCHW = x_BCHW
        for conv in self.wide:
            wide_BCHW = functional.relu6(conv(wide_BCHW))
        result_BCHW: Tensor = self.narrow(wide_BCHW)
        return result_BCHW + x_BCHW if self.adds else result_BCHW


class _Conv(nn.Module):
    """A convolution with its norm in its weights, channels last, and TensorFlow's padding."""

    def __init__(self, shape: ConvShape, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        mean, var, gain, bias = (
            state[f"{shape.norm}.{name}"].double()
            for name in ("running_mean", "running_var", "weight", "bias")
        )
        gain = gain / torch.sqrt(var + NORM_EPS)
        weight = state[f"{shape.conv}.weight"].double() * gain.view(-1, 1, 1, 1)
        self.weight = nn.Parameter(weight.float().contiguous(memory_format=torch.channels_last))
        self.bias = nn.Parameter((bias - mean * gain).float())
        self.stride, self.groups = shape.stride, shape.inner if shape.depthwise else 1
        # Images of an even side, halved, get one pixel more at the right and bottom edge.
        padding = shape.kernel - shape.stride
        self.before, self.after = padding // 2, padding - padding // 2

    def forward(self, x_BCHW: Tensor) -> Tensor:
        even = self.before if self.before == self.after else 0
        if self.before != self.after:
            x_BCHW = functional.pad(x_BCHW, (self.before, self.after) * 2)
        return functional.conv2d(
            x_BCHW, self.weight, self.bias, self.stride, even, groups=self.groups
        )


def load_lite0(path: Path, device: torch.device) -> Lite0Tower:
    """Build the tower with the weights of a file.

    Raises:
        UserError: the file cannot be read as weights, or holds other tensors.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        found = [(name, tuple(tensor.shape)) for name, tensor in state.items()]
    except Exception as error:
        raise UserError(
            f"{str(path)!r} cannot be read as weights: {type(error).__name__}: {error}"
        ) from error
    if found != file_tensors():
        pairs = zip(found, file_tensors(), strict=False)
        differ = next((pair for pair in pairs if pair[0] != pair[1]), (len(found), 296))
        raise UserError(
            f"{str(path)!r} does not hold the weights of EfficientNet-Lite0: got {differ[0]}, "
            f"wanted {differ[1]}."
        )
    return Lite0Tower(state).to(device).eval().requires_grad_(False)
