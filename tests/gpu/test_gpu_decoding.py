"""Decoding on the card (NVDEC): pixels, claims, fallback, a killed child, decisions, speed."""

from __future__ import annotations

import math
import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from support.gpu_checks.packages import DECODING, PRUNING, require_packages

if TYPE_CHECKING:
    from vxp_data.decoders.torchcodec_cuda import TorchcodecCudaDecoder
    from vxp_data.pipeline.media.clips import ClipFrames

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("card", "nvdec")]

DECODER = "torchcodec-cuda"


@pytest.fixture(scope="session")
def nvdec() -> TorchcodecCudaDecoder:
    """The decoder, where FFmpeg's libraries, torchcodec's CUDA build and NVDEC are there."""
    require_packages(*DECODING)
    from vxp_data.decoders.torchcodec_cuda import TorchcodecCudaDecoder
    from vxp_data.errors import UserError

    decoder = TorchcodecCudaDecoder()
    try:
        decoder.check()
    except UserError as error:
        pytest.skip(str(error))
    return decoder


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A clip of each kind that this PyAV can encode: 640 x 480, 48 images."""
    require_packages(*DECODING)
    from support.gpu_checks.decoding import KINDS, write_clip

    folder = tmp_path_factory.mktemp("kinds")
    return {
        name: folder / name
        for name, how in KINDS.items()
        if write_clip(folder / name, size_px=(640, 480), num_frames=48, **how)
    }


def read(path: Path) -> ClipFrames:
    from vxp_data.pipeline.media.clips import ClipReader, MediaItem
    from vxp_data.settings.prune import DecodeConfig, FramesConfig

    config = DecodeConfig(decoder=DECODER, nvdec_gain=0, fallback=None)
    item = MediaItem(uri=str(path), is_image=False, file_version="1-2", clips_s=((0.0, math.inf),))
    with ClipReader(FramesConfig(num_frames=8), config, frame_px=384) as reader:
        (clip,) = reader.read(item)
    return clip


def test_pixels_are_within_two_levels_of_ours_and_frames_the_planned_ones(
    figures: dict[str, Any],
    nvdec: TorchcodecCudaDecoder,
    clips: dict[str, Path],
) -> None:
    """Expect 20 s, most of them for encoding."""
    from support.gpu_checks.decoding import NEVER_CLAIMED, beside_ours

    figures["card"] = nvdec.card().name
    for name, path in clips.items():
        figures[name] = beside_ours(nvdec, path, 16)
    claimed = {name: found for name, found in figures.items() if name in clips and found["claimed"]}
    assert claimed.keys() >= {"h264.mp4", "h264_rotated.mp4", "h264_bt709.mp4"}
    assert not claimed.keys() & NEVER_CLAIMED
    for name, found in claimed.items():
        assert found["refused"] == "", (name, found)  # the table claims what the driver has
        assert found["difference"] < 2, (name, found)
        assert found["others_nearer"] == 0, (name, found)
        assert found["same_geometry"], (name, found)


def test_what_the_card_does_not_claim_is_decoded_on_a_core_and_says_why(
    clips: dict[str, Path],
) -> None:
    """Expect 15 s: a child of the card is started for it."""
    require_packages(*PRUNING)
    good = read(clips["h264.mp4"])
    assert (good.decoder, good.decoder_note, good.frames_exact) == (DECODER, "", 8)
    for name in ("h264_444.mp4", "mpeg4.mp4"):
        other = read(clips[name])
        assert (other.reason, other.decoder, other.frames_exact) == (None, "pyav", 8)
        assert other.decoder_note.startswith(f"{DECODER}: ")


def test_a_killed_child_is_replaced_and_a_late_decode_kills_it(
    figures: dict[str, Any],
    clips: dict[str, Path],
) -> None:
    """Expect 30 s: the child starts three times."""
    from support.gpu_checks.decoding import MEMORY_BYTES, job_of
    from vxp_data.decoders.gpu_child import warm_up
    from vxp_data.decoders.gpu_sandbox import GpuSandbox
    from vxp_data.decoders.probe import probe
    from vxp_data.decoders.sandbox import NO_LIMIT, Sandbox
    from vxp_data.errors import MediaError

    path = clips["h264.mp4"]
    job = job_of(DECODER, path, probe(str(path), path.name))
    plain = Sandbox(NO_LIMIT)
    pid, idle_bytes = plain.call(warm_up, DECODER, timeout_s=120).value
    figures["idle_mib"] = idle_bytes >> 20
    os.kill(pid, signal.SIGKILL)
    started_s = time.monotonic()
    assert plain.call(warm_up, DECODER, timeout_s=120).value[0] != pid
    figures["restart_s"] = round(time.monotonic() - started_s, 2)
    plain.close()
    sandbox = GpuSandbox(MEMORY_BYTES)
    try:
        assert not isinstance(sandbox.decode([job])[0], MediaError)
        late, good = sandbox.decode([replace(job, timeout_s=1e-4)])[0], sandbox.decode([job])[0]
        assert isinstance(late, MediaError)
        assert late.reason.value == "timeout"
        assert not isinstance(good, MediaError)
    finally:
        sandbox.close()


def test_decisions_are_those_of_cores(figures: dict[str, Any], tmp_path: Path) -> None:
    """Expect 60 s: 40 clips are encoded, and pruned twice with the thumbnail encoder."""
    require_packages(*PRUNING)
    from support.gpu_checks.decoding import write_clip
    from support.runs import by_sample, caption_row, run_prune, write_rows

    names = [f"clip_{i}" for i in range(40)]
    for i, name in enumerate(names):
        size_px = (320 + 16 * i, 240)
        write_clip(
            tmp_path / f"{name}.mp4", codec="libx264", size_px=size_px, num_frames=20 + 2 * i
        )
    manifest = write_rows(tmp_path / "r.json", [caption_row(n, f"{n}.mp4") for n in names])
    local: dict[str, Any] = {"cluster__engine": "local", "cluster__num_cpus": 4}
    run_prune(manifest, tmp_path / "cores", **local)
    run_prune(manifest, tmp_path / "card", decode__decoder=DECODER, decode__nvdec_gain=0, **local)
    ours, theirs = (by_sample(tmp_path / run, "decision") for run in ("cores", "card"))
    figures["decisions"] = len(ours)
    figures["same"] = sum(theirs[name] == decision for name, decision in ours.items())
    assert figures["same"] >= 0.99 * figures["decisions"]


@pytest.mark.parametrize(
    ("codec", "size_px", "num_frames", "gop"),
    [
        ("libx264", (640, 360), 250, 250),
        ("libx264", (1920, 1080), 500, 250),
        ("libx265", (1920, 1080), 250, 250),
    ],
    ids=["h264_360", "h264_1080", "hevc_1080"],
)
def test_speed_beside_the_cost_model(
    figures: dict[str, Any],
    tmp_path: Path,
    codec: str,
    size_px: tuple[int, int],
    num_frames: int,
    gop: int,
) -> None:
    """Expect 40 s for the 500 images of 1080p, most of them for encoding; 15 for the others."""
    from support.gpu_checks.decoding import speed, write_clip

    path = tmp_path / "clip.mp4"
    if not write_clip(path, codec=codec, size_px=size_px, num_frames=num_frames, gop=gop):
        pytest.skip(f"this PyAV has no {codec}")
    figures |= speed(DECODER, path, workers=8, rounds=3)
    assert figures["clips_per_s"] > 0.9 / figures["alone_s"]
