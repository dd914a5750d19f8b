"""Tensors of a weights file, read without running anything that stands in it."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import torch
from safetensors import safe_open

from vxp_data.encoders.base import EncoderSettings
from vxp_data.errors import UserError

_WRAPPINGS: Final = ("state_dict", "model")
"""Keys under which training scripts put a model's tensors."""
SUFFIXES: Final = (".safetensors", ".bin", ".pt", ".pth")


def read_tensors(path: Path, prefix: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """Read the tensors whose names begin with a prefix, one by one.

    Yields:
        Name without the prefix, and the tensor on CPU, in the file's dtype. It may be a view of the
        file: copy it.

    Raises:
        UserError: the file cannot be read as weights.
    """
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118 - it is no mapping
                    if name.startswith(prefix):
                        yield name.removeprefix(prefix), file.get_tensor(name)
            return
        mmap = zipfile.is_zipfile(path)  # torch's format since 1.6: read only what is used
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
        for key in _WRAPPINGS:
            state = state.get(key, state)
        for given, tensor in state.items():
            name = given.removeprefix("module.")
            if name.startswith(prefix):
                yield name.removeprefix(prefix), tensor
    except Exception as error:
        raise UserError(
            f"{str(path)!r} cannot be read as weights: {type(error).__name__}: {error}"
        ) from error


def local_weights(settings: EncoderSettings) -> Path:
    """Return the weights file that the settings name.

    Raises:
        UserError: they name none, or it is not there.
    """
    path = Path(settings.checkpoint).expanduser() if settings.checkpoint else None
    if path is None or not path.is_file() or path.suffix not in SUFFIXES:
        what = "none is named" if path is None else f"{str(path)!r} is none"
        raise UserError(
            f"encoder {settings.name!r} reads a local weights file ({', '.join(SUFFIXES)}), and "
            f"{what}. Add: --set encoder.checkpoint=FILE"
        )
    return path
