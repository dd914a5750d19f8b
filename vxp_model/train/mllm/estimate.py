"""What a training of Video-XL-Pro will take, part by part, before anything starts.

Arithmetic from shapes; nothing is allocated. Weights, gradients and optimizer are DeepSpeed's, as
its own estimators count them. Let P be all weights, T those that are trained, N the processes; in
bf16, bytes:

| | ZeRO-0 | 1 | 2 |
|---|---|---|---|
| weights | 2 P | 2 P | 2 P |
| gradients | 6 T | 6 T | 6 T / N |
| master copy and moments | 12 T | 12 T / N | 12 T / N |

With ZeRO-2 there is also the bucket that gradients are reduced in, as far as they are not all of
them here anyway. With offload, master copy, moments and 4 bytes of each gradient lie in main
memory, and of gradients the device has the bucket alone. In fp32 there are 4 P, 4 T and 12 T, for
ZeRO keeps a master copy all the same; without ZeRO there is none: 8 T. Without ZeRO gradients are
copied to be reduced, 500 M at once, when the activations are gone: what that takes beyond them.

Activations are what autograd keeps for the backward pass: of F frames in G groups, so many
positions, K label tokens, for the samples that run at once; numbers of 2 bytes in bf16. C is the
tower's width, M its MLP's; D, A, I the language model's width, that of its heads, its MLP's.

* pixels: in fp32, for the tower's second pass; none where the tower is frozen;
* tower: of one chunk of frames, 9 C + 2 M for each token of each layer: what goes into norms and
  matrices, queries, keys, values, the MLP before and after its GELU; frozen, of one layer;
* features: the tower's tokens and those of the 24 x 24 grid, of all frames;
* compressor: 16 C for each token that goes into a stage; with checkpointing C, and 16 C of a chunk;
* projector: 576 (C + 2 D) + 144 D a group;
* language model: 8 D + 5 A + 4 I a position and layer, frozen 6 D + 4 A + 3 I; with checkpointing
  D, and one layer whole;
* head: logits of label tokens, themselves and twice in fp32.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Final

from vxp_model.errors import UserError, require
from vxp_model.models.budget import TIME_TOKENS
from vxp_model.models.flops import PEAK_TFLOPS, MllmFlops
from vxp_model.models.parameter_counts import head_width, layer_matrices, part_parameters
from vxp_model.models.video_xl_pro_shape import ModelShape, preset_shape
from vxp_model.modules.shapes import STRIDES
from vxp_model.settings.mllm import LoraSettings, MllmRecipe
from vxp_model.train.mllm.lora_targets import adapted_names

GIB: Final = 2**30
SPARE_BYTES: Final = 2 * GIB
"""CUDA's own, and what the allocator cannot use."""
_REDUCED_AT_ONCE: Final = 500_000_000
"""Gradients that DeepSpeed copies at once to reduce them without ZeRO."""
_STAGE_NUMBERS: Final = 16
"""That a stage of the compressor keeps for each channel of each token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleShape:
    """What a sample is taken to be."""

    num_frames: int = 360
    """The paper's cap."""
    num_text: int = 512
    """Positions of text beside the times."""
    num_labels: int = 256
    """Label tokens."""
    num_answers: int = 1
    """That the text is divided among."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MllmEstimate:
    """What each process needs, and what a sample takes."""

    num_parameters: int
    num_trained: int
    num_sequences: int
    """That a sample becomes; see `data.turns`."""
    num_positions: int
    """Of all sequences of a sample, before selection."""
    device_bytes: dict[str, int]
    """By use."""
    host_bytes: int
    """Main memory for the optimizer."""
    sample_flop: float
    """Forward and backward, with every visual token."""

    @property
    def total_bytes(self) -> int:
        """Of the device."""
        return sum(self.device_bytes.values())


def estimate_mllm(
    recipe: MllmRecipe,
    shape: SampleShape,
    *,
    num_gpus: int = 1,
    config: ModelShape | None = None,
) -> MllmEstimate:
    """Compute what a training needs.

    Args:
        recipe: its settings.
        shape: of every sample.
        num_gpus: processes.
        config: of the model; None: that of `start.preset`, for no weights are read.

    Raises:
        UserError: no such preset; a number out of range.
    """
    require(num_gpus >= 1, f"--gpus must be 1 or more, got {num_gpus}.")
    for what, number in asdict(shape).items():
        require(number >= 1, f"{what} of a sample must be 1 or more, got {number}.")
    factor = recipe.start.temporal_factor
    config = config or preset_shape(recipe.start.preset, temporal_factor=factor)
    size = 4 if recipe.engine.precision == "fp32" else 2
    total, trained = count_parameters(config, recipe)
    groups = math.ceil(shape.num_frames / config.temporal_factor)
    visual = groups * (config.group_tokens + TIME_TOKENS)
    # The n-th of N sequences has n of N parts of the text, and all of the video.
    sequences = shape.num_answers if recipe.data.turns == "split" else 1
    lengths = [visual + shape.num_text * n // sequences for n in range(1, sequences + 1)]
    positions = sum(lengths)
    at_once = recipe.batch.micro_samples
    states, host_bytes = model_states(recipe, total, trained, size=size, num_gpus=num_gpus)
    activations = _vision(config, recipe, shape.num_frames, at_once, size=size)
    activations |= _text(config, recipe, positions * at_once, shape.num_labels * at_once, size=size)
    if recipe.engine.zero_stage == 0:
        copied = min(trained, _REDUCED_AT_ONCE) * size
        activations["reduction"] = max(0, copied - sum(activations.values()))
    flops = MllmFlops.of(config, recipe.trained_parts(), with_lora=recipe.lora.rank > 0)
    return MllmEstimate(
        num_parameters=total,
        num_trained=trained,
        num_sequences=sequences,
        num_positions=positions,
        device_bytes=states | activations | {"spare": SPARE_BYTES},
        host_bytes=host_bytes,
        sample_flop=flops.of_samples(
            num_frames=shape.num_frames,
            num_groups=groups,
            positions=lengths,
            num_labels=shape.num_labels,
        ),
    )


def count_parameters(config: ModelShape, recipe: MllmRecipe) -> tuple[int, int]:
    """Return how many parameters there are, LoRA's included, and how many of them are trained."""
    parts = part_parameters(config)
    trained = sum(
        parts[part]
        for part in recipe.trained_parts()
        if part != "language_model" or not recipe.lora.rank
    )
    own = _lora_parameters(config.text_config, recipe.lora)
    return sum(parts.values()) + own, trained + own


def model_states(
    recipe: MllmRecipe, total: int, trained: int, *, size: int, num_gpus: int
) -> tuple[dict[str, int], int]:
    """Return what weights, gradients and optimizer take.

    Args:
        recipe: says how they are divided.
        total: parameters.
        trained: of them.
        size: bytes of a number.
        num_gpus: processes.

    Returns:
        device_bytes: of each process, by use.
        host_bytes: of each process, in main memory.
    """
    engine = recipe.engine
    gradients = trained * (6 if size == 2 else 4)  # bf16's are added up in fp32
    bucket = 0
    if engine.zero_stage == 2:
        bucket = min((engine.bucket_mib << 20) // 4, trained) * size
        gradients = min(gradients // num_gpus + bucket, gradients)
    has_master = size == 2 or engine.zero_stage > 0
    optimizer = trained * (12 if has_master else 8) // (num_gpus if engine.zero_stage else 1)
    if engine.offload == "none":
        return {"weights": total * size, "gradients": gradients, "optimizer": optimizer}, 0
    on_device = bucket or trained * size  # ZeRO-1 keeps them all
    device = {"weights": total * size, "gradients": on_device, "optimizer": 0}
    return device, optimizer + trained * 4 // num_gpus


def describe_mllm(
    result: MllmEstimate,
    shape: SampleShape,
    *,
    gpu: str,
    utilisation: float,
    num_gpus: int,
    num_samples: int | None,
) -> str:
    """Return it in words, for the terminal.

    Args:
        result: of `estimate_mllm`.
        shape: given to it.
        gpu: a name in PEAK_TFLOPS.
        utilisation: of its peak, in (0, 1].
        num_gpus: given to `estimate_mllm`.
        num_samples: of the training; None: its hours are not told.

    Raises:
        UserError: no such GPU; a number out of range.
    """
    if gpu not in PEAK_TFLOPS:
        raise UserError(f"unknown GPU {gpu!r}. Known: {', '.join(PEAK_TFLOPS)}.")
    require(0 < utilisation <= 1, f"--utilisation must be in (0, 1], got {utilisation}.")
    seconds = result.sample_flop / (PEAK_TFLOPS[gpu] * 1e12 * utilisation)
    peak = f"{utilisation:.0%} of an {gpu.upper()}'s {PEAK_TFLOPS[gpu]:g} TFLOP/s"
    sequences = f"{result.num_sequences} sequences of " if result.num_sequences > 1 else ""
    rows = [
        ("parameters", f"{result.num_parameters:,}, {result.num_trained:,} of them trained"),
        ("a sample", f"{shape.num_frames} frames, {sequences}{result.num_positions:,} positions"),
        ("operations", f"{result.sample_flop:.3g} FLOP a sample"),
        ("seconds", f"{seconds:.3g} a sample, at {peak}"),
        ("GPU memory", f"{_gib(result.total_bytes)}, each of {num_gpus}"),
        *((f"  {use}", _gib(size)) for use, size in result.device_bytes.items()),
        ("main memory", f"{_gib(result.host_bytes)} for the optimizer, each"),
    ]
    if num_samples is not None:
        hours = seconds * num_samples / 3600
        rows.append(
            ("GPU hours", f"{hours:,.3g} for {num_samples:,} samples, {hours / num_gpus:,.3g} each")
        )
    return "\n".join(f"{name:<18} {words}" for name, words in rows)


def tower_layer_numbers(width: int, mlp_width: int) -> int:
    """Return how many numbers a layer of the tower keeps for a token."""
    return 9 * width + 2 * mlp_width


def text_layer_numbers(text: Any, *, is_frozen: bool = False) -> int:
    """Return how many numbers a layer of the language model keeps for a position.

    Args:
        text: the language model's config.
        is_frozen: nothing of it is trained: what goes into its matrices is not kept.
    """
    heads = text.num_attention_heads * head_width(text)
    if is_frozen:
        return int(6 * text.hidden_size + 4 * heads + 3 * text.intermediate_size)
    return int(8 * text.hidden_size + 5 * heads + 4 * text.intermediate_size)


def _lora_parameters(text: Any, rule: LoraSettings) -> int:
    if not rule.rank:
        return 0
    matrices = {
        f"model.layers.{layer}.{name}": sizes
        for layer in range(text.num_hidden_layers)
        for name, sizes in layer_matrices(text).items()
    }
    if not text.tie_word_embeddings:
        matrices["lm_head"] = (text.hidden_size, text.vocab_size)
    names = adapted_names(rule, matrices=matrices, modules=matrices)
    return rule.rank * sum(sum(matrices[name]) for name in names)


def _vision(
    config: ModelShape, recipe: MllmRecipe, sample_frames: int, samples: int, *, size: int
) -> dict[str, int]:
    vision, trained = config.vision, recipe.trained_parts()
    frames = sample_frames * samples
    chunk = min(recipe.chunk_frames or config.chunk_frames, frames)
    patches, indices, width = vision.grid**2, config.grid**2, vision.width
    groups = samples * math.ceil(sample_frames / config.temporal_factor)
    trains_tower = "tower" in trained
    layers = vision.layer if trains_tower else 1
    layer = tower_layer_numbers(width, vision.mlp_width)
    kept = (width + 2 * config.text_width) * indices + config.text_width * config.group_tokens
    return {
        "pixels": frames * 3 * vision.image_px**2 * 4 if trains_tower else 0,
        "tower": chunk * patches * layers * layer * size,
        "features": (patches + indices) * frames * width * size,
        "compressor": _compressor(config, recipe, frames, chunk) * size,
        "projector": groups * kept * size,
    }


def _compressor(config: ModelShape, recipe: MllmRecipe, frames: int, chunk: int) -> int:
    """Count the numbers that the compressor keeps; none where nothing up to it is trained."""
    if config.dts is None or not {"tower", "dts"} & set(recipe.trained_parts()):
        return 0
    into = config.grid**2 * config.vision.width  # of a frame that goes into a stage
    left, stages = frames, 0
    for stride in STRIDES[config.temporal_factor]:
        stages += left
        left = -(-left // stride)
    if recipe.checkpoint_layers:
        return into * (stages + _STAGE_NUMBERS * chunk)
    return into * _STAGE_NUMBERS * stages


def _text(
    config: ModelShape, recipe: MllmRecipe, positions: int, labels: int, *, size: int
) -> dict[str, int]:
    text: Any = config.text_config
    is_frozen = "language_model" not in recipe.trained_parts()
    layer, layers = text_layer_numbers(text, is_frozen=is_frozen), text.num_hidden_layers
    kept = layers * text.hidden_size + layer if recipe.checkpoint_layers else layers * layer
    return {
        "language model": positions * kept * size,
        "head": labels * text.vocab_size * (size + 8),
    }


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / GIB:,.2f} GiB"
