"""A prune whose decoder is on a GPU, with torchcodec on a core in the GPU's child."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from support.flat_videos import write_flat_video
from support.gpu_stand_ins import offer_stand_ins
from support.runs import by_sample, caption_row, run_prune, table, write_rows
from vxp_data.core.decode_costs import cores_replaced
from vxp_data.core.frame_sampling import uniform
from vxp_data.decoders.probe import probe
from vxp_data.pipeline.decoders_used import decoders_used
from vxp_data.pipeline.media.clips import ClipReader, MediaItem
from vxp_data.pipeline.media.core_or_gpu import why_on_core, work_of
from vxp_data.pipeline.run_dir.directory import open_run
from vxp_data.settings.prune import DecodeConfig, FramesConfig

DECODER = "nvdec-on-cpu"


def write_noise(path: Path, *, seed: int, speed: float) -> Path:
    """Write a clip of 640 x 360 whose images differ the more, the higher the speed."""
    draw = np.random.default_rng(seed)
    start, end = (draw.integers(0, 256, (45, 80, 3)) for _ in range(2))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"g": "50", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
        for i in range(40):
            image = start + (end - start) * speed * i / 40
            large = image.repeat(8, axis=0).repeat(8, axis=1).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(large, format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    names = [f"noise_{i}" for i in range(4)]
    for i, name in enumerate(names):
        write_noise(folder / f"{name}.mp4", seed=i, speed=0.2 + 0.2 * i)
    write_flat_video(folder / "flat.mp4", num_frames=20)
    rows = [caption_row(name, f"{name}.mp4") for name in [*names, "flat"]]
    return write_rows(folder / "rows.json", rows)


@pytest.fixture
def pruned(videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    offer_stand_ins(tmp_path / "installed", monkeypatch)

    def pruned(name: str, **settings: Any) -> Path:
        run_prune(videos, tmp_path / name, cluster__engine="local", **settings)
        return tmp_path / name

    return pruned


def test_clips_that_the_gpu_decodes_are_decided_as_on_cores_and_are_counted(pruned):
    on_cores = pruned("cores", decode__decoder="pyav")
    on_gpu = pruned("gpu", decode__decoder=DECODER, decode__nvdec_gain=0)
    assert by_sample(on_gpu, "decision") == by_sample(on_cores, "decision")
    media = {Path(row["uri"]).stem: row for row in table(on_gpu, "media")}
    assert {name: row["decoder"] for name, row in media.items()} == {
        **{f"noise_{i}": DECODER for i in range(4)},
        "flat": "pyav",
    }
    assert media["flat"]["decoder_note"] == f"{DECODER}: NVDEC has no mpeg4"
    used = decoders_used(open_run(str(on_gpu)), DECODER)
    assert str(used).splitlines() == [
        f"decoders: clips decoded: 4 by {DECODER}, 1 by pyav",
        "  1: NVDEC has no mpeg4",
    ]
    assert decoders_used(open_run(str(on_cores)), "pyav") is None


def test_a_clip_goes_where_its_gain_says(videos, tmp_path, monkeypatch):
    offer_stand_ins(tmp_path / "installed", monkeypatch)
    paths = [videos.parent / f"noise_{i}.mp4" for i in range(4)]
    found = [probe(str(path), "clip") for path in paths]
    plans = [one.timeline.plan(uniform(len(one.timeline), 20)) for one in found]
    works = [work_of(one.media, plan) for one, plan in zip(found, plans, strict=True)]
    for work, plan in zip(works, plans, strict=True):  # from the first, a key frame, to the last
        assert plan.frame_index_F[-1] <= work.num_decoded <= plan.frame_index_F[-1] + 1
    gains = [cores_replaced(work) for work in works]
    least = sorted(gains)[2]
    reasons = [why_on_core(f.media, plan, least) for f, plan in zip(found, plans, strict=True)]
    decode = DecodeConfig(decoder="misbehaving-on-gpu", nvdec_gain=least)
    with ClipReader(FramesConfig(), decode, frame_px=32) as reader:
        for path, gain, reason in zip(paths, gains, reasons, strict=True):
            item = MediaItem(
                uri=str(path), is_image=False, file_version="1-2", clips_s=((0.0, math.inf),)
            )
            (clip,) = reader.read(item)
            assert clip.decoder == ("misbehaving-on-gpu" if gain >= least else "pyav")
            assert clip.decoder_note == (reason and f"misbehaving-on-gpu: {reason}")
            assert reason.endswith(f"cores, decode.nvdec_gain is {least:g}") == (gain < least)
