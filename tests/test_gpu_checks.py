"""What the GPU tests measure runs on a CPU at tiny sizes, and without a card they say so."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.gpu_checks.packages import DECODING, require_packages
from support.repo import ROOT

if TYPE_CHECKING:
    import torch

    from vxp_model.modules.shapes import VisionConfig
    from vxp_model.train.distributed import DistributedContext

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def cpu() -> torch.device:
    import torch

    return torch.device("cpu")


@pytest.fixture
def vision() -> VisionConfig:
    from vxp_model.models.presets import recot_preset

    return recot_preset("tiny").vision


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    from support.tiny_models import write_tiny_siglip

    return write_tiny_siglip(tmp_path / "siglip")


def test_vectors_that_share_a_mean_are_told_apart_by_the_centred_cosine() -> None:
    import torch

    from support.gpu_checks.common import compare

    same_FD = torch.tensor([[100.0, 1.0, 0.0], [100.0, -1.0, 0.0]])
    swapped_FD = same_FD.flip(0)
    assert compare(same_FD, same_FD) == pytest.approx(
        {"min_cosine": 1.0, "min_centred_cosine": 1.0}
    )
    found = compare(same_FD, swapped_FD)
    assert found["min_cosine"] > 0.999
    assert found["min_centred_cosine"] == pytest.approx(-1.0)


def test_no_two_drawn_frames_are_alike() -> None:
    from support.gpu_checks.common import random_frames

    frames_FHWC = random_frames(6, 56)
    assert frames_FHWC.shape == (6, 56, 56, 3)
    assert len({frame.numpy().tobytes() for frame in frames_FHWC}) == 6
    assert random_frames(6, 56).equal(frames_FHWC)


def test_a_missing_package_is_named_where_a_test_is_skipped() -> None:
    with pytest.raises(pytest.skip.Exception, match="not installed: no_such_package, nor_this"):
        require_packages("json", "no_such_package", "nor_this")
    require_packages("json")


def test_the_parity_of_the_tower_is_near_one_and_not_of_itself(
    cpu: torch.device, vision: VisionConfig
) -> None:
    from support.gpu_checks import siglip
    from support.gpu_checks.common import random_frames

    found = siglip.tower_parity(vision, cpu, random_frames(5, vision.image_px), chunks=(5, 1, 3))
    assert set(found) == {"bf16_and_fp32", "chunks_of_5_and_1", "chunks_of_5_and_3"}
    assert 0.99 < found["bf16_and_fp32"]["min_centred_cosine"] < 1 - 1e-9  # not the same tower
    assert found["chunks_of_5_and_1"]["min_centred_cosine"] > 0.999


@pytest.mark.parametrize("backend", [None, "aot_eager"])
def test_the_rate_of_the_tower_is_set_beside_the_matmul_rate(
    cpu: torch.device, vision: VisionConfig, backend: str | None
) -> None:
    from device_rates import matmul_flops

    from support.gpu_checks import siglip
    from vxp_model.models.flops import tower_flop_per_frame

    peak = matmul_flops(cpu, side=64, repeats=3)
    assert peak > 0
    found = siglip.tower_rate(
        vision, cpu, num_frames=2, passes=2, matmul_flops=1e9, compile_backend=backend
    )
    tower_flops = found["frames_per_s"] * tower_flop_per_frame(vision)
    assert found["share_of_matmul"] == pytest.approx(tower_flops / 1e9, rel=0.02, abs=1e-4)


def test_the_memory_of_the_tower_is_set_beside_the_estimate(cpu: torch.device) -> None:
    from support.gpu_checks import siglip

    found = siglip.tower_memory("tiny", cpu, chunk_frames=4, num_frames=8)
    assert found["peak_share_of_estimate"] > 1  # a CPU's peak is the process's


def test_the_parity_of_the_encoder_is_near_one(cpu: torch.device, checkpoint: Path) -> None:
    from support.gpu_checks import siglip
    from support.gpu_checks.common import random_frames

    found = siglip.encoder_parity(checkpoint, cpu, random_frames(5, 64), batches=(5, 2))
    assert found["bf16_and_fp32"]["min_cosine"] > 0.999
    assert found["bf16_and_fp32"]["min_centred_cosine"] < 1 - 1e-9
    assert found["batches_of_5_and_2"]["min_centred_cosine"] > 0.999


def test_halving_is_counted_and_the_vectors_stay(checkpoint: Path) -> None:
    import torch

    from support.gpu_checks import siglip
    from support.gpu_checks.common import random_frames
    from support.tiny_models import Settings
    from vxp_data.encoders.siglip import SiglipEncoder
    from vxp_data.encoders.siglip_model import find_model

    class Cramped(torch.nn.Module):
        """Stands in for a tower: gives what it sees, in a memory of so many images."""

        room = 8

        def forward(self, pixels_BCHW: torch.Tensor) -> torch.Tensor:
            if len(pixels_BCHW) > self.room:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB.")
            return pixels_BCHW[:, :, ::16, ::16].flatten(1)[:, :32]

    tower, model = Cramped(), find_model(Settings(checkpoint=str(checkpoint)))
    spec = SiglipEncoder.describe(Settings(checkpoint=str(checkpoint)))
    encoder = SiglipEncoder(
        replace(spec, dim=32), model, tower, device=torch.device("cpu"), bf16=False, batch_frames=8
    )

    @contextmanager
    def shortage() -> Iterator[None]:
        tower.room = 3
        yield

    found = siglip.halving(encoder, random_frames(9, 64), shortage)
    assert (found["batch_frames_with_enough"], found["batch_frames_after"]) == (8, 2)
    assert found["min_cosine"] == pytest.approx(1.0)


@pytest.mark.parametrize("offload", ["none", "torch"])
def test_recot_steps_run_on_drawn_windows(context: DistributedContext, offload: str) -> None:
    from support.gpu_checks import training

    engine = {"zero_stage": 2, "offload": offload, "precision": "fp32", "device": "cpu"}
    batch = {"global_samples": 2, "micro_samples": 2}
    recipe = training.recot_recipe("tiny", engine=engine, batch=batch)
    found = training.recot_steps(recipe, context, steps=2)
    assert len(found["losses"]) == 2
    assert all(math.isfinite(loss) for loss in found["losses"])
    assert found["last_step_s"] > 0


@pytest.mark.parametrize("offload", ["none", "torch"])
def test_fine_tuning_steps_run_on_a_drawn_sample(context: DistributedContext, offload: str) -> None:
    from support.gpu_checks import training
    from vxp_model.train.mllm.estimate import SampleShape

    engine = {"zero_stage": 2, "offload": offload, "precision": "fp32", "device": "cpu"}
    recipe = training.mllm_recipe("tiny", engine=engine)
    shape = SampleShape(num_frames=8, num_text=64, num_labels=24)
    found = training.sft_steps(recipe, context, shape, steps=2)
    assert found["losses"][1] < found["losses"][0]  # the same sample twice
    assert found["positions"] == pytest.approx(found["positions_estimated"], abs=48)


def test_an_answer_is_timed_to_its_first_token(cpu: torch.device) -> None:
    from support.gpu_checks import generation

    found = generation.answer("tiny", cpu, num_frames=10, new_tokens=4)
    assert found["new_tokens"] == 4
    assert found["positions"] == found["positions_estimated"] == 32 + 3 * (10 + 4) + 16 + 4
    assert found["encode_s"] + found["read_s"] <= found["first_token_s"] + 0.01


def gpu_session(record: Path, **environment: str) -> tuple[int, str]:
    """Run the GPU tests as on a machine without a card and without pytest's plugins."""
    hidden = {
        "CUDA_VISIBLE_DEVICES": "",
        "VXP_GPU_RECORD": str(record),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTEST_ADDOPTS": "",
    }
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-m", "gpu", "tests/gpu"],
        cwd=ROOT, capture_output=True, text=True, timeout=200, check=False,
        env=os.environ | hidden | environment,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def test_without_a_card_every_gpu_test_is_skipped_with_the_reason(tmp_path: Path) -> None:
    code, said = gpu_session(tmp_path / "gpu.json", VXP_REQUIRE_CUDA="0")
    assert code == 0, said
    assert "20 skipped" in said
    assert "sees no CUDA device" in said
    assert not (tmp_path / "gpu.json").exists()


def test_without_a_card_where_one_is_required_the_run_fails_and_says_what_is_needed(
    tmp_path: Path,
) -> None:
    code, said = gpu_session(tmp_path / "gpu.json", VXP_REQUIRE_CUDA="1")
    assert code == 1
    assert "VXP_REQUIRE_CUDA=1, and torch" in said
    assert "need one NVIDIA card" in said
    assert not (tmp_path / "gpu.json").exists()


def test_decoding_beside_ours_and_its_speed_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_packages(*DECODING)
    from support.gpu_checks.decoding import KINDS, NEVER_CLAIMED, beside_ours, speed, write_clip
    from support.gpu_stand_ins import offer_stand_ins
    from vxp_data.registry import DECODERS

    offer_stand_ins(tmp_path / "installed", monkeypatch)
    decoder = DECODERS.load("nvdec-on-cpu")()
    for name in ("h264_rotated.mp4", "hevc.mp4", "h264_444.mp4"):
        assert write_clip(tmp_path / name, size_px=(320, 240), num_frames=12, **KINDS[name])
        found = beside_ours(decoder, tmp_path / name, 4)
        assert found["claimed"] == (name not in NEVER_CLAIMED)
        if found["claimed"]:
            assert found["refused"] == ""
            assert found["difference"] < 2
            assert (found["others_nearer"], found["same_geometry"]) == (0, True)
    measured = speed("nvdec-on-cpu", tmp_path / "hevc.mp4", workers=2, rounds=1)
    assert measured["num_decoded"] in (11, 12)
    assert measured["start_s"] > measured["alone_s"] > 0
    assert measured["clips_per_s"] > 0
