"""EfficientNet-Lite0 as onnxruntime runs it: a quarter faster on a CPU than torch, and without it.

The model is written here, from its layers, as the protocol buffer that onnxruntime reads (ONNX
operator set 13), so that neither `onnx` nor an exporter is needed. Field numbers are those of
onnx.proto.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vxp_data.encoders.lite0_layers import (
    DIM,
    FRAME_PX,
    HEAD,
    MINUS,
    OVER,
    STEM,
    Conv,
    Folded,
    adds,
    blocks,
)

_IR_VERSION: Final = 8
_OPERATOR_SET: Final = 13
_FLOAT, _UINT8 = 1, 2
_INT_ATTRIBUTE, _INTS_ATTRIBUTE = 2, 7


def open_session(folded: Folded) -> Any:
    """Return an onnxruntime session: uint8 images [B, 224, 224, 3] to features [B, 1280].

    One thread, so that the bits do not depend on how many cores there are.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors
    return onnxruntime.InferenceSession(
        model_bytes(folded), options, providers=["CPUExecutionProvider"]
    )


def model_bytes(folded: Folded) -> bytes:
    """Return the model as ONNX has it, with its weights."""
    graph = _Graph(folded)
    graph.add("Cast", ["images"], "as_float", to=_FLOAT)
    graph.add("Transpose", ["as_float"], "channels_first", perm=[0, 3, 1, 2])
    graph.add("Sub", ["channels_first", graph.number("minus", MINUS)], "centred")
    graph.add("Div", ["centred", graph.number("over", OVER)], "pixels")
    x = graph.convolve(STEM, "pixels")
    for block in blocks():
        y = x
        for conv in block:
            y = graph.convolve(conv, y)
        x = graph.add("Add", [y, x], f"{block[-1].conv}.sum") if adds(block) else y
    graph.add("GlobalAveragePool", [graph.convolve(HEAD, x)], "pooled")
    graph.add("Flatten", ["pooled"], "features", axis=1)
    return _message(
        (1, _IR_VERSION), (7, graph.encoded()), (8, _message((1, ""), (2, _OPERATOR_SET)))
    )


class _Graph:
    """Nodes and constants, one after the other."""

    def __init__(self, folded: Folded) -> None:
        self._folded = folded
        self._nodes: list[bytes] = []
        self._constants: list[bytes] = []
        self._bounds = [self.number("zero", 0.0), self.number("six", 6.0)]

    def add(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Add a node; return its output's name."""
        encoded = [(5, _attribute(name, value)) for name, value in attributes.items()]
        named: list[tuple[int, Any]] = [(1, name) for name in inputs]
        self._nodes.append(_message(*named, (2, output), (3, output), (4, operator), *encoded))
        return output

    def number(self, name: str, value: float) -> str:
        """Add a constant; return its name."""
        self._constants.append(_tensor(name, np.array(value, np.float32)))
        return name

    def convolve(self, conv: Conv, x: str) -> str:
        """Add a convolution, and what cuts it to 0..6; return its output's name."""
        weight, bias = self._folded[conv.conv]
        self._constants += [_tensor(f"{conv.conv}.w", weight), _tensor(f"{conv.conv}.b", bias)]
        before, after = conv.padding
        output = self.add(
            "Conv",
            [x, f"{conv.conv}.w", f"{conv.conv}.b"],
            conv.conv,
            group=conv.groups,
            kernel_shape=[conv.kernel] * 2,
            strides=[conv.stride] * 2,
            pads=[before, before, after, after],
        )
        return self.add("Clip", [output, *self._bounds], f"{output}.cut") if conv.relu6 else output

    def encoded(self) -> bytes:
        """Return the graph."""
        images = _value("images", _UINT8, ("B", FRAME_PX, FRAME_PX, 3))
        features = _value("features", _FLOAT, ("B", DIM))
        nodes = [(1, node) for node in self._nodes]
        constants = [(5, constant) for constant in self._constants]
        return _message(*nodes, (2, "lite0"), *constants, (11, images), (12, features))


def _value(name: str, kind: int, shape: Iterable[str | int]) -> bytes:
    """Encode an input or output: its name, type and shape; 'B' stands for any number."""
    sides = [(1, _message((2 if isinstance(side, str) else 1, side))) for side in shape]
    return _message((1, name), (2, _message((1, _message((1, kind), (2, _message(*sides)))))))


def _tensor(name: str, values: NDArray[np.float32]) -> bytes:
    sides = [(1, side) for side in values.shape]
    raw = np.ascontiguousarray(values, "<f4").tobytes()
    return _message(*sides, (2, _FLOAT), (8, name), (9, raw))


def _attribute(name: str, value: int | list[int]) -> bytes:
    if isinstance(value, int):
        return _message((1, name), (3, value), (20, _INT_ATTRIBUTE))
    return _message((1, name), *((8, one) for one in value), (20, _INTS_ATTRIBUTE))


def _message(*fields: tuple[int, int | str | bytes]) -> bytes:
    """Encode a message: whole numbers as varints, all else by its length."""
    parts = []
    for number, value in fields:
        if isinstance(value, int):
            parts += [_varint(number << 3), _varint(value)]
            continue
        data = value.encode() if isinstance(value, str) else value
        parts += [_varint(number << 3 | 2), _varint(len(data)), data]
    return b"".join(parts)


def _varint(value: int) -> bytes:
    """Encode a number, 0 or more: seven bits a byte, the least first."""
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
