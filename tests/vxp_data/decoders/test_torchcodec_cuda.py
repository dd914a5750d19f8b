"""The decoder on a GPU as far as it goes without one: what it claims, refuses, and how it scales.

tests/gpu/test_gpu_decoding.py has the rest.
"""

from __future__ import annotations

import io
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from support.nvdec_kernel import nvdec_rgb
from vxp_data.core.frame_sampling import uniform
from vxp_data.decoders import torchcodec_cuda
from vxp_data.decoders.base import FrameSize
from vxp_data.decoders.image import Image, Orientation
from vxp_data.decoders.nvdec_claims import Card, claims_of, why_not_claimed
from vxp_data.decoders.probe import open_video, probe
from vxp_data.decoders.pyav_decoder import PyavDecoder
from vxp_data.decoders.torchcodec_cuda import TorchcodecCudaDecoder, scaled
from vxp_data.errors import MediaError, UserError
from vxp_data.pipeline.embed.preflight import Verdict, check_children
from vxp_data.records import Media, Reason
from vxp_data.settings.prune import DecodeConfig

SIZE = FrameSize(width_px=384, height_px=384)
BT709, FULL = 1, 2


class OnCore(TorchcodecCudaDecoder):
    """The decoder, with torchcodec on a core, and an L4's claims."""

    device = "cpu"

    def card(self):
        return Card(name="L4", capability=(8, 9))


def picture(i: int, width: int, height: int) -> np.ndarray:
    """Draw a smooth image with colours of all kinds, and an edge that moves."""
    y, x = np.mgrid[0:height, 0:width]
    rgb = np.stack([255 * x / width, 255 * y / height, 128 + 100 * np.sin(x / 40 + i)], axis=-1)
    rgb[height // 3 : height // 2, 10 * i : 10 * i + width // 4] = (220, 30, 60)
    return rgb.astype(np.uint8)


def write_clip(path: Path, *, size=(640, 480), num_frames=20, pts=None, **tags):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"g": "6", "threads": "1"})
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for key, value in tags.items():
            setattr(stream.codec_context, key, value)
        for i in range(num_frames):
            frame = av.VideoFrame.from_ndarray(picture(i, *size), format="rgb24")
            frame.pts = 40 * i if pts is None else pts[i]
            frame.time_base = Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def with_colours_in_the_container(source: Path, path: Path) -> Path:
    """Copy a stream that names no colours to a container that names BT.709."""
    with av.open(str(source)) as old, av.open(str(path), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for name in ("colorspace", "color_primaries", "color_trc"):
            setattr(stream.codec_context, name, BT709)
        for packet in old.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                new.mux(packet)
    return path


def planned(path: Path, num_frames: int = 8):
    found = probe(str(path), path.name)
    return found.media, found.timeline.plan(uniform(len(found.timeline), num_frames))


def refusal(path: Path, decoder: TorchcodecCudaDecoder | None = None) -> str:
    with pytest.raises(MediaError) as caught:
        (decoder or OnCore()).decode(str(path), *planned(path), SIZE)
    assert caught.value.reason is Reason.UNSUPPORTED
    return caught.value.message


# --- what a card claims ---------------------------------------------------------------------------

T4, A100, A10, L4, H200 = (7, 5), (8, 0), (8, 6), (8, 9), (9, 0)
B200, RTX5090, FUTURE = (10, 0), (12, 0), (13, 1)


@pytest.mark.parametrize(
    ("codec", "pixel_format", "size", "cards"),
    [
        # by NVIDIA's NVDEC Application Note, 13.0: capabilities by generation
        ("h264", "yuv420p", (1920, 1080), {T4, A100, A10, L4, H200, B200, RTX5090, FUTURE}),
        ("h264", "yuv420p", (7680, 4320), {B200, RTX5090, FUTURE}),
        ("h264", "yuv420p10le", (1920, 1080), {B200, RTX5090, FUTURE}),
        ("hevc", "yuv420p10le", (7680, 4320), {T4, A100, A10, L4, H200, B200, RTX5090, FUTURE}),
        ("libdav1d", "yuv420p", (1920, 1080), {A10, L4, B200, RTX5090, FUTURE}),
        ("vp9", "yuv420p", (1920, 1080), {T4, A100, A10, L4, H200, B200, RTX5090, FUTURE}),
        ("hevc", "yuv420p", (128, 96), set()),
        ("h264", "yuv444p", (1920, 1080), set()),
        ("mpeg4", "yuv420p", (640, 480), set()),
        ("prores", "yuv422p10le", (1920, 1080), set()),
    ],
)
def test_cards_claim_what_their_generation_decodes(codec, pixel_format, size, cards):
    media = Media(
        media_id="",
        uri="",
        codec=codec,
        pixel_format=pixel_format,
        width_px=size[0],
        height_px=size[1],
    )
    all_cards = [T4, A100, A10, L4, H200, B200, RTX5090, FUTURE]
    claiming = {
        capability
        for capability in all_cards
        if not why_not_claimed(Card(name="card", capability=capability), media)
    }
    assert claiming == cards


def test_cards_before_turing_claim_nothing_and_reasons_name_the_card():
    assert claims_of(Card(name="V100", capability=(7, 0))) == {}
    media = Media(media_id="", uri="", codec="libdav1d", pixel_format="yuv420p")
    assert why_not_claimed(Card(name="NVIDIA H200", capability=H200), media) == (
        "NVDEC of NVIDIA H200 has no libdav1d"
    )


def test_streams_that_torchcodec_gets_wrong_are_not_claimed(tmp_path):
    media, _ = planned(write_clip(tmp_path / "clip.mp4"))
    assert OnCore().supports(media)
    for field in ("has_edit_list", "has_crop", "gradual_refresh"):
        assert not OnCore().supports(replace(media, **{field: True})), field
    assert not OnCore().supports(replace(media, time_note="mended"))
    assert not OnCore().supports(replace(media, container="mpegts"))


# --- colours --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tags",
    [{}, {"colorspace": BT709, "color_range": 1}, {"colorspace": BT709, "color_range": FULL}],
    ids=["unspecified", "bt709", "bt709_full"],
)
@pytest.mark.parametrize("size", [(640, 480), (1280, 720), (320, 320)])
def test_pixels_by_the_arithmetic_of_the_cuda_kernel_are_within_a_level_of_ours(
    tags, size, tmp_path
):
    """Decoded planes are the codec's own; what differs is the conversion and the filter."""
    import torch

    path = write_clip(tmp_path / "clip.mp4", size=size, num_frames=4, **tags)
    media, plan = planned(path, 4)
    ours = PyavDecoder().decode(str(path), media, plan, SIZE).frames_FHWC
    with av.open(str(path)) as container:
        frames = [nvdec_rgb(frame, tags) for frame in container.decode(video=0)]
    theirs = scaled(torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2), SIZE)
    assert np.abs(theirs.astype(np.int16) - ours).mean() < 1.0


@pytest.mark.parametrize("size", [(1280, 720), (768, 432), (320, 240)])
def test_the_filter_takes_fine_detail_as_ours_does(size):
    """Grey noise: a filter that does not widen with the reduction is several levels off."""
    import torch

    width, height = size
    grey = np.random.default_rng(0).integers(16, 236, (height, width), dtype=np.uint8)
    no_colour = np.full((height // 2, width), 128, dtype=np.uint8)
    frame = av.VideoFrame.from_ndarray(np.concatenate([grey, no_colour]), format="yuv420p")
    ours = np.empty((384, 384, 3), dtype=np.uint8)
    Image(SIZE).draw(frame, Orientation(), ours)
    theirs = scaled(torch.from_numpy(nvdec_rgb(frame, {})[None]).permute(0, 3, 1, 2), SIZE)[0]
    assert np.abs(theirs.astype(np.int16) - ours).mean() < 2


def test_colours_that_only_the_container_names_are_refused(tmp_path):
    plain = write_clip(tmp_path / "plain.mp4")
    path = with_colours_in_the_container(plain, tmp_path / "tagged.mp4")
    with open_video(str(path)) as (container, _):
        assert int(next(container.decode(video=0)).colorspace) == BT709
    assert refusal(path).startswith("only the container names the colours (BT.709")
    in_stream = write_clip(tmp_path / "in_stream.mp4", colorspace=BT709, color_range=1)
    for good in (plain, in_stream):
        assert OnCore().decode(str(good), *planned(good), SIZE).is_exact_F.all()


def test_matrices_that_the_two_sides_know_differently_are_refused(tmp_path):
    path = write_clip(tmp_path / "clip.mp4", colorspace=7, color_range=1)
    assert refusal(path) == "the colour matrix is SMPTE 240M"


def test_vp9_with_named_colours_is_refused(tmp_path):
    path = tmp_path / "clip.webm"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libvpx-vp9", rate=25, options={"cpu-used": "8"})
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        stream.codec_context.colorspace = BT709
        for i in range(10):
            frame = av.VideoFrame.from_ndarray(picture(i, 320, 240), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert refusal(path) == "a vp9 stream names its colours (BT.709) otherwise than by H.273"


# --- what torchcodec does without a word ----------------------------------------------------------


def test_a_mirrored_video_is_refused(tmp_path):
    path = write_clip(tmp_path / "clip.mp4")
    data = path.read_bytes()
    at = data.index(b"tkhd") + 4 + 4 + 20 + 16  # version, times, ids; reserved to the matrix
    (a,) = np.frombuffer(data[at - 0 : at + 4], dtype=">i4")
    assert a == 1 << 16
    path.write_bytes(data[:at] + np.array(-(1 << 16), dtype=">i4").tobytes() + data[at + 4 :])
    assert refusal(path) == "the video is mirrored"


def test_a_decode_that_torchcodec_moves_to_a_core_is_refused(tmp_path, monkeypatch):
    from torchcodec.decoders import VideoDecoder

    path = write_clip(tmp_path / "clip.mp4")
    monkeypatch.setattr(VideoDecoder, "cpu_fallback", "[CUDA] Falling back: Video not supported")
    assert refusal(path) == (
        "torchcodec would decode on a core: [CUDA] Falling back: Video not supported"
    )


def test_frames_with_another_time_than_the_plans_are_refused(tmp_path):
    path = write_clip(tmp_path / "clip.mp4")
    media, plan = planned(path)
    late = replace(plan, time_s_F=plan.time_s_F + np.array([0, 0, 0.04, 0, 0, 0, 0, 0]))
    with pytest.raises(MediaError, match=r"frame 5 comes with another time .* 0.0400 s away"):
        OnCore().decode(str(path), media, late, SIZE)
    another = replace(media, num_frames=21)
    with pytest.raises(MediaError, match="torchcodec counts 20 frames, the container 21"):
        OnCore().decode(str(path), another, plan, SIZE)


def test_times_of_a_late_start_and_of_a_variable_rate_are_the_files(tmp_path):
    uneven = [7000 + 37 * i + (i % 3) * 11 for i in range(20)]
    for name in ("late.mkv", "late.mp4"):
        path = write_clip(tmp_path / name, pts=uneven)
        media, plan = planned(path)
        if not OnCore().supports(media):
            assert name == "late.mp4"  # an edit list
            continue
        theirs = OnCore().decode(str(path), media, plan, SIZE)
        ours = PyavDecoder().decode(str(path), media, plan, SIZE)
        difference = np.abs(theirs.frames_FHWC.astype(np.int16) - ours.frames_FHWC)
        assert difference.mean(axis=(1, 2, 3)).max() < 2


# --- sizes ----------------------------------------------------------------------------------------


def test_frames_are_the_same_however_few_are_decoded_at_once(tmp_path, monkeypatch):
    path = write_clip(tmp_path / "clip.mp4")
    at_once = OnCore().decode(str(path), *planned(path), SIZE).frames_FHWC
    monkeypatch.setattr(torchcodec_cuda, "PIXELS_AT_ONCE", 3 * 640 * 480)
    in_parts = OnCore().decode(str(path), *planned(path), SIZE).frames_FHWC
    assert (at_once == in_parts).all()


def test_without_a_size_frames_have_their_own(tmp_path):
    path = write_clip(tmp_path / "clip.mp4")
    decoded = OnCore().decode(str(path), *planned(path), None)
    assert decoded.frames_FHWC.shape == (8, 480, 640, 3)


# --- a machine without a GPU ----------------------------------------------------------------------


def test_a_machine_without_a_gpu_is_told_so_once_and_what_to_do():
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(UserError) as caught:
        TorchcodecCudaDecoder().check()
    message = str(caught.value)
    assert message.startswith("decoder 'torchcodec-cuda' needs a GPU of NVIDIA with NVDEC, and ")
    assert "decode.decoder=pyav" in message
    decode = DecodeConfig(decoder="torchcodec-cuda", fallback=None)
    failed = [c for c in check_children(decode) if c.verdict is Verdict.FAILED]
    assert [(c.name, c.message) for c in failed] == [("decoder torchcodec-cuda", message)]
    elsewhere = [
        c for c in check_children(decode, gpu_elsewhere=True) if c.verdict is Verdict.WARNING
    ]
    assert ("decoder torchcodec-cuda", message) in [(c.name, c.message) for c in elsewhere]


def test_a_decoder_on_a_gpu_takes_over_from_nobody():
    checks = check_children(DecodeConfig(decoder="pyav", fallback="torchcodec-cuda"))
    first = next(iter(checks))
    assert (first.name, first.verdict) == ("decode.fallback", Verdict.FAILED)


def test_the_check_opens_a_video_as_the_decoder_would():
    assert OnCore().check() is None


def test_the_video_of_the_check_is_one():
    with av.open(io.BytesIO(torchcodec_cuda.tiny_video())) as container:
        assert sum(1 for _ in container.decode(video=0)) == 1
