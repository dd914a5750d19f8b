"""What is kept of a watched video, and what asking about it gives.

Shape suffixes: F frames of a video, G groups, N tokens of a group, D the language model's width.
"""

from __future__ import annotations

import resource
import sys
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedVideo:
    """What is kept of a video."""

    uri: str
    tokens_GND: Tensor
    time_s_F: tuple[float, ...]
    """When the frames that were looked at are shown, seconds."""
    duration_s: float
    encode_s: float
    """Seconds it took."""
    peak_bytes: int
    """Greatest memory until then; see `Answer.peak_bytes`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer, and what it took; of several that were given as one batch, its share."""

    text: str
    """Without what it was made to begin with."""
    finish: str
    """'stop': it ended by itself; 'length': it was cut at `max_new_tokens`."""
    num_frames: int
    num_visual: int
    """Visual tokens of the video."""
    num_kept: int
    """Visual tokens that the language model got."""
    kept_G: tuple[int, ...]
    """Of each group of frames."""
    num_positions: int
    """Of the prompt, after selection."""
    num_cached: int
    """Positions of it whose keys and values were kept: one less, or fewer with a window."""
    first_kept_s: float
    """Time of the first group of which a token was kept."""
    last_kept_s: float
    num_new: int
    """Tokens of the answer."""
    select_s: float
    prefill_s: float
    decode_s: float
    prefill_tokens_per_s: float
    decode_tokens_per_s: float
    peak_bytes: int
    """Greatest memory so far: of the device; on a CPU, of the process."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name, but for `kept_G`, which is as long as the video."""
        return {name: value for name, value in asdict(self).items() if name != "kept_G"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Continuation:
    """How likely a given reply is, after a prompt."""

    log_prob: float
    """Sum over its tokens of their natural logarithms; its end is not asked for."""
    num_tokens: int
    is_greedy: bool
    """Whether every token is the likeliest after those before it."""


def peak_bytes(device: torch.device) -> int:
    """Return the greatest memory so far: allocated on a GPU, else resident in this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    # KiB on Linux, bytes on macOS.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10


def wait_for(device: torch.device) -> None:
    """Wait until a GPU has done what it was given; a clock would stop before it otherwise."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
