"""Pictures as ffmpeg draws them where headers are odd: matrices, fields, cropping, failures."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from support import ffmpeg_truth
from support.big_videos import ffmpeg
from support.picture_bench import PictureBench
from vxp_data.core.frame_sampling import uniform
from vxp_data.decoders import decode_session, pyav_decoder
from vxp_data.decoders.base import FrameSize
from vxp_data.decoders.child import decode_file
from vxp_data.decoders.crop import Crop
from vxp_data.decoders.failures import failures_as_reasons
from vxp_data.decoders.image import Image, Orientation
from vxp_data.decoders.probe import probe
from vxp_data.errors import MediaError
from vxp_data.records import Media, Reason

SIDE_PX = 160
MOST_LEVELS = 1.5
"""Mean absolute difference to ffmpeg's picture, of 255."""
UNKNOWN = (3, 8, *range(10, 18))
"""Colour matrices that swscale refuses; ITU-T H.273 has names for most of them."""
CARD = ("-f", "lavfi", "-i", "testsrc2=s=320x180:r=25:d=0.4")
X264 = ("-c:v", "libx264", "-pix_fmt", "yuv420p")


@pytest.fixture(scope="module")
def bench() -> Iterator[PictureBench]:
    bench = PictureBench(SIDE_PX)
    yield bench
    bench.close()


def away(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    return float(np.abs(one.astype(np.int16) - other).mean())


def from_ffmpeg(path: Path, bench: PictureBench, scratch: Path) -> float:
    """Return how far the worst of eight frames is from ffmpeg's."""
    frames_FHWC, decoded, found = bench.read(path)
    truth = ffmpeg_truth.decode(path, scratch, SIDE_PX)
    assert len(truth) == len(found.timeline)
    assert decoded.is_exact_F.all()
    index_F = uniform(len(truth), 8)
    return max(
        away(mine, truth.frames_NHWC[index])
        for mine, index in zip(frames_FHWC, index_F, strict=True)
    )


# --- colour matrices ----------------------------------------------------------------------------

TAGGED = {
    "h264.mp4": X264,
    "h264.mkv": X264,
    "hevc.mp4": ("-c:v", "libx265", "-x265-params", "log-level=error", "-pix_fmt", "yuv420p"),
    "ffv1.mkv": ("-c:v", "ffv1", "-pix_fmt", "yuv444p"),
    "av1.mp4": ("-c:v", "libaom-av1", "-cpu-used", "8", "-pix_fmt", "yuv420p"),
}


NAMES = {2: "unknown", 8: "ycgco", 10: "bt2020c", 14: "ictcp"}


def tagged(folder: Path, kind: str, matrix: int) -> Path:
    *codec, _, pixels = TAGGED[kind]
    tag = f"format={pixels},setparams=colorspace={NAMES[matrix]}"
    return ffmpeg(folder / f"{matrix}-{kind}", *CARD, *codec, "-vf", tag)


@pytest.mark.parametrize("matrix", [8, 10, 14])
@pytest.mark.parametrize("kind", TAGGED)
def test_a_matrix_that_swscale_cannot_do_is_taken_for_unspecified(
    kind: str, matrix: int, tmp_path: Path, bench: PictureBench
) -> None:
    frames_FHWC, decoded, _ = bench.read(tagged(tmp_path, kind, matrix))
    plain_FHWC, plain, _ = bench.read(tagged(tmp_path, kind, 2))
    assert f"colour matrix {matrix} " in decoded.note
    assert plain.note == ""
    assert decoded.is_exact_F.all()
    np.testing.assert_array_equal(frames_FHWC, plain_FHWC)


def test_a_still_avif_of_such_a_matrix_is_read(tmp_path: Path, bench: PictureBench) -> None:
    still = ("-frames:v", "1", "-c:v", "libaom-av1", "-cpu-used", "8", "-still-picture", "1")
    tag = "format=yuv444p,setparams=colorspace=ycgco"
    path = ffmpeg(tmp_path / "a.avif", *CARD, *still, "-vf", tag)
    for is_image in (True, False):
        frames_FHWC, decoded, found = bench.read(path, is_image=is_image)
        assert frames_FHWC.std() > 20
        assert "colour matrix 8 " in decoded.note
        assert found.media.codec in ("av1", "libdav1d")


@pytest.mark.parametrize("pixels", ["yuv420p", "yuv444p10le", "nv12", "gray", "gbrp", "rgb24"])
def test_every_number_of_a_matrix_can_be_drawn(pixels: str) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format=pixels)
    drawn = np.zeros((16, 16, 3), np.uint8)
    for matrix in range(256):
        frame.colorspace = matrix
        image = Image(FrameSize(width_px=16, height_px=16))
        image.draw(frame, Orientation(), drawn)
        is_unknown = matrix in UNKNOWN or matrix > 17
        assert bool(image.note) == (is_unknown and pixels not in ("gbrp", "rgb24"))


@pytest.mark.parametrize(
    ("name", "is_image"), [("matrix_ycgco.mp4", False), ("ycgco.avif", True), ("ycgco.avif", False)]
)
def test_files_tagged_ycgco_are_read(
    name: str, is_image: bool, corpus: Path, bench: PictureBench
) -> None:
    frames_FHWC, decoded, _ = bench.read(corpus / "odd" / name, is_image=is_image)
    assert decoded.is_exact_F.all()
    assert frames_FHWC.std() > 20
    assert "colour matrix 8 " in decoded.note


# --- exceptions of a decoder --------------------------------------------------------------------


def test_what_a_library_raises_becomes_a_reason_and_a_lack_of_memory_does_not() -> None:
    for error in (
        av.error.InvalidDataError(1094995529, "Invalid data"),
        av.error.OSError(95, "Operation not supported"),
        ValueError("no such format"),
        OSError(5, "Input/output error"),
        IndexError("tuple index out of range"),
    ):
        with pytest.raises(MediaError) as caught, failures_as_reasons(Reason.DECODE_FAILED):
            raise error
        assert caught.value.reason is Reason.DECODE_FAILED
        assert type(error).__name__ in caught.value.message
    for error in (MemoryError(), av.error.MemoryError(12, "Cannot allocate memory")):
        with pytest.raises(MemoryError), failures_as_reasons(Reason.CORRUPT):
            raise error
    with pytest.raises(KeyError), failures_as_reasons(Reason.CORRUPT):
        raise KeyError("a bug of ours")
    with pytest.raises(MediaError) as caught, failures_as_reasons(Reason.CORRUPT):
        raise MediaError(Reason.TOO_LARGE, "as it was")
    assert caught.value.reason is Reason.TOO_LARGE


def refuse(*_: object, **__: object) -> None:
    raise av.error.OSError(95, "Operation not supported")


@pytest.mark.parametrize("stage", ["reformat", "displayed_geometry"])
def test_an_exception_of_any_stage_is_the_reason_of_that_file(
    stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = ffmpeg(tmp_path / "a.mp4", *CARD, *X264)
    found = probe(str(path), "a")
    plan = found.timeline.plan(uniform(len(found.timeline), 2))
    if stage == "reformat":
        reformatter = type("Refusing", (), {"reformat": refuse})
        monkeypatch.setattr("vxp_data.decoders.image.VideoReformatter", reformatter)
    else:
        monkeypatch.setattr(decode_session, "geometry_of", refuse)
    monkeypatch.setattr("vxp_data.decoders.child.cap_memory", lambda: None)
    with pytest.raises(MediaError, match="Operation not supported") as caught:
        decode_file("pyav", str(path), found.media, plan, FrameSize(width_px=8, height_px=8))
    assert caught.value.reason is Reason.DECODE_FAILED


# --- interlaced pictures ------------------------------------------------------------------------

FIELDS = ("-f", "lavfi", "-i", "testsrc2=s=320x180:r=50:d=0.6")
WOVEN = "tinterlace=mode=interleave_top,setfield=tff"
BY_FIELDS = ("-flags", "+ilme+ildct")
INTERLACED = {
    "mbaff.mp4": ("-c:v", "libx264", *BY_FIELDS, "-x264-params", "tff=1"),
    "bottom_first.mkv": ("-c:v", "libx264", *BY_FIELDS, "-x264-params", "bff=1"),
    "mpeg2.mpg": ("-c:v", "mpeg2video", *BY_FIELDS),
    "mpeg2.ts": ("-c:v", "mpeg2video", *BY_FIELDS),
    "mpeg4.avi": ("-c:v", "mpeg4", *BY_FIELDS),
    "ffv1.mkv": ("-c:v", "ffv1"),
    "ten_bits.mov": ("-c:v", "prores_ks", *BY_FIELDS, "-pix_fmt", "yuv422p10le"),
    "full_range.mkv": ("-c:v", "ffv1", "-color_range", "pc", "-colorspace", "bt709"),
    "rotated.mp4": ("-c:v", "libx264", *BY_FIELDS, "-x264-params", "tff=1"),
}


@pytest.mark.parametrize("kind", INTERLACED)
def test_an_interlaced_picture_is_scaled_as_one(
    kind: str, tmp_path: Path, bench: PictureBench
) -> None:
    path = ffmpeg(tmp_path / f"made-{kind}", *FIELDS, "-vf", WOVEN, *INTERLACED[kind])
    if kind == "rotated.mp4":
        turned = ("-display_rotation", "90", "-i", str(path), "-c", "copy")
        path = ffmpeg(tmp_path / kind, *turned)
    with av.open(str(path)) as container:
        assert all(frame.interlaced_frame for frame in container.decode(video=0))
    assert from_ffmpeg(path, bench, tmp_path / "truth.raw") < MOST_LEVELS


@pytest.mark.parametrize("name", ["interlaced.mpg", "interlaced_mbaff.mp4"])
def test_interlaced_files_are_drawn_as_by_ffmpeg(
    name: str, corpus: Path, bench: PictureBench, tmp_path: Path
) -> None:
    assert from_ffmpeg(corpus / "odd" / name, bench, tmp_path / "truth.raw") < MOST_LEVELS


# --- cropping -----------------------------------------------------------------------------------

CROPS = {
    "even": (40, 20, 40, 20),
    "odd": (41, 21, 7, 3),
    "one_side": (0, 0, 64, 0),
}
"""Pixels left out: left, top, right, bottom."""
CROPPED = {
    "h264.mkv": X264,
    "vp9.webm": ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8"),
    "yuv444.mkv": ("-c:v", "ffv1", "-pix_fmt", "yuv444p10le"),
    "rgb.mkv": ("-c:v", "ffv1", "-pix_fmt", "bgr0"),
}
COLOUR = "setparams=colorspace=bt709:color_primaries=bt709:color_trc=bt709:range=tv"


def with_crop(path: Path, crop: tuple[int, int, int, int]) -> Path:
    """Write cropping where a Matroska file's header had its colour."""
    data = bytearray(path.read_bytes())
    at = data.index(b"\x55\xb0")
    size_bytes = 9 - data[at + 2].bit_length()
    size = int.from_bytes(data[at + 2 : at + 2 + size_bytes], "big") & (1 << 7 * size_bytes) - 1
    num_bytes = 2 + size_bytes + size
    edges = b"".join(
        bytes([0x54, number, 0x81, edge])
        for number, edge in zip((0xCC, 0xBB, 0xDD, 0xAA), crop, strict=True)
    )
    left = num_bytes - len(edges)
    assert 2 <= left < 100
    data[at : at + num_bytes] = edges + bytes([0xEC, 0x80 | left - 2]) + bytes(left - 2)
    out = path.with_stem(f"{path.stem}-{sum(crop)}-cropped")
    out.write_bytes(data)
    return out


@pytest.mark.parametrize("crop", CROPS)
@pytest.mark.parametrize("kind", CROPPED)
def test_cropping_of_a_matroska_file_is_that_of_ffmpeg_and_that_by_hand(
    kind: str, crop: str, tmp_path: Path, bench: PictureBench
) -> None:
    path = ffmpeg(tmp_path / kind, *CARD, "-vf", COLOUR, *CROPPED[kind])
    cropped, whole = with_crop(path, CROPS[crop]), with_crop(path, (0, 0, 0, 0))
    step = 2 if kind in ("h264.mkv", "vp9.webm") else 1  # ffmpeg cuts between chroma pixels
    left, top, right, bottom = CROPS[crop]
    width, height = (320 - left - right) // step * step, (180 - top - bottom) // step * step
    left, top = left // step * step, top // step * step
    by_hand = shown(whole)[:, top : top + height, left : left + width]
    mine = shown(cropped)
    assert mine.shape == by_hand.shape == (2, height, width, 3)
    assert away(mine, by_hand) < 0.5  # at the new edges chroma is taken from fewer pixels
    _, decoded, found = bench.read(cropped)
    assert (decoded.geometry.width_px, decoded.geometry.height_px) == (width, height)
    assert (found.media.has_crop, bench.probe(whole).media.has_crop) == (True, False)
    most = 3.0 if kind == "h264.mkv" else MOST_LEVELS  # its chroma lies elsewhere for ffmpeg
    assert from_ffmpeg(cropped, bench, tmp_path / "truth.raw") < most


@pytest.mark.parametrize("crop", CROPS)
@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_the_clean_aperture_of_an_mp4_is_that_of_ffmpeg(
    suffix: str, crop: str, tmp_path: Path, bench: PictureBench
) -> None:
    path = ffmpeg(tmp_path / "a.mkv", *CARD, "-vf", COLOUR, *X264)
    copy = ("-i", str(with_crop(path, CROPS[crop])), "-c", "copy")
    cropped = ffmpeg(tmp_path / f"a{suffix}", *copy)
    assert cropped.read_bytes().count(b"clap") == 1
    assert from_ffmpeg(cropped, bench, tmp_path / "truth.raw") < 3.0  # as for H.264 above
    _, decoded, found = bench.read(cropped)
    assert found.media.has_crop
    left, top, right, bottom = CROPS[crop]
    size = (decoded.geometry.width_px, decoded.geometry.height_px)
    assert size == ((320 - left - right) // 2 * 2, (180 - top - bottom) // 2 * 2)


def test_each_track_of_an_mp4_has_its_own_aperture(tmp_path: Path, bench: PictureBench) -> None:
    plain = ffmpeg(tmp_path / "a.mkv", *CARD, "-vf", COLOUR, *X264)
    inputs = ("-i", str(plain), "-i", str(with_crop(plain, CROPS["even"])))
    for chosen in (0, 1):
        default = ["-disposition:v:0", "-disposition:v:1"]
        path = ffmpeg(
            *(tmp_path / f"{chosen}.mp4", *inputs, "-map", "0:v", "-map", "1:v", "-c", "copy"),
            *(default[chosen], "default", default[1 - chosen], "0"),
        )
        found = bench.probe(path)
        assert (found.media.stream_index, found.media.has_crop) == (chosen, chosen == 1)


def shown(path: Path) -> NDArray[np.uint8]:
    """Decode two frames at their own size."""
    found = probe(str(path), "a")
    plan = found.timeline.plan(uniform(len(found.timeline), 2))
    return pyav_decoder.PyavDecoder().decode(str(path), found.media, plan, None).frames_FHWC


def test_a_cropped_file_of_the_corpus(corpus: Path, bench: PictureBench, tmp_path: Path) -> None:
    path = corpus / "odd" / "mkv_crop.mkv"
    assert from_ffmpeg(path, bench, tmp_path / "truth.raw") < MOST_LEVELS
    geometry = bench.read(path)[1].geometry
    assert (geometry.width_px, geometry.height_px) == (240, 140)


def test_a_crop_that_leaves_nothing_is_none() -> None:
    frame = av.VideoFrame(64, 48, "yuv420p")
    frame.time_base = Fraction(1, 25)
    assert Crop(left_px=32, right_px=32).apply(frame) is frame
    assert Crop(top_px=100).apply(frame) is frame
    assert Crop(left_px=32, right_px=31).apply(frame) is frame
    assert Crop(left_px=32, right_px=28).apply(frame).width == 4


@pytest.mark.parametrize("decoder", ["decord", "torchcodec"])
def test_other_decoders_do_not_claim_what_they_would_not_crop(
    decoder: str, tmp_path: Path, bench: PictureBench
) -> None:
    path = ffmpeg(tmp_path / "a.mkv", *CARD, "-vf", COLOUR, *X264)
    found = bench.probe(with_crop(path, (40, 20, 40, 20)))
    plan = found.timeline.plan(uniform(len(found.timeline), 2))
    with pytest.raises(MediaError) as caught:
        bench.decode(path, found.media, plan, decoder)
    assert caught.value.reason is Reason.UNSUPPORTED
    assert Media(media_id="", uri="").has_crop is False
