"""What runs in the sandbox's child: open a payload, check that it is the planned one, decode."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from vxp_data.core.frame_sampling import uniform
from vxp_data.decoders.base import FrameSize
from vxp_data.decoders.child import Decoded, decode_file, probe_file
from vxp_data.decoders.sandbox import SharedBuffer

_SAME_TIME_S: Final = 1e-3
"""Half a frame at 500 frames a second: another timeline is further off somewhere."""


class ChangedMediaError(ValueError):
    """The bytes, or the timeline that is read from them, are not those that were planned."""


def decode_planned(
    decoder: str,
    uri: str,
    media_id: str,
    is_image: bool,
    frame_index_T: NDArray[np.int64],
    time_s_T: NDArray[np.float64],
    size: FrameSize,
) -> Decoded:
    """Decode the frames of a plan from the sandbox's shared buffer into its arena.

    Args:
        decoder: a name in registry.DECODERS.
        uri: the file's name in the shard's record.
        media_id: what the file's digest must be.
        is_image: open image formats instead of video formats.
        frame_index_T: int64, indices in presentation order.
        time_s_T: float64, the times that the plan has for them.
        size: to which frames are squashed.

    Raises:
        MediaError: it cannot be opened or decoded.
        ChangedMediaError: it is another file, or has other frames at these indices.
    """
    path = SharedBuffer.child_path()
    found = probe_file(path, uri, is_image)
    if found.media.media_id != media_id:
        raise ChangedMediaError(f"its digest is {found.media.media_id}, wanted {media_id}")
    timeline = found.timeline
    if frame_index_T[-1] >= len(timeline):
        raise ChangedMediaError(f"frame {frame_index_T[-1]} is planned, it has {len(timeline)}")
    plan = timeline.plan(frame_index_T)
    away_s = float(np.abs(plan.time_s_F - time_s_T).max())
    if away_s > _SAME_TIME_S:
        raise ChangedMediaError(
            f"its frames lie up to {away_s:.3f} s from their planned times: another version of "
            "FFmpeg may read its timestamps in another way"
        )
    return decode_file(decoder, path, found.media, plan, size)


def decode_uniform(
    decoder: str, uri: str, is_image: bool, num_frames: int, size: FrameSize
) -> Decoded:
    """Decode frames at equal distances from the sandbox's shared buffer into its arena.

    Args:
        decoder: a name in registry.DECODERS.
        uri: what messages call the file.
        is_image: open image formats instead of video formats.
        num_frames: wanted; a shorter video gives all it has.
        size: to which frames are squashed.

    Raises:
        MediaError: it cannot be opened or decoded.
    """
    path = SharedBuffer.child_path()
    found = probe_file(path, uri, is_image)
    plan = found.timeline.plan(uniform(len(found.timeline), num_frames))
    return decode_file(decoder, path, found.media, plan, size)
