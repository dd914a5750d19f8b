"""What a decoder is given and what it gives back.

Shapes: N packets or presented frames of a media, F planned frames, H x W pixels, C = 3 (red, green,
blue).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vxp_data.records import Media
from vxp_data.registry import DECODERS


@dataclass(frozen=True, slots=True, kw_only=True)
class MendedStamps:
    """Presentation timestamps of all packets, by position: what they are to be, and were.

    `stamps.NO_STAMP` where there is none; a packet that is to have none holds no presented frame.
    """

    stamp_P: NDArray[np.int64]
    stored_P: NDArray[np.int64]
    """The file's: that packets are the ones meant is seen by them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FramePlan:
    """Which frames of one media to decode, as facts about their packets.

    A *position* is a packet's index in the file, from 0, in decode order. Where `timed` is False,
    only `frame_index_F` and `time_s_F` mean anything: the frame's index in the decoder's output
    order, and its time.
    """

    frame_index_F: NDArray[np.int64]
    """Indices in presentation order, from 0, strictly increasing."""
    pts_F: NDArray[np.int64]
    """Presentation timestamps, by which decoded frames are recognised."""
    time_s_F: NDArray[np.float64]
    """Seconds since the first presented frame."""
    position_F: NDArray[np.int64]
    """Of the frame's packet; of the second where its fields are stored apart."""
    start_position_F: NDArray[np.int64]
    """Position of the key frame from which the frame is decoded."""
    start_pts_F: NDArray[np.int64]
    """Presentation timestamp of that key frame in the file: how a seek recognises it."""
    start_dts_F: NDArray[np.int64]
    """Its decoding timestamp: where to seek, as containers index by decoding time."""
    timed: bool
    by_index: bool = False
    """See Timeline; the decoder then looks whether the key frames are where the plan has them."""
    mended: MendedStamps | None = None
    """See Timeline."""

    def __len__(self) -> int:
        """Return the number of planned frames, F."""
        return len(self.frame_index_F)

    def positions(self) -> NDArray[np.int64]:
        """Return the packets that hold the planned frames: two where fields are stored apart."""
        if self.mended is None:
            return self.position_F
        return np.flatnonzero(np.isin(self.mended.stamp_P, self.pts_F))


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """Every presented frame of a file's video stream, in presentation order.

    Made by one demux-only pass, over the file or over its index. Times are seconds since the first
    presented frame.
    """

    pts_N: NDArray[np.int64]
    """Strictly rising."""
    tick_s: float
    """What one unit of `pts_N` lasts, seconds."""
    time_s_N: NDArray[np.float64]
    """`core.timeline.frame_times` of the two."""
    is_key_N: NDArray[np.bool_]
    position_N: NDArray[np.int64]
    start_position_N: NDArray[np.int64]
    start_pts_N: NDArray[np.int64]
    start_dts_N: NDArray[np.int64]
    timed: bool
    """False: it is not known which packet holds which frame, so that frames are counted as the
    decoder gives them."""
    by_rate: bool = False
    """There are no usable timestamps: `pts_N` is the index, a tick one frame at the nominal rate.
    """
    by_index: bool = False
    """Which images are key frames is the container's word; most images were not looked at."""
    mended: MendedStamps | None = None
    """Given to packets before they are decoded, so that frames come with `pts_N`; None: the file's
    own timestamps do."""
    note: str = ""
    """Where times are not simply the file's own: what was wrong, and what was done about it."""

    def __len__(self) -> int:
        """Return the number of presented frames, N."""
        return len(self.pts_N)

    def plan(self, frame_index_F: NDArray[np.int64]) -> FramePlan:
        """Pick frames by their index in presentation order."""
        return FramePlan(
            frame_index_F=frame_index_F,
            pts_F=self.pts_N[frame_index_F],
            time_s_F=self.time_s_N[frame_index_F],
            position_F=self.position_N[frame_index_F],
            start_position_F=self.start_position_N[frame_index_F],
            start_pts_F=self.start_pts_N[frame_index_F],
            start_dts_F=self.start_dts_N[frame_index_F],
            timed=self.timed,
            by_index=self.by_index,
            mended=self.mended,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameSize:
    """The size at which frames are wanted, pixels; the whole image is squashed to it."""

    width_px: int
    height_px: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """How a video is displayed: size after pixel aspect and rotation, and the clockwise turn."""

    width_px: int
    height_px: int
    rotation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodedFrames:
    """The frames of a plan.

    A frame that could not be decoded is replaced by the nearest earlier one that could (the nearest
    later one, where there is no earlier), and `is_exact_F` says so.
    """

    frames_FHWC: NDArray[np.uint8]
    is_exact_F: NDArray[np.bool_]
    geometry: Geometry | None = field(default=None)
    """None where the library does not tell."""
    note: str = ""
    """What is not as the stream says, in words; '' where all is."""

    def __post_init__(self) -> None:
        if self.frames_FHWC.ndim != 4 or self.frames_FHWC.shape[0] != len(self.is_exact_F):
            raise ValueError(
                f"frames_FHWC has shape {self.frames_FHWC.shape}, is_exact_F {len(self.is_exact_F)}"
                " entries; want [F, H, W, 3] and F"
            )


def decodes_on_gpu(name: str) -> bool:
    """Whether a decoder's class says `on_gpu = True`: it runs in the one child of a GPU then."""
    return bool(getattr(DECODERS.load(name), "on_gpu", False))


class Decoder(Protocol):
    """One video library. Constructed without arguments, in a child process.

    Colour, in every decoder: 8-bit RGB, full range; matrix and range as the stream says, ITU-R
    BT.601 limited where it says nothing or names a matrix that is not known. More than 8 bits are
    reduced to 8. High dynamic range (PQ, HLG) is not tone-mapped: code values are converted with
    the stream's own matrix, as SigLIP's training pipeline and the usual video loaders do.
    """

    name: str

    def check(self) -> None:
        """Check, before a run, that the library can work on this machine.

        Raises:
            UserError: it cannot; the message says what to install.
        """
        ...

    def supports(self, media: Media) -> bool:
        """Whether this library gives the right frames of such a media."""
        ...

    def decode(
        self, path: str, media: Media, plan: FramePlan, size: FrameSize | None
    ) -> DecodedFrames:
        """Decode the planned frames.

        Args:
            path: a local file that the PyAV gate has accepted.
            media: what the gate found out about it.
            plan: at least one frame.
            size: None for the displayed size.

        Raises:
            MediaError: not one frame could be decoded, the library cannot open the file, or key
                frames are not where a plan `by_index` has them.
        """
        ...
