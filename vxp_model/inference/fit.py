"""How many frames fit on a card, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from vxp_data.cuda import has_cuda
from vxp_model.errors import UserError
from vxp_model.models.budget import GIGABYTE, ContextBudget
from vxp_model.models.video_xl_pro_shape import ModelShape, preset_shape

_USUAL_CARD_GB = 80.0


def describe_fit(
    *,
    preset: str,
    folder: Path | None,
    memory_gb: float | None,
    workspace_gb: float,
    frame_counts: Sequence[int],
) -> Iterator[str]:
    """Price numbers of frames, and find the greatest number that fits.

    Args:
        preset: a model's size.
        folder: of a model, instead.
        memory_gb: of the card; None: of this machine's GPU, or 80.
        workspace_gb: left free for activations.
        frame_counts: to be priced.

    Yields:
        Lines for a user.

    Raises:
        UserError: no such model, or it does not fit the card.
    """
    if memory_gb is None:
        memory_gb = _card_gb()
    if workspace_gb >= memory_gb:
        raise UserError(f"--workspace-gb {workspace_gb:g} leaves nothing of {memory_gb:g} GB.")
    config, budget = _of_preset(preset) if folder is None else _of_folder(folder)
    one = budget.frames_per_group == 1
    frames = "each frame" if one else f"{budget.frames_per_group} frames"
    yield (
        f"{budget.num_weights / 1e9:.2f} B weights in bf16; {budget.group_tokens} visual tokens "
        f"and {budget.time_tokens} of time text for {frames}; "
        f"{budget.cache_bytes_per_position:,} B of cache a position"
    )
    yield f"{'frames':>8} {'positions':>10} {'weights':>9} {'cache':>9} {'tokens':>9} {'total':>9}"
    for num_frames in frame_counts:
        cost = budget.cost(num_frames)
        sizes = (cost.weight_bytes, cost.cache_bytes, cost.embedding_bytes, cost.total_bytes)
        columns = " ".join(f"{size / GIGABYTE:6.2f} GB" for size in sizes)
        yield f"{num_frames:>8,} {cost.num_positions:>10,} {columns}"
    room = int((memory_gb - workspace_gb) * GIGABYTE)
    limit = config.context_limit
    yield (
        f"of {memory_gb:g} GB, {workspace_gb:g} left for activations: at most "
        f"{budget.max_frames(room):,} frames with every token, "
        f"{budget.max_frames(room, context_limit=limit):,} with selection to {limit:,} positions"
    )
    yield f"every token of {budget.frames_within(limit):,} frames fits {limit:,} positions"


def _of_preset(name: str) -> tuple[ModelShape, ContextBudget]:
    shape = preset_shape(name)
    return shape, ContextBudget.of(shape)


def _of_folder(folder: Path) -> tuple[ModelShape, ContextBudget]:
    """Read a model's config, and its tokenizer for the length of a time text."""
    from transformers import AutoProcessor

    from vxp_model.models.processor import VideoXLProProcessor
    from vxp_model.models.video_xl_pro_config import VideoXLProConfig

    config = VideoXLProConfig.from_pretrained(folder)
    processor: VideoXLProProcessor = AutoProcessor.from_pretrained(folder)  # type: ignore[no-untyped-call]
    return config, ContextBudget.of(config, time_tokens=processor.time_tokens)


def _card_gb() -> float:
    """Return the memory of this machine's first GPU, or of a usual one."""
    if not has_cuda():
        return _USUAL_CARD_GB
    import torch

    return torch.cuda.get_device_properties(0).total_memory / GIGABYTE
