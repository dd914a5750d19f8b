"""torchcodec: PyTorch's decoder, on a core; `torchcodec_cuda` has the one on a GPU.

It uses the FFmpeg libraries of the machine (`apt-get install ffmpeg`). Measured: wrong frames for
MPEG-TS, edit lists and recovery points; it says `unsupported` there.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vxp_data.decoders.base import DecodedFrames, FramePlan, FrameSize
from vxp_data.errors import MediaError, UserError
from vxp_data.records import Media, Reason

_WRONG_CONTAINERS: Final = frozenset({"mpegts", "mpeg", "h264", "hevc", "mpegvideo"})
_IMAGES: Final = frozenset({"apng", "gif", "webp", "png", "mjpeg"})


class TorchcodecDecoder:
    """Decodes with `torchcodec.decoders.VideoDecoder`, exact seek mode, by frame index."""

    name = "torchcodec"

    def check(self) -> None:
        """Refuse to start where FFmpeg's shared libraries are missing; see `Decoder.check`."""
        from torchcodec.decoders import VideoDecoder

        try:
            VideoDecoder(b"not a video")
        except (RuntimeError, ValueError) as error:
            if "libtorchcodec" in str(error):
                raise UserError(
                    "decoder 'torchcodec' needs the FFmpeg shared libraries (version 4 to 9) of "
                    "this machine, and found none. Install them (apt-get install ffmpeg), or use "
                    "--set decode.decoder=pyav, which brings its own."
                ) from error

    def supports(self, media: Media) -> bool:
        """Whether torchcodec gives the right frames: no MPEG-TS, edit list, crop, refresh or image.

        Nor times that were mended.
        """
        return not (
            media.has_edit_list
            or media.has_crop
            or media.gradual_refresh
            or media.time_note != ""
            or media.container in _WRONG_CONTAINERS
            or media.codec in _IMAGES
        )

    def decode(
        self,
        path: str,
        media: Media,
        plan: FramePlan,
        size: FrameSize | None,
    ) -> DecodedFrames:
        """Decode the planned frames; see `Decoder.decode`."""
        import torch
        from torchcodec.decoders import VideoDecoder

        torch.set_num_threads(1)
        try:
            decoder = VideoDecoder(
                path,
                dimension_order="NHWC",
                num_ffmpeg_threads=1,
                device="cpu",
                transforms=_resize(size),
            )
            if decoder.stream_index != media.stream_index:
                raise MediaError(
                    Reason.UNSUPPORTED,
                    f"torchcodec takes stream {decoder.stream_index}, not {media.stream_index}",
                )
            if len(decoder) != media.num_frames:
                raise MediaError(
                    Reason.UNSUPPORTED,
                    f"torchcodec counts {len(decoder)} frames, the container {media.num_frames}",
                )
            batch = decoder.get_frames_at(plan.frame_index_F.tolist())
        except (RuntimeError, ValueError, IndexError) as error:
            raise MediaError(Reason.DECODE_FAILED, f"torchcodec: {first_line(error)}") from error
        frames: NDArray[np.uint8] = batch.data.numpy()
        return DecodedFrames(
            frames_FHWC=frames, is_exact_F=np.ones(len(plan), dtype=np.bool_), geometry=None
        )


def _resize(size: FrameSize | None) -> list[Any] | None:
    if size is None:
        return None
    from torchcodec.transforms import Resize

    return [Resize(size=(size.height_px, size.width_px))]


def first_line(error: BaseException) -> str:
    """Return the first line of what torchcodec says, without its C++ stack."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
