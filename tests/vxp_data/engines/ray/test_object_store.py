"""Frames beyond what Ray's object store holds: the run ends, and ends as with room to spare."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from support.commands import vxp_data
from support.flat_videos import write_flat_video
from support.runs import caption_row, table, write_rows
from support.tiny_models import write_tiny_siglip
from vxp_data.engines.choose import open_engine
from vxp_data.engines.stage_plan import EncoderNeeds
from vxp_data.settings.cluster import ClusterConfig

NUM_VIDEOS = 24
"""Times 20 frames of 384 x 384 x 3 bytes: 212 MB."""


@pytest.mark.usefixtures("ray_session")
def test_too_small_a_store_is_told_before_anything_is_spent() -> None:
    needs = EncoderNeeds(in_decode_task=False, device="cpu", clip_bytes=20 * 384 * 384 * 3)
    with open_engine(ClusterConfig(engine="ray")) as engine:  # the session's Ray: 256 MiB
        (short,) = [s for s in engine.shortages(needs) if s.name == "object store"]
        assert "holds 268 MB, and frames on their way to the encoders take 566" in short.message
        cheap = replace(needs, in_decode_task=True)
        assert [s for s in engine.shortages(cheap) if s.name == "object store"] == []


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_frames_of_three_times_the_object_store_pass_through_it(tmp_path: Path) -> None:
    checkpoint = write_tiny_siglip(tmp_path / "siglip", image_px=384)
    names = [f"video{i:02}.mp4" for i in range(NUM_VIDEOS)]
    for i, name in enumerate(names):
        write_flat_video(tmp_path / name, num_frames=20, rgb=(10 * i, 255 - 10 * i, 128))
    manifest = write_rows(tmp_path / "rows.json", [caption_row(name, name) for name in names])
    for store_mib in (80, 1024):
        done = vxp_data(
            *("prune", manifest, "--out", tmp_path / str(store_mib), "--encoder", "siglip"),
            *("--set", f"encoder.checkpoint={checkpoint}", "--set", "cluster.num_cpus=2"),
            *("--set", f"cluster.object_store_mib={store_mib}", "--engine", "ray"),
        )
        assert done.returncode == 0, done.stderr
        assert ("object store" in done.stderr) is (store_mib == 80)
    assert len(table(tmp_path / "80", "decisions")) == NUM_VIDEOS
    for name in ("decisions", "scores"):
        assert table(tmp_path / "80", name) == table(tmp_path / "1024", name)
