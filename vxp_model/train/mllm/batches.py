"""From the loader's samples to what a step of Video-XL-Pro's training computes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from vxp_data.conversation import Role, Turn
from vxp_model.data.sample import TrainSample
from vxp_model.data.seeded_draws import selector_seed
from vxp_model.data.visuals import Visual
from vxp_model.errors import UserError
from vxp_model.models.processor import Clip, Learns, Prompt, VideoXLProProcessor
from vxp_model.models.turns import visual_parts
from vxp_model.models.visual_sequence import IGNORED_LABEL
from vxp_model.settings.mllm import Turns
from vxp_model.train.datasets import added


@dataclass(frozen=True, slots=True, kw_only=True)
class MllmBatch:
    """What a process runs at once, on the CPU."""

    inputs: dict[str, Tensor]
    """For the model's `forward`."""
    selector_seeds: list[int]
    """One for each sequence."""
    num_sequences: list[int]
    """Of each sample: 1, or one for each of its answers. They lie beside each other."""
    num_labels: int
    """Label tokens; those of padding samples do not count and are none."""
    num_positions: int
    """Of all sequences, before selection."""
    sample_ids: list[str]
    """Of the samples that count."""
    tasks: list[str]
    """Of every sequence, its sample's."""
    by_dataset: dict[str, list[int]]
    """Samples that count, and positions of their sequences, before selection."""


def collate(
    samples: Sequence[TrainSample],
    *,
    processor: VideoXLProProcessor,
    seed: int,
    turns: Turns = "first",
) -> MllmBatch:
    """Collate samples.

    Args:
        samples: as the loader gives them.
        processor: of the model.
        seed: of what the selector leaves out.
        turns: 'first': a sample is one sequence; 'split': it is one for each of its answers, which
            ends with it and has it alone as labels. Frames are encoded once all the same.

    Raises:
        UserError: a sample has no answer to learn from.
    """
    prompts: list[Prompt] = []
    visuals: list[Visual] = []
    seeds: list[int] = []
    shown: list[int] = []
    counts: list[int] = []
    for sample in samples:
        own = _visuals(sample)
        clips = [Clip(time_s_T=v.time_s_T.tolist(), is_image=v.is_image) for v in own]
        sequences = _sequences(sample, turns, shows_media=bool(own))
        for number, conversation in enumerate(sequences):
            num_clips = len(visual_parts(conversation))
            learns: Learns = "all" if turns == "first" else "last"
            prompts.append(
                processor.prompt(
                    conversation, clips[:num_clips], add_generation_prompt=False, learns=learns
                )
            )
            shown += range(len(visuals), len(visuals) + num_clips)
            index = {"epoch": sample.epoch, "position": sample.position}
            seeds.append(selector_seed(seed, sequence=number, **index))
        visuals += own
        counts.append(len(sequences))
    inputs = dict(processor.batch(prompts, visuals))
    if shown != list(range(len(visuals))):
        inputs["clip_index"] = torch.tensor(shown, dtype=torch.int64)
    owners = [sample for sample, count in zip(samples, counts, strict=True) for _ in range(count)]
    for row, sample in enumerate(owners):
        if sample.is_padding:
            inputs["labels"][row] = IGNORED_LABEL
    return MllmBatch(
        inputs=inputs,
        selector_seeds=seeds,
        num_sequences=counts,
        num_labels=int((inputs["labels"][:, 1:] != IGNORED_LABEL).sum()),
        num_positions=int(inputs["attention_mask"].sum()),
        sample_ids=[sample.sample_id for sample in samples if not sample.is_padding],
        tasks=[sample.task for sample in owners],
        by_dataset=added(_counted(samples, counts, prompts)),
    )


def _counted(
    samples: Sequence[TrainSample], counts: Sequence[int], prompts: Sequence[Prompt]
) -> Iterator[dict[str, tuple[int, int]]]:
    """Return each sample that counts, and the positions of its sequences, under its dataset."""
    left = iter(prompts)
    for sample, count in zip(samples, counts, strict=True):
        num_positions = sum(len(prompt.ids) for prompt in islice(left, count))
        if not sample.is_padding:
            yield {sample.dataset: (1, num_positions)}


def _sequences(
    sample: TrainSample, turns: Turns, *, shows_media: bool
) -> list[list[dict[str, Any]]]:
    """Write a sample as the conversations that are learned from.

    Raises:
        UserError: it has no answer.
    """
    whole = messages(sample.conversation, shows_media=shows_media)
    answers = [number for number, turn in enumerate(whole) if turn["role"] == "assistant"]
    if not answers:
        raise UserError(
            f"sample {sample.sample_id!r} has no answer to learn from: leave such rows out of "
            "the shards."
        )
    return [whole] if turns == "first" else [whole[: number + 1] for number in answers]


def _visuals(sample: TrainSample) -> list[Visual]:
    """Return a sample's videos and images, in order; none where its frames are not read."""
    if sample.frames_THWC is None:
        return []
    sizes = [medium.num_frames for medium in sample.media]
    return [
        Visual(frames_THWC=frames_THWC, time_s_T=time_s_T, is_image=medium.kind == "image")
        for medium, frames_THWC, time_s_T in zip(
            sample.media,
            torch.split(sample.frames_THWC, sizes),
            torch.split(sample.time_s_T, sizes),
            strict=True,
        )
    ]


def messages(conversation: Sequence[Turn], *, shows_media: bool = True) -> list[dict[str, Any]]:
    """Write a sample's conversation as the processor takes it.

    Blank turns go, and so do turns without a medium after the last answer: nothing is learnt of
    them.

    Args:
        conversation: of the sample.
        shows_media: False where its frames are not read: the places of media go.
    """
    turns = [turn for turn in conversation if turn.text.strip() or (shows_media and turn.num_media)]
    while turns and turns[-1].role is not Role.ASSISTANT and not turns[-1].num_media:
        turns.pop()
    return [_message(turn, shows_media=shows_media) for turn in turns]


def _message(turn: Turn, *, shows_media: bool) -> dict[str, Any]:
    """Write a turn; a line break after a medium goes, since the processor writes one itself."""
    if not turn.num_media or not shows_media:
        return {"role": turn.role.value, "content": turn.text}
    parts: list[dict[str, Any]] = []
    for part in turn.parts:
        if part.type != "text":
            parts.append({"type": part.type, part.type: None})
            continue
        text = part.text.removeprefix("\n") if parts else part.text
        if text:
            parts.append({"type": "text", "text": text})
    return {"role": turn.role.value, "content": parts}
