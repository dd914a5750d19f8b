"""From the loader's samples to what a step of Video-XL-Pro's training computes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from vxp_model.data.conversation import Turn
from vxp_model.data.sample import TrainSample
from vxp_model.data.seeded_draws import selector_seed
from vxp_model.data.visuals import Visual
from vxp_model.errors import UserError
from vxp_model.models.processor import Clip, VideoXLProProcessor

_MARKERS = ("<image>", "<video>")


@dataclass(frozen=True, slots=True, kw_only=True)
class MllmBatch:
    """What a process runs at once, on the CPU."""

    inputs: dict[str, Tensor]
    """For the model's `forward`."""
    selector_seeds: list[int]
    num_labels: int
    """Label tokens; those of padding samples do not count and are none."""
    num_positions: int
    """Of all prompts, before selection."""
    sample_ids: list[str]
    """Of the samples that count."""
    tasks: list[str]
    """Of every sample."""


def collate(
    samples: Sequence[TrainSample], *, processor: VideoXLProProcessor, seed: int
) -> MllmBatch:
    """Collate samples.

    Args:
        samples: as the loader gives them.
        processor: of the model.
        seed: of what the selector leaves out.

    Raises:
        UserError: a sample has no answer to learn from.
    """
    prompts, visuals = [], []
    for sample in samples:
        own: list[Visual] = []
        if sample.frames_THWC is not None:
            own = [
                Visual(
                    frames_THWC=sample.frames_THWC,
                    time_s_T=sample.time_s_T,
                    is_image=sample.kind == "image",
                )
            ]
        clips = [Clip(time_s_T=v.time_s_T.tolist(), is_image=v.is_image) for v in own]
        turns = messages(sample.conversation, kind=sample.kind if own else "text")
        if not any(turn["role"] == "assistant" for turn in turns):
            raise UserError(
                f"sample {sample.sample_id!r} has no answer to learn from: leave such rows out of "
                "the shards."
            )
        prompts.append(processor.prompt(turns, clips, add_generation_prompt=False))
        visuals += own
    inputs = dict(processor.batch(prompts, visuals))
    for row, sample in enumerate(samples):
        if sample.is_padding:
            inputs["labels"][row] = -100
    return MllmBatch(
        inputs=inputs,
        selector_seeds=[
            selector_seed(seed, epoch=sample.epoch, position=sample.position) for sample in samples
        ],
        num_labels=int((inputs["labels"][:, 1:] != -100).sum()),
        num_positions=int(inputs["attention_mask"].sum()),
        sample_ids=[sample.sample_id for sample in samples if not sample.is_padding],
        tasks=[sample.task for sample in samples],
    )


def messages(conversation: Sequence[Turn], *, kind: str) -> list[dict[str, Any]]:
    """Write a sample's conversation as the processor takes it.

    The medium comes first in the user's first turn; its markers in the text go. Where the model
    begins, as in a caption without a question, the user's turn is the medium alone.

    Args:
        conversation: of the sample.
        kind: 'video', 'image' or 'text'.
    """
    turns: list[dict[str, Any]] = []
    for turn in conversation:
        text = turn.text
        for marker in _MARKERS:
            text = text.replace(f"{marker}\n", "").replace(f"\n{marker}", "").replace(marker, "")
        turns.append({"role": "user" if turn.speaker == "human" else "assistant", "content": text})
    if not turns or turns[0]["role"] != "user":
        turns.insert(0, {"role": "user", "content": ""})
    if kind != "text":
        parts: list[dict[str, Any]] = [{"type": kind, kind: None}]
        if turns[0]["content"]:
            parts.append({"type": "text", "text": turns[0]["content"]})
        turns[0]["content"] = parts
    return turns
