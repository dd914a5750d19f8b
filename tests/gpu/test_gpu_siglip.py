"""SigLIP SO400M/14 at 384 px with random weights: precision, batch sizes, memory, speed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from support.gpu_checks.packages import ENCODER, ESTIMATE, TOWER, require_packages

if TYPE_CHECKING:
    import torch

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="session")
def so400m(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The encoder's default model with random weights, as a checkpoint: 0.9 GB."""
    require_packages(*ENCODER)
    from support.tiny_models import write_random_so400m

    return write_random_so400m(tmp_path_factory.mktemp("so400m"))


def test_the_tower_in_bf16_gives_the_features_of_fp32_whatever_the_chunk(
    card: torch.device, figures: dict[str, Any]
) -> None:
    """Expect 15 s, most of them for drawing 400 M weights twice."""
    require_packages(*TOWER)
    from support.gpu_checks import siglip
    from support.gpu_checks.common import random_frames
    from vxp_model.modules.shapes import VisionConfig

    frames_FHWC = random_frames(32, 384)
    figures |= siglip.tower_parity(VisionConfig(), card, frames_FHWC, chunks=(32, 1, 7))
    assert figures["bf16_and_fp32"]["min_centred_cosine"] > 0.99
    assert figures["chunks_of_32_and_1"]["min_centred_cosine"] > 0.999
    assert figures["chunks_of_32_and_7"]["min_centred_cosine"] > 0.999


@pytest.mark.parametrize("backend", [None, "inductor"], ids=["eager", "compiled"])
def test_the_tower_reaches_a_third_of_the_matmul_rate(
    card: torch.device, figures: dict[str, Any], backend: str | None
) -> None:
    """Expect 15 s eager, 60 s compiled: the layers are alike, and compiled once."""
    require_packages(*TOWER, *(["triton"] if backend else []))
    from device_rates import matmul_flops

    from support.gpu_checks import siglip
    from vxp_model.modules.shapes import VisionConfig

    peak = matmul_flops(card)
    figures |= {"matmul_tflops": round(peak / 1e12, 1)}
    figures |= siglip.tower_rate(
        VisionConfig(), card,
        num_frames=64, passes=20, matmul_flops=peak, compile_backend=backend,
    )  # fmt: skip
    assert figures["share_of_matmul"] > 1 / 3


def test_the_frozen_tower_stays_within_its_estimate(
    card: torch.device, figures: dict[str, Any]
) -> None:
    """Expect 15 s: the weights are drawn once more."""
    require_packages(*ESTIMATE)
    from support.gpu_checks import siglip

    figures |= siglip.tower_memory("3b", card, chunk_frames=32, num_frames=128)
    assert 0.5 < figures["peak_share_of_estimate"] < 1.1


def test_the_encoder_in_bf16_gives_the_vectors_of_fp32_whatever_the_batch(
    card: torch.device, figures: dict[str, Any], so400m: Path
) -> None:
    """Expect 30 s: 10 to write the weights, 5 for each of four loads."""
    from support.gpu_checks import siglip
    from support.gpu_checks.common import random_frames

    frames_FHWC = random_frames(64, 384)
    figures |= siglip.encoder_parity(so400m, card, frames_FHWC, batches=(64, 1, 7))
    assert figures["bf16_and_fp32"]["min_cosine"] > 0.999
    assert figures["bf16_and_fp32"]["min_centred_cosine"] > 0.99
    assert figures["batches_of_64_and_1"]["min_centred_cosine"] > 0.999
    assert figures["batches_of_64_and_7"]["min_centred_cosine"] > 0.999


def test_the_encoder_halves_its_batch_when_the_card_is_full(
    card: torch.device, figures: dict[str, Any], so400m: Path
) -> None:
    """Expect 20 s: one load, 512 frames twice."""
    from support.gpu_checks import siglip
    from support.gpu_checks.common import GIB, random_frames

    encoder = siglip.load_encoder(so400m, card, precision="bf16", batch_frames=512)

    @contextmanager
    def shortage() -> Iterator[None]:
        import torch

        torch.cuda.empty_cache()
        free_bytes, _ = torch.cuda.mem_get_info(card)
        filler = torch.empty(free_bytes - 5 * GIB, dtype=torch.uint8, device=card)
        yield
        del filler

    figures |= siglip.halving(encoder, random_frames(512, 384), shortage)
    assert figures["batch_frames_with_enough"] == 512
    assert figures["batch_frames_after"] in {2**power for power in range(9)}
    assert figures["min_centred_cosine"] > 0.999


@pytest.mark.parametrize(("visible", "told"), [(None, "True False"), ("", "False False")])
def test_the_card_is_seen_without_torch(card: torch.device, visible: str | None, told: str) -> None:
    """Expect a second."""
    assert card.type == "cuda"
    environment = os.environ if visible is None else {**os.environ, "CUDA_VISIBLE_DEVICES": visible}
    code = (
        "import sys; from vxp_data.cuda import has_cuda; print(has_cuda(), 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.strip() == told
