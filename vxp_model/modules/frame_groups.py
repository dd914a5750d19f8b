"""Which frames are compressed together.

Shape suffixes: F frames of a batch of clips, one clip after another; G groups; T frames of a group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameGroups:
    """The groups of a batch of clips, in order, each filled with frames of one clip alone."""

    frame_GT: Tensor
    """int64: which of the F frames stands here."""

    valid_GT: Tensor
    """bool: counts in the loss. False for padding; the copies of an image count."""

    copy_of_GT: Tensor
    """int64 in 0..T-1: the first index in the group that shows the same frame (often itself)."""

    previous_G: Tensor
    """int64: the clip's frame before the group; the group's own first where the clip begins."""

    clip_G: Tensor
    """int64: which clip of the batch the group is of."""

    def gather(self, features_F: Tensor) -> Tensor:
        """Arrange what is known per frame, [F, ...], by groups: [G, T, ...]."""
        return features_F[self.frame_GT]

    def to(self, device: torch.device | str) -> Self:
        """Move the tensors."""
        moved = {
            field.name: getattr(self, field.name).to(device, non_blocking=True)
            for field in fields(self)
        }
        return type(self)(**moved)


class FrameGrouper:
    """Cut clips into groups of T frames; the last group is padded with the clip's last frame.

    Unlike the released Video-XL-Pro, which doubles frames drawn at random, also at inference;
    Video-XL-2 pads as we do.
    """

    def __init__(self, frames_per_group: int) -> None:
        self.frames_per_group = frames_per_group

    def __call__(
        self, num_frames: Sequence[int], *, is_image: Sequence[bool] | None = None
    ) -> FrameGroups:
        """Group the frames of a batch.

        Args:
            num_frames: frames of each clip, 1 or more.
            is_image: which clips are still images, of one frame: shown T times, every copy counts.
                None: none of them.

        Returns:
            groups: ceil(frames / T) groups for each clip.

        Raises:
            ValueError: no clip, a clip without frames, an image of several frames.
        """
        images = [False] * len(num_frames) if is_image is None else list(is_image)
        if not num_frames or len(images) != len(num_frames):
            raise ValueError(f"{len(num_frames)} clips, {len(images)} marks of images")
        size = self.frames_per_group
        frame, valid, copy_of, previous, clip_of = [], [], [], [], []
        start = 0
        for clip, (count, image) in enumerate(zip(num_frames, images, strict=True)):
            if count < 1 or (image and count != 1):
                kind = "an image" if image else "a video"
                raise ValueError(f"clip {clip} is {kind} of {count} frames")
            for first in range(0, count, size):
                last = min(size, count - first) - 1  # the index of the last frame that is no copy
                frame.append([start + first + min(t, last) for t in range(size)])
                copy_of.append([min(t, last) for t in range(size)])
                valid.append([image or t <= last for t in range(size)])
                previous.append(start + max(first - 1, 0))
                clip_of.append(clip)
            start += count
        return FrameGroups(
            frame_GT=torch.tensor(frame),
            valid_GT=torch.tensor(valid),
            copy_of_GT=torch.tensor(copy_of),
            previous_G=torch.tensor(previous),
            clip_G=torch.tensor(clip_of),
        )
