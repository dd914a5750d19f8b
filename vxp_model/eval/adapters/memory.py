"""Running out of a GPU's memory, as an error that a run can go on after."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from vxp_model.eval.adapters.base import (
    Continued,
    DoesNotFitError,
    EvalModel,
    FrameSource,
    Reply,
)
from vxp_model.eval.benchmarks.base import Prompt


class WithinMemory:
    """A model whose lack of memory is an error of one video or question; see `EvalModel`."""

    def __init__(self, model: EvalModel) -> None:
        self._model = model
        self.identity = model.identity
        self.frames_per_group = model.frames_per_group

    def watch(self, source: FrameSource) -> Any:
        """Encode a video."""
        with _fitting(f"{source.plan.video}, {len(source.plan.frame_index)} frames"):
            return self._model.watch(source)

    def answer(self, watched: Any, prompts: Sequence[Prompt]) -> list[Reply]:
        """Reply to prompts about one video."""
        with _fitting(f"{len(prompts)} questions at once"):
            return self._model.answer(watched, prompts)

    def continued(self, watched: Any, prompt: Prompt, replies: Sequence[str]) -> list[Continued]:
        """Return how likely each of some replies is."""
        with _fitting("a question"):
            return self._model.continued(watched, prompt, replies)


@contextmanager
def _fitting(what: str) -> Iterator[None]:
    message = None
    try:
        yield
    except torch.OutOfMemoryError as error:
        message = str(error).partition(". ")[0]
    if message is None:
        return
    # Behind the handler: what it handled holds on to the very tensors.
    torch.cuda.empty_cache()
    raise DoesNotFitError(
        f"{what}: {message}. Show fewer frames (frames.max_frames), ask fewer questions at once "
        "(answer.batch), or let the selector keep less (answer.keep_ratio)."
    )
