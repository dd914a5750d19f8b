"""The edges that a container leaves out of its pictures: PyAV does not show them."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

from av.container import InputContainer
from av.filter import Graph
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from vxp_data.decoders.matroska_crop import matroska_edges
from vxp_data.decoders.mp4_crop import mp4_edges

_LEAST_PX: Final = 4
"""As wide is one pixel of chroma in some formats."""
_ANY_TIME_BASE: Final = Fraction(1, 1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Crop:
    """Edges that are stored and not shown, pixels."""

    left_px: int = 0
    top_px: int = 0
    right_px: int = 0
    bottom_px: int = 0

    def apply(self, frame: VideoFrame) -> VideoFrame:
        """Return a view of a frame without its edges; the frame itself where nothing would be left.

        As `ffmpeg` does it: where chroma has fewer pixels, the picture begins at one of these, and
        its size is a multiple of theirs.
        """
        width_px = frame.width - self.left_px - self.right_px
        height_px = frame.height - self.top_px - self.bottom_px
        if min(width_px, height_px) < _LEAST_PX:
            return frame
        graph = Graph()
        source = graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=_ANY_TIME_BASE
        )
        window = f"{width_px}:{height_px}:{self.left_px}:{self.top_px}"
        sink = graph.add("buffersink")
        graph.link_nodes(source, graph.add("crop", window), sink).configure(auto_buffer=False)
        graph.vpush(frame)
        return graph.vpull()


def crop_of(path: str, container: InputContainer, stream: VideoStream) -> Crop | None:
    """Read from a file's header which edges of a stream's pictures are not shown; None for none."""
    demuxer = container.format.name.split(",")[0]
    with Path(path).open("rb") as file:
        if demuxer == "matroska":
            edges = matroska_edges(file, container.streams.video.index(stream))
        elif demuxer == "mov":
            edges = mp4_edges(file, stream.id)
        else:
            return None
    crop = Crop(**edges)
    return None if crop == Crop() else crop
