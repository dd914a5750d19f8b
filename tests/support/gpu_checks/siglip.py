"""SigLIP on a device: precision, batch sizes, memory that runs out, speed.

Two programs run it: `vxp_model`'s own tower, and `vxp_data`'s encoder.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from support.gpu_checks.common import GIB, beside_estimate, clear_device, compare

if TYPE_CHECKING:
    from vxp_data.encoders.siglip import SiglipEncoder
    from vxp_model.modules.shapes import VisionConfig
    from vxp_model.modules.siglip import SiglipVisionTower


def build_tower(
    vision: VisionConfig, device: torch.device, *, dtype: torch.dtype, chunk_frames: int = 32
) -> SiglipVisionTower:
    """Build the tower with random weights, the same for every dtype, on a device."""
    from vxp_model.models.siglip import random_tower

    return random_tower(vision, seed=0, dtype=dtype, chunk_frames=chunk_frames).to(device)


def tower_vectors(tower: SiglipVisionTower, frames_FHWC: Tensor, device: torch.device) -> Tensor:
    """Return a vector for each frame: all of its features, one behind the other, on the CPU."""
    from vxp_model.modules.siglip import normalise_frames

    features_FNC: Tensor = tower(normalise_frames(frames_FHWC.to(device)))
    return features_FNC.flatten(1).float().cpu()


def tower_parity(
    vision: VisionConfig, device: torch.device, frames_FHWC: Tensor, chunks: tuple[int, ...]
) -> dict[str, Any]:
    """Compare the tower in bf16 with itself in fp32, and chunks of frames with frames alone.

    Args:
        vision: its shape.
        device: where.
        frames_FHWC: what it sees.
        chunks: frames at once; the first is compared with each of the others.
    """
    exact = build_tower(vision, device, dtype=torch.float32, chunk_frames=chunks[0])
    exact_FD = tower_vectors(exact, frames_FHWC, device)
    del exact
    tower = build_tower(vision, device, dtype=torch.bfloat16, chunk_frames=chunks[0])
    first_FD = tower_vectors(tower, frames_FHWC, device)
    found: dict[str, Any] = {"bf16_and_fp32": compare(exact_FD, first_FD)}
    for chunk in chunks[1:]:
        tower.chunk_frames = chunk
        other_FD = tower_vectors(tower, frames_FHWC, device)
        found[f"chunks_of_{chunks[0]}_and_{chunk}"] = compare(first_FD, other_FD)
    return found


def tower_rate(
    vision: VisionConfig,
    device: torch.device,
    *,
    num_frames: int,
    passes: int,
    matmul_flops: float,
    compile_backend: str | None,
) -> dict[str, Any]:
    """Time the bf16 tower on frames that lie on the device.

    Args:
        vision: its shape.
        device: where.
        num_frames: of a pass, run at once.
        passes: timed, after two that are not.
        matmul_flops: the device's own rate.
        compile_backend: of torch.compile, layer by layer; None: eager.
    """
    from device_rates import peak_bytes, wait_for

    from vxp_model.models.flops import tower_flop_per_frame

    tower = build_tower(vision, device, dtype=torch.bfloat16, chunk_frames=num_frames)
    clear_device(device)
    began_s = time.perf_counter()
    if compile_backend is not None:
        for layer in tower.layers:  # all alike: compiled once
            layer.compile(backend=compile_backend, dynamic=False)
    pixels_FCHW = torch.rand(num_frames, 3, vision.image_px, vision.image_px, device=device)
    for _ in range(2):
        tower(pixels_FCHW)
    wait_for(device)
    warm_s = time.perf_counter() - began_s
    began_s = time.perf_counter()
    for _ in range(passes):
        tower(pixels_FCHW)
    wait_for(device)
    frames_per_s = passes * num_frames / (time.perf_counter() - began_s)
    flops = frames_per_s * tower_flop_per_frame(vision)
    return {
        "frames_per_s": round(frames_per_s, 1),
        "tflops": round(flops / 1e12, 3),
        "share_of_matmul": round(flops / matmul_flops, 4),
        "warm_up_s": round(warm_s, 2),
        "peak_gib": round(peak_bytes(device) / GIB, 3),
    }


def tower_memory(
    preset: str, device: torch.device, *, chunk_frames: int, num_frames: int
) -> dict[str, Any]:
    """Put the memory of the frozen bf16 tower beside what `vxp-model estimate` says of it."""
    from device_rates import peak_bytes

    from support.gpu_checks.training import recot_recipe
    from vxp_model.models.presets import recot_preset
    from vxp_model.train.recot.estimate import estimate_recot

    vision = recot_preset(preset).vision
    recipe = recot_recipe(preset, tower={"init": "random", "chunk_frames": chunk_frames})
    uses = estimate_recot(recipe, gpu="h200", utilisation=0.4, num_samples=1).memory_bytes
    tower = build_tower(vision, device, dtype=torch.bfloat16, chunk_frames=chunk_frames)
    clear_device(device)
    pixels_FCHW = torch.rand(num_frames, 3, vision.image_px, vision.image_px, device=device)
    features_FNC = tower(pixels_FCHW)
    given = sum(t.numel() * t.element_size() for t in (pixels_FCHW, features_FNC))
    features = features_FNC.numel() * features_FNC.element_size()
    del features_FNC
    # Input and output are the caller's; the chunks' outputs lie beside what they are put into.
    peak = peak_bytes(device) - given - features
    return beside_estimate(peak, uses["tower"] + uses["its pass"])


def load_encoder(
    checkpoint: Path, device: torch.device, *, precision: str, batch_frames: int
) -> SiglipEncoder:
    """Load the encoder from a folder."""
    from support.tiny_models import Settings
    from vxp_data.encoders.siglip import SiglipEncoder

    settings = Settings(
        checkpoint=str(checkpoint),
        device=device.type,
        precision=precision,
        batch_frames=batch_frames,
    )
    return SiglipEncoder.load(settings)


def encoder_parity(
    checkpoint: Path, device: torch.device, frames_FHWC: Tensor, batches: tuple[int, ...]
) -> dict[str, Any]:
    """Compare the encoder in bf16 with itself in fp32, and one batch size with others."""

    def vectors(precision: str, batch_frames: int) -> Tensor:
        encoder = load_encoder(checkpoint, device, precision=precision, batch_frames=batch_frames)
        return torch.from_numpy(encoder.embed(frames_FHWC.numpy()))

    first_FD = vectors("bf16", batches[0])
    found: dict[str, Any] = {"bf16_and_fp32": compare(vectors("fp32", batches[0]), first_FD)}
    for batch in batches[1:]:
        other_FD = vectors("bf16", batch)
        found[f"batches_of_{batches[0]}_and_{batch}"] = compare(first_FD, other_FD)
    return found


def halving(
    encoder: SiglipEncoder,
    frames_FHWC: Tensor,
    shortage: Callable[[], AbstractContextManager[None]],
) -> dict[str, Any]:
    """Embed frames, once with memory enough and once with a shortage of it.

    Args:
        encoder: with a batch size that fits the device, but not the shortage.
        frames_FHWC: what it sees.
        shortage: during which the device has too little memory for a batch.
    """
    before = encoder.batch_frames
    enough_FD = torch.from_numpy(encoder.embed(frames_FHWC.numpy()))
    unhalved = encoder.batch_frames
    with shortage():
        short_FD = torch.from_numpy(encoder.embed(frames_FHWC.numpy()))
    return {
        "batch_frames": before,
        "batch_frames_with_enough": unhalved,
        "batch_frames_after": encoder.batch_frames,
        **compare(enough_FD, short_FD),
    }
