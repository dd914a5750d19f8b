"""What a model must do to be asked.

Shape suffixes: T frames of a piece, H x W pixels, C = 3 (red, green, blue).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vxp_model.errors import UserError
from vxp_model.eval.benchmarks.base import Prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class FramePlan:
    """Which frames of a video are shown: made once, stored, used by models and subtitles alike."""

    video: str
    """As `Question.video` names it."""
    frame_index: tuple[int, ...]
    """In presentation order, strictly increasing."""
    time_s: tuple[float, ...]
    """Of each, seconds since the video's first frame."""
    duration_s: float
    width_px: int
    height_px: int
    num_bytes: int
    """Of the file: one of another size is planned anew. 0: drawn frames."""


class DoesNotFitError(UserError):
    """A video or a question is too much for the memory; others may still be answered."""

    reason = "out_of_memory"
    """In answers."""


class FrameSource(Protocol):
    """A video whose frames are planned, and can be read."""

    plan: FramePlan

    def pieces(self, *, frame_px: int | None, piece_frames: int) -> Iterator[NDArray[np.uint8]]:
        """Read the planned frames, a few at a time; may be called again.

        Args:
            frame_px: side of the square to which frames are squashed; None: the video's own size.
            piece_frames: frames of a piece; the last may have fewer.

        Yields:
            frames_THWC: uint8.

        Raises:
            UnreadableVideoError: the video cannot be decoded.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a model says, and what it took."""

    text: str
    """Without the prompt's `reply_start`."""
    finish: str
    """'stop': it ended by itself; 'length': it was cut at `max_new_tokens`."""
    num_visual: int
    """Visual tokens of the video."""
    num_kept: int
    """Of those, how many the language model got."""
    kept_by_group: tuple[int, ...] | None = None
    """Visual tokens kept of each group of frames; None: all, or the model has no such thing."""
    log_probs: tuple[float, ...] | None = None
    """Of the prompt's choices, where likelihood decided."""
    seconds: Mapping[str, float]
    """By stage; no part of what must be the same on a rerun."""
    peak_bytes: int
    """Greatest memory so far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Continued:
    """How likely a model finds a given reply (teacher forcing)."""

    log_prob: float
    """Sum over the reply's tokens of their natural logarithms."""
    num_tokens: int
    is_greedy: bool
    """Whether every token is the likeliest after those before it."""


class EvalModel(Protocol):
    """A model that looks at a video once and answers any number of questions about it."""

    identity: Mapping[str, Any]
    """What the key of an answer holds of it: weights, precision, selector rate, ...; JSON."""
    frames_per_group: int
    """Frames that are encoded together; 1: each by itself."""

    def watch(self, source: FrameSource) -> Any:
        """Encode a video; what `answer` and `continued` take.

        Raises:
            UnreadableVideoError: it cannot be decoded.
            DoesNotFitError: the memory does not hold it.
        """
        ...

    def answer(self, watched: Any, prompts: Sequence[Prompt]) -> list[Reply]:
        """Reply to prompts about one video, each by itself; several may be run as one batch.

        Raises:
            UserError: a prompt does not fit the model.
            DoesNotFitError: the memory does not hold them.
        """
        ...

    def continued(self, watched: Any, prompt: Prompt, replies: Sequence[str]) -> list[Continued]:
        """Return how likely each of some replies is, one after another.

        Args:
            watched: see `answer`.
            prompt: see there; the replies follow its `reply_start`.
            replies: one token or more each.
        """
        ...
