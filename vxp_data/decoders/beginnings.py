"""What can be decoded at the beginning of a recording, which may have been cut anywhere.

Shape: P packets in file order.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray

from vxp_data.decoders.packets import Packets, packets_of
from vxp_data.decoders.stamps import NO_STAMP

RECORDED: Final = frozenset({"mpegts", "mpeg"})
"""Containers that are cut and joined anywhere."""


def may_be_cut(packets: Packets) -> bool:
    """Whether a stream begins with images that may need others, which the file does not hold."""
    if packets.container not in RECORDED or not packets.is_key_P.any():
        return False
    return bool(_before_first_key(packets).any())


def _before_first_key(packets: Packets) -> NDArray[np.bool_]:
    """Return which packets of the first group are stored or shown before its key frame."""
    keys = np.flatnonzero(packets.is_key_P)
    before_P: NDArray[np.bool_] = (packets.pts_P != NO_STAMP) & (
        packets.pts_P < packets.pts_P[keys[0]]
    )
    before_P[: keys[0]] = True
    before_P[keys[1] if len(keys) > 1 else len(before_P) :] = False
    return before_P


def without_cut_images(packets: Packets, container: InputContainer, stream: VideoStream) -> Packets:
    """Mark what was cut from its group.

    That is what is stored before the first key frame, and of what is stored after and shown before
    it, what the decoder does not give.

    Args:
        packets: of which some may be cut.
        container: the same file, just opened.
        stream: theirs.
    """
    is_cut_P = _before_first_key(packets)
    first_key = int(packets.is_key_P.argmax())
    last = int(np.flatnonzero(is_cut_P)[-1])
    if last > first_key:
        came = _decoded(container, stream, first_key, last)
        is_cut_P[first_key:] &= ~np.isin(packets.pts_P[first_key:], came)
    return replace(packets, is_cut_P=is_cut_P)


def _decoded(container: InputContainer, stream: VideoStream, first: int, last: int) -> list[int]:
    """Decode packets first to last; return the timestamps of the frames that come."""
    codec = stream.codec_context
    codec.thread_count = 1
    came: list[int] = []
    for position, packet in enumerate(packets_of(container, stream)):
        if position < first:
            continue
        try:
            frames = codec.decode(packet)
            frames += codec.decode(None) if position == last else []
        except MemoryError:
            raise
        except (av.FFmpegError, ValueError):
            frames = []
        came += [frame.pts for frame in frames if frame.pts is not None]
        if position == last:
            break
    return came
