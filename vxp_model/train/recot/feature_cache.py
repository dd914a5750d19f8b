"""The tower's tokens on disk, one file a frame: computed once, taken up by any later run.

A file's name is the SHA-256 of the frame's pixels; its folder's, the tower's digest. So a cache
never gives what another tower, precision or image gave, several processes and runs may share one,
and a killed run leaves nothing half-written.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import torch
from safetensors.torch import load, save
from torch import Tensor

from vxp_model.errors import UserError

_NAME: Final = "features"


class FeatureCache:
    """Features by frame, up to a number of bytes; what does not fit is not kept.

    Attributes:
        hits: frames found.
        misses: frames not found.
        num_bytes: files of this tower when opened, and what this process has added.
    """

    def __init__(self, folder: Path, *, digest: str, max_bytes: int, share: int = 1) -> None:
        """Open or begin a cache.

        Args:
            folder: of all towers' features.
            digest: of the tower: its weights, precision and token grid.
            max_bytes: for this tower's files; the rest of it is shared evenly by `share` processes.
            share: processes that write.

        Raises:
            UserError: the folder cannot be made.
        """
        self.folder = folder / digest[:16]
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"tower.cache_dir {str(folder)!r} cannot be made: {error}.") from error
        self.hits = self.misses = 0
        self.num_bytes = sum(path.stat().st_size for path in self.folder.glob("*/*.safetensors"))
        self._budget = self.num_bytes + max(0, max_bytes - self.num_bytes) // share

    def keys(self, frames_FHWC: Tensor) -> list[str]:
        """Name frames by their pixels."""
        return [hashlib.sha256(frame.numpy()).hexdigest() for frame in frames_FHWC.contiguous()]

    def get(self, keys: Sequence[str], shape: Sequence[int]) -> list[Tensor | None]:
        """Read features, on the CPU; None where there are none.

        Args:
            keys: as `keys` gave them.
            shape: that each frame's features must have.

        Raises:
            UserError: a file is damaged, or of another shape.
        """
        found = [self._read(key, list(shape)) for key in keys]
        num_hits = sum(features is not None for features in found)
        self.hits += num_hits
        self.misses += len(keys) - num_hits
        return found

    def put(self, key: str, features_CHW: Tensor) -> None:
        """Keep a frame's features, if there is room."""
        data = save({_NAME: features_CHW.detach().cpu().contiguous()})
        if self.num_bytes + len(data) > self._budget:
            return
        path = self._path(key)
        path.parent.mkdir(exist_ok=True)
        beside = path.with_suffix(f".{os.getpid()}.part")
        beside.write_bytes(data)
        beside.replace(path)
        self.num_bytes += len(data)

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.safetensors"

    def _read(self, key: str, shape: list[int]) -> Tensor | None:
        path = self._path(key)
        try:
            features = load(path.read_bytes())[_NAME]
        except FileNotFoundError:
            return None
        except Exception as error:
            raise _damaged(path, f"{type(error).__name__}: {error}") from error
        if list(features.shape) != shape or not torch.isfinite(features).all():
            raise _damaged(path, f"it holds {list(features.shape)}, wanted finite {shape}")
        return features


def _damaged(path: Path, why: str) -> UserError:
    return UserError(f"{str(path)!r} of the feature cache cannot be used: {why}. Remove it.")
