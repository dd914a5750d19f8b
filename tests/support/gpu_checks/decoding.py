"""Decoding on a card: pixels beside PyAV's, what is claimed, speed. Clips are drawn and encoded."""

from __future__ import annotations

import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray

from vxp_data.core.decode_costs import core_s, engine_s
from vxp_data.core.frame_sampling import uniform
from vxp_data.decoders.base import FrameSize
from vxp_data.decoders.gpu_child import GpuJob
from vxp_data.decoders.gpu_client import GpuClient
from vxp_data.decoders.nvdec_claims import why_not_claimed
from vxp_data.decoders.probe import Probe, probe
from vxp_data.decoders.pyav_decoder import PyavDecoder
from vxp_data.decoders.torchcodec_cuda import TorchcodecCudaDecoder
from vxp_data.errors import MediaError
from vxp_data.pipeline.media.core_or_gpu import work_of

SIZE: Final = FrameSize(width_px=384, height_px=384)
MEMORY_BYTES: Final = 2 << 30

KINDS: Final[dict[str, dict[str, Any]]] = {
    "h264.mp4": {"codec": "libx264"},
    "h264_b_frames.mkv": {"codec": "libx264", "options": {"bf": "3"}},
    "h264_open_gop.mkv": {
        "codec": "libx264",
        "options": {"x264-params": "open-gop=1:keyint=12:min-keyint=12:bframes=3:scenecut=0"},
    },
    "h264_bt709.mp4": {"codec": "libx264", "colorspace": 1, "color_range": 1},
    "h264_full_range.mp4": {"codec": "libx264", "colorspace": 1, "color_range": 2},
    "h264_rotated.mp4": {"codec": "libx264", "rotate": 90},
    "hevc.mp4": {"codec": "libx265"},
    "hevc_ten_bit.mp4": {"codec": "libx265", "pixel_format": "yuv420p10le"},
    "vp9.webm": {"codec": "libvpx-vp9"},
    "av1.mp4": {"codec": "libsvtav1"},
    "h264_444.mp4": {"codec": "libx264", "pixel_format": "yuv444p"},
    "mpeg4.mp4": {"codec": "mpeg4"},
}
NEVER_CLAIMED: Final = frozenset({"h264_444.mp4", "mpeg4.mp4"})
_FAST: Final = {
    "libx264": {"preset": "veryfast", "x264-params": "threads=1"},
    "libx265": {"preset": "ultrafast", "x265-params": "log-level=error:pools=1"},
    "libvpx-vp9": {"cpu-used": "8", "deadline": "realtime"},
    "libsvtav1": {"preset": "12"},
}


def picture(number: int, width_px: int, height_px: int) -> NDArray[np.uint8]:
    """Draw a smooth image of many colours, with a bar that tells its number."""
    y, x = np.mgrid[0:height_px, 0:width_px].astype(np.float32)
    waves = 128 + 90 * np.sin(x / 37 + number / 5) * np.cos(y / 29)
    rgb = np.stack([255 * x / width_px, 255 * y / height_px, waves], axis=-1)
    at = number * 9 % (width_px * 3 // 4)
    rgb[height_px // 3 : height_px // 2, at : at + width_px // 8] = (220, 30, 60)
    drawn: NDArray[np.uint8] = rgb.astype(np.uint8)
    return drawn


def write_clip(
    path: Path,
    *,
    codec: str,
    size_px: tuple[int, int],
    num_frames: int,
    pixel_format: str = "yuv420p",
    rotate: int = 0,
    gop: int = 12,
    options: dict[str, str] | None = None,
    **tags: int,
) -> bool:
    """Encode drawn images; False where this PyAV has no such encoder."""
    try:
        av.Codec(codec, "w")
    except av.codec.codec.UnknownCodecError:
        return False
    with av.open(str(path), "w") as container:
        settings = {"g": str(gop)} | _FAST.get(codec, {}) | (options or {})
        stream = container.add_stream(codec, rate=25, options=settings)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height = size_px
        stream.pix_fmt = pixel_format
        for name, value in tags.items():
            setattr(stream.codec_context, name, value)
        if rotate:
            stream.set_display_rotation(rotate)
        for number in range(num_frames):
            image = av.VideoFrame.from_ndarray(picture(number, *size_px), format="rgb24")
            container.mux(stream.encode(image))
        container.mux(stream.encode(None))
    return True


def beside_ours(decoder: TorchcodecCudaDecoder, path: Path, num_frames: int) -> dict[str, Any]:
    """Decode frames of a clip with both; return how far apart they are, or why it is not decoded.

    Returns:
        claimed: whether the card's table has it; refused: torchcodec's or our reason; difference:
        the mean absolute one, in levels; others_nearer: frames that are nearer to a neighbour.
    """
    found = probe(str(path), path.name)
    reason = why_not_claimed(decoder.card(), found.media)
    if reason or not decoder.supports(found.media):
        return {"claimed": False, "refused": reason or "not one of torchcodec's"}
    plan = found.timeline.plan(uniform(len(found.timeline), num_frames))
    try:
        theirs = decoder.decode(str(path), found.media, plan, SIZE)
    except MediaError as error:
        return {"claimed": True, "refused": error.message}
    all_frames = found.timeline.plan(np.arange(len(found.timeline)))
    ours = PyavDecoder().decode(str(path), found.media, all_frames, SIZE)
    difference_FN = np.array(
        [_differences(frame, ours.frames_FHWC) for frame in theirs.frames_FHWC]
    )
    nearest_F = difference_FN.argmin(axis=1)
    return {
        "claimed": True,
        "refused": "",
        "difference": float(difference_FN[np.arange(len(plan)), plan.frame_index_F].mean()),
        "others_nearer": int((nearest_F != plan.frame_index_F).sum()),
        "same_geometry": theirs.geometry == ours.geometry,
    }


def _differences(frame: NDArray[np.uint8], others: NDArray[np.uint8]) -> list[float]:
    return [float(np.abs(frame.astype(np.int16) - other).mean()) for other in others]


def job_of(decoder: str, path: Path, found: Probe, num_frames: int = 20) -> GpuJob:
    """Ask for uniform frames of a clip."""
    plan = found.timeline.plan(uniform(len(found.timeline), num_frames))
    return GpuJob(
        decoder=decoder, path=str(path), media=found.media, plan=plan, size=SIZE, timeout_s=120
    )


def speed(decoder: str, path: Path, *, workers: int, rounds: int) -> dict[str, Any]:
    """Decode one clip again and again from several workers; put the times beside the cost model's.

    Returns:
        start_s: the first decode, which starts the child; alone_s: one worker's; clips_per_s: of
        all workers together; core_s: PyAV's; and what core.decode_costs has for both.
    """
    found = probe(str(path), path.name)
    job = job_of(decoder, path, found)
    clients = [GpuClient(MEMORY_BYTES) for _ in range(workers)]
    try:
        started_s = time.monotonic()
        clients[0].decode(job)
        start_s = time.monotonic() - started_s
        alone_s = []
        for _ in range(rounds):
            started_s = time.monotonic()
            clients[0].decode(job)
            alone_s.append(time.monotonic() - started_s)
        started_s = time.monotonic()
        with ThreadPoolExecutor(workers) as threads:
            for _ in range(rounds):
                list(threads.map(lambda client: client.decode(job), clients))
        together_s = time.monotonic() - started_s
    finally:
        for client in clients:
            client.close()
    began_s = time.process_time()
    PyavDecoder().decode(str(path), found.media, job.plan, SIZE)
    work = work_of(found.media, job.plan)
    return {
        "workers": workers,
        "num_decoded": work.num_decoded,
        "start_s": round(start_s, 3),
        "alone_s": round(statistics.median(alone_s), 4),
        "clips_per_s": round(workers * rounds / together_s, 2),
        "core_s": round(time.process_time() - began_s, 4),
        "core_s_by_model": round(core_s(work), 4),
        "engine_s_by_model": round(engine_s(work), 4),
    }
