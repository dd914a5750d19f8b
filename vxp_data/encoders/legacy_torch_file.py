"""Tensors of a file as torch wrote them before its version 1.6, read without torch.

Such a file is a row of pickles, then the numbers of each storage. Of the pickles only what tensors
are made of is understood: nothing that is named in them is imported or called.
"""

from __future__ import annotations

import pickle
import sys
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

_MAGIC: Final = 0x1950A86A20F9469CFC6C
_PROTOCOL: Final = 1001
_DTYPES: Final = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


@dataclass(frozen=True, slots=True)
class _Storage:
    key: str
    dtype: np.dtype[Any]
    numel: int


@dataclass(frozen=True, slots=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


def _tensor(storage: _Storage, offset: int, shape: Any, stride: Any, *_: object) -> _Tensor:
    return _Tensor(storage, offset, tuple(shape), tuple(stride))


_KNOWN: Final[dict[str, object]] = {
    "collections.OrderedDict": OrderedDict,
    "torch._utils._rebuild_tensor_v2": _tensor,
    **{f"torch.{name}": dtype for name, dtype in _DTYPES.items()},
}


class _TensorsOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a name of torch's.

        Raises:
            ValueError: tensors are not made of it.
        """
        try:
            return _KNOWN[f"{module}.{name}"]
        except KeyError:
            raise ValueError(f"it names {module}.{name}, which is no part of a tensor") from None

    def persistent_load(self, pid: Any) -> _Storage:
        """Return a storage that is named; its numbers come later."""
        _, dtype, key, _, numel, *_ = pid
        return _Storage(str(key), dtype, int(numel))


def read_legacy_tensors(path: Path) -> dict[str, NDArray[np.generic]]:
    """Read a file's tensors, in its order.

    Raises:
        ValueError: it is no such file, or holds something else than tensors by name.
    """
    with path.open("rb") as file:
        try:
            head = [_TensorsOnly(file).load() for _ in range(3)]
            if head[:2] != [_MAGIC, _PROTOCOL] or not head[2].get("little_endian"):
                raise ValueError("it is no file of torch's legacy format")
            named = _TensorsOnly(file).load()
            keys = _TensorsOnly(file).load()
            storages = {tensor.storage.key: tensor.storage for tensor in named.values()}
            numbers = {key: _numbers(file, storages[key]) for key in keys}
            return {str(name): _view(tensor, numbers) for name, tensor in named.items()}
        except (pickle.UnpicklingError, EOFError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"it is no file of tensors: {type(error).__name__}: {error}"
            ) from error


def _numbers(file: BinaryIO, storage: _Storage) -> NDArray[np.generic]:
    """Read a storage: how many numbers it has, then these.

    Raises:
        ValueError: it has another number of them than was said.
    """
    count = int.from_bytes(file.read(8), "little")
    data = file.read(storage.numel * storage.dtype.itemsize) if count == storage.numel else b""
    if len(data) != storage.numel * storage.dtype.itemsize:
        raise ValueError(f"storage {storage.key} has not the {storage.numel} numbers it should")
    own: NDArray[np.generic] = np.frombuffer(data, storage.dtype)
    return own if sys.byteorder == "little" else own.astype(storage.dtype.newbyteorder("="))


def _view(tensor: _Tensor, numbers: dict[str, NDArray[np.generic]]) -> NDArray[np.generic]:
    """Return a tensor's numbers in their shape.

    Raises:
        ValueError: some lie outside its storage.
    """
    flat = numbers[tensor.storage.key]
    steps = zip(tensor.shape, tensor.stride, strict=True)
    last = tensor.offset + sum((length - 1) * stride for length, stride in steps)
    if min(tensor.offset, *tensor.stride, *tensor.shape, 0) < 0 or last >= len(flat):
        raise ValueError(f"a tensor of shape {tensor.shape} does not lie within its storage")
    strides = [stride * flat.itemsize for stride in tensor.stride]
    view: NDArray[np.generic] = np.ndarray(
        tensor.shape, flat.dtype, flat, tensor.offset * flat.itemsize, strides
    )
    return np.ascontiguousarray(view).reshape(tensor.shape)
