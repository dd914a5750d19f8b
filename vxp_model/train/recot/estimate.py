"""What a training will take, before anything starts: operations, hours, memory.

Operations are counted as matmuls and convolutions, two for each multiply-add; the rest is small.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from vxp_model.data.order import part_counts
from vxp_model.errors import UserError, require
from vxp_model.models.flops import PEAK_TFLOPS, recot_flop_per_group, tower_flop_per_frame
from vxp_model.models.parameter_counts import recot_parameters, tower_parameters
from vxp_model.models.recot_config import ReCoTConfig
from vxp_model.modules.shapes import KERNEL, STRIDES
from vxp_model.settings.recot import ReCoTRecipe
from vxp_model.train.mixture import accumulation, epoch_samples, rows_of
from vxp_model.train.model_config import model_config

_KEPT_BY_ATTENTIONS: Final = 14
"""Numbers that autograd keeps for each channel of each token."""
_SPARE_GIB: Final = 2.0
"""CUDA's own, and what the allocator cannot use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochContent:
    """What an epoch holds."""

    images: int
    videos: int
    frames: int
    """Frames of the videos' windows."""
    groups: int
    """Of images and videos."""

    @property
    def samples(self) -> int:
        """Images and videos."""
        return self.images + self.videos


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """All that `estimate` says."""

    steps: int
    content: EpochContent
    """Of the whole training."""
    tokens: int
    """That enter the compressor, padding and copies included."""
    tower_flop: float
    trained_flop: float
    """Forward and backward."""
    gpu: str
    utilisation: float
    num_gpus: int
    gpu_hours: float
    memory_bytes: dict[str, int]
    """Of one GPU, by use."""
    host_bytes: int
    """Main memory for the optimizer, of one process."""
    cache_bytes: int
    """What the tower's tokens of one epoch's frames take on disk."""


def estimate_recot(
    recipe: ReCoTRecipe,
    *,
    gpu: str,
    utilisation: float,
    num_gpus: int = 1,
    num_samples: int | None = None,
) -> Estimate:
    """Estimate a training.

    Args:
        recipe: the settings.
        gpu: a name in PEAK_TFLOPS.
        utilisation: of its peak, in (0, 1].
        num_gpus: processes.
        num_samples: of an epoch; a video then has a full window, and each source's share follows
            from its weight. None: the recipe's shards are read.

    Raises:
        UserError: the shards cannot be read; no such GPU; a number out of range.
    """
    if gpu not in PEAK_TFLOPS:
        raise UserError(f"unknown GPU {gpu!r}. Known: {', '.join(PEAK_TFLOPS)}.")
    require(0 < utilisation <= 1, f"--utilisation must be in (0, 1], got {utilisation}.")
    accumulation(recipe.batch, num_gpus)
    config = model_config(recipe.model)
    epoch = (
        _epoch_of_shards(recipe, config)
        if num_samples is None
        else _epoch_as_if(recipe, config, num_samples)
    )
    steps = recipe.total_steps(epoch.samples)
    share = steps * recipe.batch.global_samples / epoch.samples
    content = EpochContent(
        images=round(epoch.images * share),
        videos=round(epoch.videos * share),
        frames=round(epoch.frames * share),
        groups=round(epoch.groups * share),
    )
    tower_flop = tower_flop_per_frame(config.vision) * (content.frames + content.images)
    again = 1 if recipe.model.checkpoint_stages else 0
    trained_flop = recot_flop_per_group(config) * (3 + again) * content.groups
    memory, host_bytes = _memory(recipe, config, epoch, num_gpus)
    width, grid = config.vision.width, config.grid
    return Estimate(
        steps=steps,
        content=content,
        tokens=content.groups * config.dts.temporal_factor * grid**2,
        tower_flop=tower_flop,
        trained_flop=trained_flop,
        gpu=gpu,
        utilisation=utilisation,
        num_gpus=num_gpus,
        gpu_hours=(tower_flop + trained_flop) / (PEAK_TFLOPS[gpu] * 1e12 * utilisation) / 3600,
        memory_bytes=memory,
        host_bytes=host_bytes,
        cache_bytes=(epoch.frames + epoch.images) * width * grid**2 * 2,
    )


def activation_bytes_per_group(config: ReCoTConfig, *, bf16: bool, checkpoint: bool) -> int:
    """Compute what one group's forward pass leaves for its backward pass.

    Of T frames, N tokens each, C channels: 2 T N C + N C of masking and loss, in fp32; in each of
    the compressor's stages and in the decoder 14 C for a token of its attentions, and the padded
    input of its convolution. With checkpointing, what the stages take in instead, and in the
    backward pass what one of them keeps: that of the largest.
    """
    width, tokens, factor = config.dts.width, config.grid**2, config.dts.temporal_factor
    stages, inputs, frames = [], tokens * width, factor
    for stride in STRIDES[factor]:
        stages.append(_stage_numbers(config, attended=frames, convolved=_padded(frames, stride)))
        inputs += frames * tokens * width
        frames //= stride
    stages.append(_stage_numbers(config, attended=factor, convolved=_padded(factor, 1)))
    numbers = inputs + max(stages) if checkpoint else sum(stages)
    return 4 * (2 * factor + 1) * tokens * width + (2 if bf16 else 4) * numbers


def describe(result: Estimate) -> str:
    """Return it in words, for the terminal."""
    content, memory, hours = result.content, result.memory_bytes, result.gpu_hours
    total = result.tower_flop + result.trained_flop
    mean_frames = content.frames / max(content.videos, 1)
    share, peak = f"{result.utilisation:.0%}", PEAK_TFLOPS[result.gpu]
    rows = [
        ("steps", f"{result.steps:,}"),
        ("samples", f"{content.samples:,}: {content.images:,} images, {content.videos:,} videos"),
        ("frames of a video", f"{mean_frames:.1f}"),
        ("groups", f"{content.groups:,}"),
        ("tokens", f"{result.tokens:,}"),
        ("operations", f"{total:.3g} FLOP, {result.tower_flop / total:.0%} of them the tower's"),
        ("GPU hours", f"{hours:,.3g} at {share} of an {result.gpu.upper()}'s {peak:g} TFLOP/s"),
        ("hours", f"{hours / result.num_gpus:,.3g} on {result.num_gpus}"),
        ("GPU memory", f"{_gib(sum(memory.values()))}, each of {result.num_gpus}"),
        *((f"  {name}", _gib(size)) for name, size in memory.items()),
        ("main memory", f"{_gib(result.host_bytes)} for the optimizer, each"),
        ("feature cache", f"{_gib(result.cache_bytes)} for the frames of one epoch, if wanted"),
    ]
    return "\n".join(f"{name:<18} {words}" for name, words in rows)


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / 2**30:,.2f} GiB"


def _epoch_of_shards(recipe: ReCoTRecipe, config: ReCoTConfig) -> EpochContent:
    parts = rows_of(recipe)
    num_samples = epoch_samples(recipe, parts)
    sizes = [len(rows.row_N) for rows in parts]
    counts = part_counts(sizes, [rows.source.weight for rows in parts], num_samples)
    images = videos = frames = groups = 0.0
    for rows, count, size in zip(parts, counts, sizes, strict=True):
        still_N = np.isin(rows.row_N, rows.table.rows_of(["image"]))
        shown_N = np.minimum(rows.table.num_frames_N[rows.row_N], recipe.data.window_frames)
        groups_N = -(-shown_N // config.dts.temporal_factor)
        times = count / size
        images += times * still_N.sum()
        videos += times * (~still_N).sum()
        frames += times * shown_N[~still_N].sum()
        groups += times * groups_N.sum()
    return _rounded(images, videos, frames, groups)


def _epoch_as_if(recipe: ReCoTRecipe, config: ReCoTConfig, num_samples: int) -> EpochContent:
    sources = recipe.data.sources
    if any(len(source.kinds) > 1 for source in sources):
        raise UserError(
            "--samples needs sources of one kind each: give every source of data.sources kinds "
            "and weight."
        )
    weights = [source.weight or 1.0 for source in sources]
    images = num_samples * sum(
        weight for source, weight in zip(sources, weights, strict=True) if "image" in source.kinds
    ) / sum(weights)  # fmt: skip
    videos = num_samples - images
    window = recipe.data.window_frames
    groups = images + videos * -(-window // config.dts.temporal_factor)
    return _rounded(images, videos, videos * window, groups)


def _rounded(images: float, videos: float, frames: float, groups: float) -> EpochContent:
    return EpochContent(
        images=round(images), videos=round(videos), frames=round(frames), groups=round(groups)
    )


def _memory(
    recipe: ReCoTRecipe, config: ReCoTConfig, epoch: EpochContent, num_gpus: int
) -> tuple[dict[str, int], int]:
    engine = recipe.engine
    bf16 = engine.precision != "fp32"
    size = 2 if bf16 else 4
    trained = recot_parameters(config)
    optimizer = trained * (12 if bf16 else 8)  # master copy and two moments; or the moments
    if engine.zero_stage:
        optimizer //= num_gpus
    gradients = trained * 4 // (num_gpus if engine.zero_stage == 2 else 1) + trained * size
    largest = -(-recipe.data.window_frames // config.dts.temporal_factor)
    groups = recipe.batch.micro_samples * (largest if epoch.videos else 1)
    kept = activation_bytes_per_group(config, bf16=bf16, checkpoint=recipe.model.checkpoint_stages)
    vision = config.vision
    chunk = recipe.tower.chunk_frames * vision.grid**2 * (4 * vision.width + 2 * vision.mlp_width)
    memory = {
        "tower": tower_parameters(vision) * size,
        "its pass": chunk * size,
        "weights": trained * size,
        "gradients": gradients,
        "optimizer": 0 if engine.offload != "none" else optimizer,
        "activations": kept * groups,
        "spare": round(_SPARE_GIB * 2**30),
    }
    return memory, optimizer if engine.offload != "none" else 0


def _stage_numbers(config: ReCoTConfig, *, attended: int, convolved: int) -> int:
    """Count what both attentions on so many frames, and a convolution of so many, keep."""
    dts, tokens = config.dts, config.grid**2
    norms = 2 * tokens * dts.norm_groups  # means and deviations of the norm over time
    return (
        _KEPT_BY_ATTENTIONS * attended * tokens * dts.width
        + convolved * (config.grid + KERNEL - 1) ** 2 * dts.width
        + norms
    )


def _padded(frames: int, stride: int) -> int:
    """Return the frames that a convolution sees: with what is put before and behind."""
    return frames // 2 + 1 if stride == 4 else frames + (1 if stride == 2 else 2)
