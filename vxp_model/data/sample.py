"""What the loader gives: samples ready for a model, in batches.

Shapes: T planned frames, N frames of all samples of a batch, H x W pixels, C = 3 (red, green,
blue).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vxp_data.conversation import Turn
from vxp_model.data.state import Replacement


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleMedium:
    """One video or image of a sample: its part of the sample's frames."""

    kind: str
    """'video' or 'image'."""
    num_frames: int
    fps: float
    """The rate drawn, frames per second; 0 for images, and where frames lie at equal distances."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSample:
    """One annotation row with its frames."""

    sample_id: str
    dataset: str
    task: str
    kind: str
    """'video', 'image', 'text', or 'mixed': several media."""
    key: str
    """Of its clip, or of all its clips: rows about the same share it."""
    source: int
    """Index in the loader's list of sources."""
    epoch: int
    position: int
    """Position in the epoch's order, over all ranks."""
    frames_THWC: Tensor | None
    """uint8, red, green, blue, of all its media one after the other; None for text, and where no
    frames are asked for."""
    time_s_T: Tensor
    """float64, seconds since the first frame of its own video, whatever part of that is shown;
    empty for text."""
    fps: float
    """The rate drawn, frames per second; 0 for images and text, and for several media, whose rates
    are in `media`."""
    media: tuple[SampleMedium, ...]
    """Whose frames these are, in order: the n-th is shown at the conversation's n-th place of a
    medium. Empty for text."""
    num_inexact: int
    """Frames that could not be decoded and repeat the nearest earlier one."""
    conversation: tuple[Turn, ...]
    """Who says what, and in which turn the clip is shown."""
    annotation: str
    """The row as its manifest has it."""
    is_padding: bool = False
    """Given so that all ranks end on the same step: leave it out of the loss and of every count."""
    replaced: Replacement | None = None
    """Set where this sample stands in for one whose media could not be used."""

    def pin_memory(self) -> Self:
        """Put the tensors into page-locked memory, for copies to a GPU; called by torch."""
        frames = None if self.frames_THWC is None else self.frames_THWC.pin_memory()
        return replace(self, frames_THWC=frames, time_s_T=self.time_s_T.pin_memory())


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What one rank gets for one step."""

    samples: list[TrainSample]

    @property
    def num_real(self) -> int:
        """How many samples count; 0 where the batch is padding."""
        return sum(not sample.is_padding for sample in self.samples)

    @property
    def num_frames(self) -> int:
        """Frames of all its samples."""
        return sum(len(sample.time_s_T) for sample in self.samples)

    def pin_memory(self) -> Self:
        """Put the tensors into page-locked memory; called by torch."""
        return replace(self, samples=[sample.pin_memory() for sample in self.samples])

    def __reduce__(self) -> tuple[Any, ...]:
        """Cross processes as one tensor: each takes a file descriptor, and time, of its own."""
        frames = [s.frames_THWC for s in self.samples if s.frames_THWC is not None]
        if len({frames_THWC.shape[1:] for frames_THWC in frames}) != 1:
            return _batch, (self.samples,)
        counts = [0 if s.frames_THWC is None else len(s.frames_THWC) for s in self.samples]
        times = [sample.time_s_T.numpy() for sample in self.samples]
        bare = [replace(s, frames_THWC=None, time_s_T=_NO_TIMES) for s in self.samples]
        return _arrived, (bare, counts, times, _joined(frames))


def _batch(samples: list[TrainSample]) -> Batch:
    return Batch(samples=samples)


_NO_TIMES = torch.zeros(0, dtype=torch.float64)


def _joined(parts: list[Tensor]) -> Tensor:
    """Join tensors in memory that another process can map: sending it copies nothing."""
    shape = (sum(map(len, parts)), *parts[0].shape[1:])
    joined = torch.empty(shape, dtype=parts[0].dtype).share_memory_()  # type: ignore[no-untyped-call]
    return torch.cat(parts, out=joined)


def _arrived(
    bare: list[TrainSample],
    counts: list[int],
    times: list[NDArray[np.float64]],
    frames_NHWC: Tensor,
) -> Batch:
    """Build a batch of what has crossed; its frames are views of the one tensor."""
    parts = frames_NHWC.split(counts)  # type: ignore[no-untyped-call]
    return Batch(
        samples=[
            replace(
                sample,
                frames_THWC=frames_THWC if sample.media else None,
                time_s_T=torch.from_numpy(time_s_T),
            )
            for sample, frames_THWC, time_s_T in zip(bare, parts, times, strict=True)
        ]
    )
