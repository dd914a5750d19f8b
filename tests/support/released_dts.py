"""The compressor as it was released: its weights' names and what its code computes."""

import torch
from torch.nn import functional

WIDTH = 64
"""Of released weights in tests: a multiple of their 32 norm groups."""


def released_dts(*, seed: int = 0) -> dict[str, torch.Tensor]:
    """A compressor with the released names and shapes, and random values."""
    shapes: dict[str, tuple[int, ...]] = {"temporal_encoding": (4, WIDTH)}
    for stage in (0, 3):
        spatial, temporal, conv = (f"encoder.{stage + i}" for i in range(3))
        for block in (spatial, temporal):
            shapes |= {f"{block}.norm.weight": (WIDTH,), f"{block}.norm.bias": (WIDTH,)}
        for part in ("q", "k", "v", "proj_out"):
            shapes[f"{spatial}.{part}.weight"] = (WIDTH, WIDTH, 1, 1, 1)
            shapes[f"{spatial}.{part}.bias"] = (WIDTH,)
        shapes |= {
            f"{temporal}.qkv.weight": (3 * WIDTH, WIDTH, 1),
            f"{temporal}.qkv.bias": (3 * WIDTH,),
            f"{temporal}.proj_out.weight": (WIDTH, WIDTH, 1),
            f"{temporal}.proj_out.bias": (WIDTH,),
            f"{temporal}.relative_position_k.embeddings_table": (129, WIDTH),
            f"{temporal}.relative_position_v.embeddings_table": (129, WIDTH),
            f"{conv}.conv.weight": (WIDTH, WIDTH, 3, 3, 3),
            f"{conv}.conv.bias": (WIDTH,),
        }
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(shape, generator=generator) / max(1, sum(shape[1:])) ** 0.5
        for name, shape in shapes.items()
    }


def run_released(state: dict[str, torch.Tensor], features_FCHW: torch.Tensor) -> torch.Tensor:
    """What the released inference code computes, from its own weights, operation by operation."""

    def conv1(name: str, x: torch.Tensor) -> torch.Tensor:
        weight = state[f"{name}.weight"].flatten(1)
        bias = state[f"{name}.bias"]
        return torch.einsum("oc,bc...->bo...", weight, x) + bias.view(1, -1, *[1] * (x.ndim - 2))

    def norm(name: str, x: torch.Tensor) -> torch.Tensor:
        weight, bias = state[f"{name}.norm.weight"], state[f"{name}.norm.bias"]
        return functional.group_norm(x, 32, weight, bias, eps=1e-6)

    x = features_FCHW.contiguous().view(-1, WIDTH, 4, *features_FCHW.shape[2:])  # mixes axes
    x = x + state["temporal_encoding"].T[None, :, :, None, None]
    for stage in (0, 3):
        block = f"encoder.{stage}"
        query, key, value = (conv1(f"{block}.{part}", norm(block, x)) for part in "qkv")
        logits = torch.einsum("bcthw,bctyx->bthwyx", query, key) / WIDTH**0.5
        weights = logits.flatten(4).softmax(-1).view_as(logits)
        x = x + conv1(f"{block}.proj_out", torch.einsum("bthwyx,bctyx->bcthw", weights, value))
        block = f"encoder.{stage + 1}"
        num_groups, _, num_frames, height, width = x.shape
        flat = x.permute(0, 3, 4, 1, 2).reshape(-1, WIDTH, num_frames)
        query, key, value = conv1(f"{block}.qkv", norm(block, flat)).chunk(3, dim=1)
        query, key = query / WIDTH**0.25, key / WIDTH**0.25
        rows = torch.arange(num_frames)[None, :] - torch.arange(num_frames)[:, None] + 64
        keys = state[f"{block}.relative_position_k.embeddings_table"][rows]
        values = state[f"{block}.relative_position_v.embeddings_table"][rows]
        logits = torch.einsum("bct,bcs->bts", query, key)
        logits = logits + torch.einsum("bct,tsc->bst", query, keys)  # transposed, as released
        weights = logits.softmax(-1)
        mixed = torch.einsum("bts,bcs->bct", weights, value)
        mixed = mixed + torch.einsum("bts,tsc->bct", weights, values)
        mixed = conv1(f"{block}.proj_out", mixed)
        x = x + mixed.view(num_groups, height, width, WIDTH, num_frames).permute(0, 3, 4, 1, 2)
        block = f"encoder.{stage + 2}.conv"
        padded = functional.pad(x, (1, 1, 1, 1, 1, 0), mode="replicate")
        weight, bias = state[f"{block}.weight"], state[f"{block}.bias"]
        x = functional.conv3d(padded, weight, bias, stride=(2, 1, 1))
    return x
