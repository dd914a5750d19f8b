"""What a video costs the language model: frames to positions to bytes, and back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Self

from vxp_model.errors import UserError
from vxp_model.models.parameter_counts import head_width, part_parameters
from vxp_model.models.video_xl_pro_shape import ModelShape

TIME_TOKENS = 10
"""Tokens of a time text such as 'Time 0012.3s:' with Qwen's tokenizer below 10,000 seconds."""

GIGABYTE = 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a prompt takes while the model answers."""

    num_frames: int
    num_visual: int
    """Visual tokens before selection."""
    num_time: int
    """Positions of time text before selection."""
    num_positions: int
    """Positions that the language model gets: text, visual tokens and time text after selection,
    and room for the answer."""
    weight_bytes: int
    cache_bytes: int
    """Keys and values of all positions."""
    embedding_bytes: int
    """Of every visual token and time text, before selection: kept for the next question."""

    @property
    def total_bytes(self) -> int:
        """Weights, cache and embeddings: what stays in memory; activations come on top."""
        return self.weight_bytes + self.cache_bytes + self.embedding_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextBudget:
    """Arithmetic of one model at one precision."""

    num_weights: int
    """Parameters."""
    cache_bytes_per_position: int
    embedding_bytes_per_position: int
    bytes_per_number: int
    frames_per_group: int
    group_tokens: int
    time_tokens: int = TIME_TOKENS
    """Of a group; measure it with the model's tokenizer where it is not Qwen's."""

    @classmethod
    def of(
        cls, config: ModelShape, *, bytes_per_number: int = 2, time_tokens: int = TIME_TOKENS
    ) -> Self:
        """Compute the numbers from a model's shape.

        Args:
            config: of the model.
            bytes_per_number: 2 for bf16, 4 for fp32.
            time_tokens: positions of a group's time text.
        """
        text: Any = config.text_config
        per_layer = 2 * text.num_key_value_heads * head_width(text)
        return cls(
            num_weights=sum(part_parameters(config).values()),
            cache_bytes_per_position=text.num_hidden_layers * per_layer * bytes_per_number,
            embedding_bytes_per_position=text.hidden_size * bytes_per_number,
            bytes_per_number=bytes_per_number,
            frames_per_group=config.temporal_factor,
            group_tokens=config.group_tokens,
            time_tokens=time_tokens,
        )

    def cost(self, num_frames: int, *, num_text: int = 0, context_limit: int | None = None) -> Cost:
        """Price a video.

        Args:
            num_frames: frames shown.
            num_text: positions of other text and of the answer.
            context_limit: what the selector keeps the prompt within; None: everything goes in.
        """
        num_groups = math.ceil(num_frames / self.frames_per_group)
        num_visual, num_time = num_groups * self.group_tokens, num_groups * self.time_tokens
        num_positions = num_text + num_visual + num_time
        if context_limit is not None:
            num_positions = min(num_positions, context_limit)
        return Cost(
            num_frames=num_frames,
            num_visual=num_visual,
            num_time=num_time,
            num_positions=num_positions,
            weight_bytes=self.num_weights * self.bytes_per_number,
            cache_bytes=num_positions * self.cache_bytes_per_position,
            embedding_bytes=(num_visual + num_time) * self.embedding_bytes_per_position,
        )

    def max_frames(
        self, memory_bytes: int, *, num_text: int = 0, context_limit: int | None = None
    ) -> int:
        """Find the most frames, in whole groups, whose cost fits.

        Args:
            memory_bytes: for weights, cache and embeddings; leave room for activations.
            num_text: see `cost`.
            context_limit: see `cost`.

        Raises:
            UserError: not even one group fits.
        """

        def fits(num_groups: int) -> bool:
            frames = num_groups * self.frames_per_group
            cost = self.cost(frames, num_text=num_text, context_limit=context_limit)
            return cost.total_bytes <= memory_bytes

        if not fits(1):
            need = self.cost(self.frames_per_group, num_text=num_text).total_bytes
            raise UserError(
                f"{memory_bytes / GIGABYTE:.1f} GB hold no model of {need / GIGABYTE:.1f} GB with "
                "one group of frames. Take a larger card, or a smaller model."
            )
        low, high = 1, 2
        while fits(high):
            low, high = high, high * 2
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if fits(middle) else (low, middle)
        return low * self.frames_per_group

    def frames_within(self, context_limit: int, *, num_text: int = 0) -> int:
        """Count the frames, in whole groups, that fit a limit of positions without selection."""
        room = max(context_limit - num_text, 0)
        return room // (self.group_tokens + self.time_tokens) * self.frames_per_group
