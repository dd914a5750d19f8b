"""Images on their way to a device: while one batch is worked on, the next is copied.

Shapes: B images of a batch, H, W pixels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

_NUM_BUFFERS: Final = 2


class PinnedFrames:
    """Two buffers of a batch each, in memory from which a GPU copies by itself.

    Args:
        batch_frames: images of a batch; a shorter one is filled up with black ones.
        frame_px: side of an image.
        device: where they go; on CUDA the buffers are pinned, and nobody waits for a copy.
    """

    def __init__(self, batch_frames: int, frame_px: int, device: torch.device) -> None:
        import torch

        self.batch_frames: Final = batch_frames
        self._device = device
        self._on_cuda = device.type == "cuda"
        shape = (batch_frames, frame_px, frame_px, 3)
        self._buffers = [
            torch.zeros(shape, dtype=torch.uint8, pin_memory=self._on_cuda)
            for _ in range(_NUM_BUFFERS)
        ]
        self._copied: list[torch.cuda.Event | None] = [None] * _NUM_BUFFERS
        self._num_batches = 0

    def to_device(self, frames_BHWC: NDArray[np.uint8]) -> torch.Tensor:
        """Return a batch on the device, of the full size; it may still be being copied.

        What is computed from it waits for that by itself.
        """
        import torch

        number = self._num_batches % _NUM_BUFFERS
        self._num_batches += 1
        buffer, copied = self._buffers[number], self._copied[number]
        if copied is not None:
            copied.synchronize()  # the batch before last has left this buffer
        own = buffer.numpy()
        own[: len(frames_BHWC)] = frames_BHWC
        own[len(frames_BHWC) :] = 0
        if not self._on_cuda:
            return buffer.to(self._device, copy=True)
        batch = buffer.to(self._device, non_blocking=True)
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record()
        self._copied[number] = event
        return batch
