"""What the checks share: drawn frames, vectors compared, memory measured."""

from __future__ import annotations

import gc
from typing import Any, Final

import torch
from torch import Tensor

GIB: Final = 2**30


def random_frames(num: int, px: int, *, seed: int = 0) -> Tensor:
    """Draw uint8 [num, px, px, 3], coarse patches with noise over them: no two alike."""
    generator = torch.Generator().manual_seed(seed)
    patch = torch.arange(px) * 4 // px
    coarse = torch.randint(0, 216, (num, 4, 4, 3), dtype=torch.uint8, generator=generator)
    noise = torch.randint(0, 40, (num, px, px, 3), dtype=torch.uint8, generator=generator)
    return coarse[:, patch][:, :, patch] + noise


def compare(reference_FD: Tensor, other_FD: Tensor) -> dict[str, float]:
    """Compare vectors of the same frames.

    Returns:
        min_cosine: of the frame that differs most.
        min_centred_cosine: the same after the reference's mean is taken away. Random weights give
            all frames nearly the same vector; what is left is what tells them apart.
    """
    reference_FD, other_FD = reference_FD.double(), other_FD.double()
    mean_D = reference_FD.mean(0)
    cosine_F = torch.cosine_similarity(reference_FD, other_FD)
    centred_F = torch.cosine_similarity(reference_FD - mean_D, other_FD - mean_D)
    return {
        "min_cosine": float(cosine_F.min()),
        "min_centred_cosine": float(centred_F.min()),
    }


def clear_device(device: torch.device) -> None:
    """Let go of memory that nothing uses any more, and count the peak anew."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def beside_estimate(peak_bytes: int, estimate_bytes: int) -> dict[str, Any]:
    """Put a measured peak beside what was computed."""
    return {
        "peak_gib": round(peak_bytes / GIB, 3),
        "estimate_gib": round(estimate_bytes / GIB, 3),
        "peak_share_of_estimate": round(peak_bytes / estimate_bytes, 3),
    }
