"""torchcodec on a GPU: NVDEC decodes, CUDA converts and scales; only finished frames come back.

What it may get wrong without saying so is looked for, and left to a core: streams that torchcodec
itself would decode on a core, colours that only the container names (NVDEC reads the stream alone),
frames with another time than the planned ones. Damaged pictures it conceals without a word.
"""

from __future__ import annotations

import io
from typing import Any, ClassVar, Final

import av
import numpy as np
from av.codec import CodecContext
from av.container import InputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from vxp_data.decoders.base import DecodedFrames, FramePlan, FrameSize, Geometry
from vxp_data.decoders.image import Orientation, geometry_of
from vxp_data.decoders.nvdec_claims import Card, claims_of, why_not_claimed
from vxp_data.decoders.packets import packets_of
from vxp_data.decoders.probe import open_video
from vxp_data.decoders.torchcodec_decoder import TorchcodecDecoder, first_line
from vxp_data.errors import MediaError, UserError
from vxp_data.records import Media, Reason

_SAME_TIME_S: Final = 5e-5
"""Times this near are the same: a tick is longer, and seconds as floats are nearer."""
PIXELS_AT_ONCE: Final = 1 << 25
"""Of frames that are decoded together: with their floats 0.6 GB of the card's memory."""

_BT601, _BT709, _BT2020 = "BT.601", "BT.709", "BT.2020"
_MATRICES: Final = {1: _BT709, 9: _BT2020}
"""By ITU-T H.273; what is not known is BT.601 to torchcodec's CUDA code, as it is to ours."""
_DIFFERENT: Final = {7: "SMPTE 240M", 10: "BT.2020 constant luminance"}
"""Matrices that the two take for different ones."""
_FULL_RANGE: Final = 2
_OWN_COLOURS: Final = frozenset({"h264", "hevc", "libdav1d", "av1"})
"""Codecs whose streams name their colours by the codes of H.273, as NVDEC's parser gives them."""

_USE_CPU: Final = "Or use --set decode.decoder=pyav, which needs none."


class TorchcodecCudaDecoder:
    """Decodes with `torchcodec.decoders.VideoDecoder` on a GPU, exact seek mode, by frame index."""

    name = "torchcodec-cuda"
    on_gpu: ClassVar[bool] = True
    device: ClassVar[str] = "cuda"

    def __init__(self) -> None:
        self._card: Card | None = None

    def check(self) -> None:
        """Refuse to start without a GPU that NVDEC can be used on; see `Decoder.check`."""
        try:
            TorchcodecDecoder().check()
            claims = claims_of(self.card())
        except UserError:
            raise
        except (RuntimeError, OSError) as error:  # the driver's own words
            raise _no_gpu(f"CUDA does not start: {first_line(error)}") from error
        if not claims:
            raise _no_gpu(f"{self.card().name} is older than what torchcodec's NVDEC was tried on")
        self._check_build()

    def card(self) -> Card:
        """Return the card of this process: the first that CUDA_VISIBLE_DEVICES shows.

        Raises:
            UserError: there is none, or torch is not built for CUDA.
        """
        if self._card is None:
            self._card = self._find_card()
        return self._card

    def supports(self, media: Media) -> bool:
        """Whether the card decodes such a media, and torchcodec gives the right frames of it."""
        return TorchcodecDecoder().supports(media) and not why_not_claimed(self.card(), media)

    def decode(
        self, path: str, media: Media, plan: FramePlan, size: FrameSize | None
    ) -> DecodedFrames:
        """Decode the planned frames; see `Decoder.decode`."""
        from torchcodec.decoders import VideoDecoder

        geometry = _first_look(path, media)
        try:
            decoder = VideoDecoder(
                path,
                stream_index=media.stream_index,
                dimension_order="NCHW",
                num_ffmpeg_threads=1,
                device=self.device,
            )
            if decoder.cpu_fallback:
                raise _refused(f"torchcodec would decode on a core: {decoder.cpu_fallback}")
            if len(decoder) != media.num_frames:
                raise _refused(
                    f"torchcodec counts {len(decoder)} frames, the container {media.num_frames}"
                )
            frames = self._frames(decoder, media, plan, size)
        except (RuntimeError, ValueError, IndexError) as error:
            raise MediaError(Reason.DECODE_FAILED, f"{self.name}: {first_line(error)}") from error
        return DecodedFrames(
            frames_FHWC=frames, is_exact_F=np.ones(len(plan), dtype=np.bool_), geometry=geometry
        )

    def _frames(
        self, decoder: Any, media: Media, plan: FramePlan, size: FrameSize | None
    ) -> NDArray[np.uint8]:
        """Decode, check the times and scale, a few frames at once, so that 8K fits, too."""
        metadata = decoder.metadata
        step = max(1, PIXELS_AT_ONCE // max(1, (metadata.height or 1) * (metadata.width or 1)))
        parts = []
        for start in range(0, len(plan), step):
            index_F = plan.frame_index_F[start : start + step]
            batch = decoder.get_frames_at(index_F.tolist())
            wanted_s = plan.time_s_F[start : start + step] + media.start_s
            away_s = np.abs(batch.pts_seconds.cpu().numpy() - wanted_s)
            if (away_s > _SAME_TIME_S).any():
                raise _refused(
                    f"frame {index_F[away_s.argmax()]} comes with another time than the "
                    f"container's, {away_s.max():.4f} s away"
                )
            parts.append(scaled(batch.data, size))
        return np.concatenate(parts)

    def _find_card(self) -> Card:
        import torch

        torch.set_num_threads(1)
        if torch.version.cuda is None:
            raise _no_gpu(f"torch {torch.__version__} is not built for CUDA")
        if not torch.cuda.is_available():
            raise _no_gpu(f"torch {torch.__version__} sees no CUDA device here")
        return Card(
            name=torch.cuda.get_device_name(0), capability=torch.cuda.get_device_capability(0)
        )

    def _check_build(self) -> None:
        """Open a small video, to see whether torchcodec's build and the driver have NVDEC."""
        from torchcodec.decoders import VideoDecoder

        try:
            status = str(VideoDecoder(tiny_video(), device=self.device).cpu_fallback)
        except (RuntimeError, ValueError) as error:
            raise _no_gpu(
                f"torchcodec does not open a video on CUDA ({first_line(error)}): install its "
                "build for CUDA, of the same major version as torch's"
            ) from error
        if "unavailable" in status:
            raise _no_gpu(
                "the driver's libnvcuvid.so.1 is missing: in a container, set "
                "NVIDIA_DRIVER_CAPABILITIES=compute,utility,video"
            )


def scaled(frames_FCHW: Any, size: FrameSize | None) -> NDArray[np.uint8]:
    """Scale frames where they are, with a filter that widens with the reduction, as ours does.

    Args:
        frames_FCHW: uint8 tensor, [F, C, H, W], on any device.
        size: what to squash the whole image to; None for its own size.

    Returns:
        uint8 [F, H, W, C] in main memory.
    """
    import torch

    if size is not None:
        scaled_FCHW = torch.nn.functional.interpolate(
            frames_FCHW.float(),
            size=(size.height_px, size.width_px),
            mode="bicubic",
            antialias=True,
        )
        frames_FCHW = scaled_FCHW.round_().clamp_(0, 255).to(torch.uint8)
    frames_FHWC: NDArray[np.uint8] = frames_FCHW.permute(0, 2, 3, 1).contiguous().cpu().numpy()
    return frames_FHWC


def _first_look(path: str, media: Media) -> Geometry:
    """Decode the first image on this core: how the video is displayed, and in which colours.

    Raises:
        MediaError: it cannot be decoded, or NVDEC would get its turn or its colours wrong.
    """
    with open_video(path, stream_index=media.stream_index) as (container, stream):
        frame = _first_image(container, stream)
        orientation = Orientation.of(frame) or Orientation()
        if orientation not in _TURNS:
            raise _refused("the video is mirrored")
        if reason := _why_other_colours(path, media, frame):
            raise _refused(reason)
        return geometry_of(frame, stream.sample_aspect_ratio, orientation)


_TURNS: Final = (
    Orientation(),
    Orientation(transpose=True, flip_x=True),
    Orientation(flip_x=True, flip_y=True),
    Orientation(transpose=True, flip_y=True),
)


def _first_image(container: InputContainer, stream: VideoStream) -> VideoFrame:
    try:
        return next(frame for packet in packets_of(container, stream) for frame in packet.decode())
    except (av.FFmpegError, StopIteration) as error:
        raise MediaError(Reason.DECODE_FAILED, str(error)) from error


def _why_other_colours(path: str, media: Media, frame: VideoFrame) -> str:
    """Return why NVDEC would convert with another matrix or range than `frame` names; '' else."""
    matrix, is_full = _colours(frame)
    if int(frame.colorspace) in _DIFFERENT:
        return f"the colour matrix is {_DIFFERENT[int(frame.colorspace)]}"
    if (matrix, is_full) == (_BT601, False):  # what NVDEC takes where a stream says nothing
        return ""
    if media.codec not in _OWN_COLOURS:
        return f"a {media.codec} stream names its colours ({matrix}) otherwise than by H.273"
    with open_video(path, stream_index=media.stream_index) as (container, stream):
        bare = _without_container(container, stream)
    if bare is None or _colours(bare) != (matrix, is_full):
        return f"only the container names the colours ({matrix}, {'full' * is_full} range)"
    return ""


def _without_container(container: InputContainer, stream: VideoStream) -> VideoFrame | None:
    """Decode the first image with a codec that knows nothing of the container."""
    codec = CodecContext.create(stream.codec_context.name, "r")
    assert isinstance(codec, VideoCodecContext)
    codec.extradata = stream.codec_context.extradata
    codec.thread_count = 1
    try:
        for packet in packets_of(container, stream):
            for frame in codec.decode(packet):
                return frame
    except av.FFmpegError:
        return None
    return None


def _colours(frame: VideoFrame) -> tuple[str, bool]:
    is_full = int(frame.color_range) == _FULL_RANGE or frame.format.name.startswith("yuvj")
    return _MATRICES.get(int(frame.colorspace), _BT601), is_full


def tiny_video() -> bytes:
    """Return one frame of MPEG-4 part 2, which every FFmpeg can write."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        image = np.zeros((64, 64, 3), dtype=np.uint8)
        container.mux(stream.encode(VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return file.getvalue()


def _refused(why: str) -> MediaError:
    return MediaError(Reason.UNSUPPORTED, why)


def _no_gpu(why: str) -> UserError:
    return UserError(
        f"decoder 'torchcodec-cuda' needs a GPU of NVIDIA with NVDEC, and {why}. {_USE_CPU}"
    )
