"""Named tensors in files: safetensors or torch, one file or several with an index, read lazily."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from vxp_model.errors import UserError

TORCH_SUFFIXES = (".pth", ".pt", ".bin")
INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
SINGLE = ("model.safetensors", "pytorch_model.bin")

_WRAPPERS = ("state_dict", "model", "module")


class TensorFiles:
    """The tensors of a checkpoint: a file, or a folder as transformers writes it.

    Torch files are read with `weights_only=True`: they cannot run code.

    Attributes:
        path: what was opened.
        names: every tensor's name, sorted.
    """

    def __init__(self, path: Path | str) -> None:
        """Read the names.

        Raises:
            UserError: there is no such checkpoint, or it cannot be read.
        """
        self.path = Path(path).expanduser()
        self._file_of = _find(self.path)
        self.names = sorted(self._file_of)

    def read(self, names: Iterable[str]) -> dict[str, Tensor]:
        """Read some tensors, on the CPU, in the file's dtype; they may be views of the file.

        Raises:
            UserError: a file of the checkpoint is missing, damaged, or lacks one of them.
        """
        by_file: dict[Path, list[str]] = {}
        for name in names:
            by_file.setdefault(self._file_of[name], []).append(name)
        found: dict[str, Tensor] = {}
        for file, wanted in by_file.items():
            try:
                found |= _read(file, wanted)
            except KeyError as error:
                raise UserError(
                    f"{str(file)!r} has no tensor {error}, though the index says so: fetch the "
                    "checkpoint again."
                ) from error
        return found

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return every tensor's shape; of safetensors, nothing but headers is read.

        Raises:
            UserError: as `read`; or a file holds tensors that the index does not name.
        """
        found: dict[str, tuple[int, ...]] = {}
        for file in sorted(set(self._file_of.values())):
            found |= _shapes(file)
        self._check(found)
        return {name: found[name] for name in self.names}

    def _check(self, found: Mapping[str, object]) -> None:
        lacking, more = sorted(set(self.names) - set(found)), sorted(set(found) - set(self.names))
        if lacking or more:
            raise UserError(
                f"{str(self.path)!r}: index and files differ: in no file {lacking[:5]}, in no "
                f"index {more[:5]}. Fetch the checkpoint again."
            )


def _find(path: Path) -> dict[str, Path]:
    if path.is_dir():
        for name in INDEXES:
            if (index := path / name).is_file():
                return _from_index(index)
        for name in SINGLE:
            if (file := path / name).is_file():
                return dict.fromkeys(_names(file), file)
        raise UserError(
            f"{str(path)!r} holds no checkpoint: none of {', '.join((*INDEXES, *SINGLE))} is there."
        )
    if not path.is_file():
        raise UserError(f"there is no checkpoint {str(path)!r}.")
    if path.suffix not in (".safetensors", *TORCH_SUFFIXES):
        raise UserError(
            f"{str(path)!r} is no checkpoint by its name: it must end in .safetensors, "
            f"{', '.join(TORCH_SUFFIXES)}."
        )
    return dict.fromkeys(_names(path), path)


def _from_index(index: Path) -> dict[str, Path]:
    try:
        weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        return {str(name): index.with_name(str(file)) for name, file in weight_map.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{str(index)!r} is not a checkpoint's index: {type(error).__name__}: {error}"
        ) from error


def _names(file: Path) -> list[str]:
    if file.suffix != ".safetensors":
        return list(_read_torch(file))
    try:
        with safe_open(file, framework="pt") as opened:
            return list(opened.keys())
    except Exception as error:
        raise _unreadable(file, error) from error


def _read(file: Path, names: list[str]) -> dict[str, Tensor]:
    if file.suffix != ".safetensors":
        state = _read_torch(file)
        return {name: state[name] for name in names}
    try:
        with safe_open(file, framework="pt") as opened:
            present = set(opened.keys())
            if lacking := [name for name in names if name not in present]:
                raise KeyError(lacking[0])
            return {name: opened.get_tensor(name) for name in names}
    except KeyError:
        raise
    except Exception as error:
        raise _unreadable(file, error) from error


def _shapes(file: Path) -> dict[str, tuple[int, ...]]:
    if file.suffix != ".safetensors":
        return {name: tuple(tensor.shape) for name, tensor in _read_torch(file).items()}
    try:
        with safe_open(file, framework="pt") as opened:
            names = list(opened.keys())
            return {name: tuple(opened.get_slice(name).get_shape()) for name in names}
    except Exception as error:
        raise _unreadable(file, error) from error


def _read_torch(file: Path) -> Mapping[str, Tensor]:
    try:
        mmap = zipfile.is_zipfile(file)  # torch's format since 1.6: only what is used is read
        state = torch.load(file, map_location="cpu", weights_only=True, mmap=mmap)
    except Exception as error:
        raise _unreadable(file, error) from error
    for wrapper in _WRAPPERS:
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict):
        raise UserError(f"{str(file)!r} holds a {type(state).__name__}, not tensors by name.")
    if others := [str(name) for name, value in state.items() if not isinstance(value, Tensor)]:
        raise UserError(f"{str(file)!r} holds more than tensors: {', '.join(others[:5])}.")
    return {str(name): tensor for name, tensor in state.items()}


def _unreadable(file: Path, error: Exception) -> UserError:
    return UserError(
        f"{str(file)!r} cannot be read as weights: {type(error).__name__}: "
        f"{str(error).splitlines()[0] if str(error) else ''}"
    )
