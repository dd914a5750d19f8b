"""A video is processed and encoded once for all questions about it, with models of transformers.

Shapes: B prompts, P positions.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

_PIXELS = "pixel_values_videos"


class ProcessOnce:
    """A video processor that keeps what it made of the last videos."""

    def __init__(self, processor: Any) -> None:
        self.inner = processor
        self._videos: list[Any] = []
        self._made: Any = None

    def __call__(self, videos: Sequence[Any], **kwargs: Any) -> Any:
        """Process videos, unless they are the very arrays of the last call."""
        known = len(videos) == len(self._videos) and all(
            given is kept for given, kept in zip(videos, self._videos, strict=True)
        )
        if not known:
            self._made, self._videos = None, []  # before the next one takes its place
            self._made = self.inner(videos, **kwargs)
            self._videos = list(videos)
        return copy.copy(self._made)

    def __getattr__(self, name: str) -> Any:
        if name == "inner":  # a copy that is not built yet
            raise AttributeError(name)
        return getattr(self.inner, name)


class EncodeOnce:
    """Makes batches for a model, with what its vision tower made of a video in place of pixels.

    `generate` of transformers itself encodes first and hands `mm_encoder_outputs` on; here it is
    done once a video. A model that does not take them gets the pixels and encodes them each time.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        encode = getattr(model.base_model, "get_video_features", None)
        takes = "mm_encoder_outputs" in inspect.signature(model.forward).parameters
        self._encode = encode if takes else None
        names = () if encode is None else inspect.signature(encode).parameters
        self._names = tuple(names)
        self._video: Any = None
        self._made: Any = None

    def batch(
        self, video: Any, rows: Sequence[Mapping[str, Any]], *, pad_id: int
    ) -> dict[str, Any]:
        """Return what the model takes, on its device.

        Args:
            video: an object that stands for the video: the same object, the same video.
            rows: see `stacked`; all about it.
            pad_id: see `stacked`.
        """
        made = _repeated(self._encoded(video, rows[0]), len(rows))
        if made is not None:
            rows = [{name: row[name] for name in row if name != _PIXELS} for row in rows]
        given = self._moved(stacked(rows, pad_id=pad_id))
        return given if made is None else given | {"mm_encoder_outputs": {"video": made}}

    def _encoded(self, video: Any, row: Mapping[str, Any]) -> Any:
        if self._encode is None or _PIXELS not in row:
            return None
        if self._video is not video:
            self._made, self._video = None, None  # before the next one takes its place
            own = self._moved({name: row[name] for name in self._names if name in row})
            self._made, self._video = self._encode(**own, return_dict=True), video
        return self._made

    def _moved(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Put tensors on the model's device; pixels in its precision."""
        device, dtype = self._model.device, self._model.dtype
        return {
            name: value.to(device, dtype if name.startswith("pixel_values") else None)
            if isinstance(value, Tensor)
            else value
            for name, value in given.items()
        }


def stacked(rows: Sequence[Mapping[str, Any]], *, pad_id: int) -> dict[str, Any]:
    """Put prompts together, padded at the beginning, their videos one after another.

    Args:
        rows: what the model takes for one prompt each: tensors of the shape of its `input_ids`
            [1, P] are about its positions, all others about its video.
        pad_id: token at padding; everything else is 0 there.
    """
    longest = max(row["input_ids"].shape[1] for row in rows)
    batch: dict[str, Any] = {}
    for name, first in rows[0].items():
        if not isinstance(first, Tensor):
            batch[name] = [one for row in rows for one in row[name]]
            continue
        parts = []
        for row in rows:
            part, shape = row[name], row["input_ids"].shape
            if part.shape == shape:
                fill = pad_id if name == "input_ids" else 0
                part = functional.pad(part, (longest - shape[1], 0), value=fill)
            parts.append(part)
        batch[name] = parts[0] if len(parts) == 1 else torch.cat(parts)
    return batch


def _repeated(made: Any, count: int) -> Any:
    """Return a video's encoding for so many prompts; None: how is not known."""
    if made is None or count == 1:
        return made
    if getattr(made, "deepstack_features", None) is not None:
        return None
    features = made.pooler_output
    more = copy.copy(made)
    if isinstance(features, Tensor):
        more.pooler_output = features.repeat((count,) + (1,) * (features.ndim - 1))
    else:
        more.pooler_output = list(features) * count
    return more
