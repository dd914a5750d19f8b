"""What a user may give as a video or an image: a file, frames, images.

Shapes: T frames, H x W pixels, C = 3 (red, green, blue).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from vxp_model.data.frames import FrameOptions
from vxp_model.data.video import VideoFile
from vxp_model.errors import UserError


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameChoice:
    """Which frames of a video are shown."""

    fps: float = 1.0
    """Frames per second; of frames given as an array, the rate at which they were taken."""
    num_frames: int | None = None
    """So many at equal distances instead; None: by the rate."""
    max_frames: int = 360
    """Where the rate gives more, so many at equal distances; paper section 3.3: 360."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Visual:
    """Frames, ready for the model."""

    frames_THWC: Tensor
    """uint8, red, green, blue, square."""
    time_s_T: Tensor
    """float64, seconds since the video's first frame."""
    is_image: bool


_DEFAULT: Final = FrameChoice()


def read_video(
    source: Any,
    *,
    frame_px: int,
    choice: FrameChoice = _DEFAULT,
    time_s: Sequence[float] | None = None,
) -> Visual:
    """Read a video.

    Args:
        source: a path or URI; or frames, uint8 [T, H, W, 3] as an array or tensor; or a list of
            images, each a path, a PIL image or an array.
        frame_px: side of the square to which frames are squashed.
        choice: which frames of a file are shown. Of frames given, all are.
        time_s: when the frames given are, seconds; None: at the rate of `choice`.

    Raises:
        UserError: it cannot be read, or is none of these.
    """
    if isinstance(source, str | Path):
        options = replace(FrameOptions(), frame_px=frame_px)
        with VideoFile(source, options=options) as file:
            plan = file.plan(
                fps=choice.fps, num_frames=choice.num_frames, max_frames=choice.max_frames
            )
            frames_THWC = np.concatenate(list(file.pieces(plan.frame_index_F)))
        times_s = plan.time_s_F
    else:
        images = source if isinstance(source, list | tuple) else list(np.asarray(source))
        if not images:
            raise UserError("a video of no frames: give one at least.")
        frames_THWC = np.stack([_image(image, frame_px) for image in images])
        times_s = np.arange(len(images)) / choice.fps if time_s is None else np.asarray(time_s)
        if len(times_s) != len(images):
            raise UserError(f"a video of {len(images)} frames has {len(times_s)} times.")
    return Visual(
        frames_THWC=torch.from_numpy(frames_THWC),
        time_s_T=torch.from_numpy(np.asarray(times_s, dtype=np.float64)),
        is_image=False,
    )


def read_image(source: Any, *, frame_px: int) -> Visual:
    """Read an image: a path or URI, a PIL image, or uint8 [H, W, 3].

    Raises:
        UserError: it cannot be read, or is none of these.
    """
    return Visual(
        frames_THWC=torch.from_numpy(_image(source, frame_px)[None]),
        time_s_T=torch.zeros(1, dtype=torch.float64),
        is_image=True,
    )


def _image(source: Any, frame_px: int) -> NDArray[np.uint8]:
    if isinstance(source, str | Path):
        options = replace(FrameOptions(), frame_px=frame_px)
        with VideoFile(source, is_image=True, options=options) as file:
            (frames_THWC,) = file.pieces(np.zeros(1, dtype=np.int64))
            image_HWC: NDArray[np.uint8] = frames_THWC[0]
            return image_HWC
    if not isinstance(source, Image.Image):
        array = np.asarray(source)
        if array.dtype != np.uint8 or array.ndim != 3 or array.shape[-1] != 3:
            raise UserError(
                f"an image of {array.dtype} {list(array.shape)}, wanted uint8 [H, W, 3], a PIL "
                "image, or a path."
            )
        source = Image.fromarray(array)
    rgb = source if source.mode == "RGB" else source.convert("RGB")
    if rgb.size != (frame_px, frame_px):
        rgb = rgb.resize((frame_px, frame_px), Image.Resampling.BICUBIC)
    return np.array(rgb)
