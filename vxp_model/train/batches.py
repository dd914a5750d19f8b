"""From the loader's samples to what one step computes.

Shape suffixes: F frames of a micro-batch's clips, one after another; G groups, T frames of a group,
N tokens of a frame.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vxp_model.data.frames import FrameOptions
from vxp_model.data.loader import ShardLoader
from vxp_model.data.order import BatchRule, OrderRule
from vxp_model.data.sample import Batch, TrainSample
from vxp_model.data.seeded_draws import WindowRule, is_whole, mask_seed
from vxp_model.data.sources import Rows
from vxp_model.errors import UserError
from vxp_model.modules.frame_groups import FrameGrouper, FrameGroups
from vxp_model.modules.masking import seeded_noise
from vxp_model.settings.recot import ReCoTRecipe, TrainRecipe
from vxp_model.train.datasets import added
from vxp_model.train.distributed import DistributedContext


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroBatch:
    """What a process runs at once, on the CPU."""

    frames_FHWC: Tensor
    """uint8 RGB."""
    groups: FrameGroups
    noise_GTN: Tensor
    """Decides the masks."""
    whole_G: Tensor
    """bool: nothing of these groups is masked."""
    num_valid: int
    """Frames that count; the copies of an image count each."""
    sample_ids: list[str]
    by_dataset: dict[str, list[int]]
    """Samples, and tokens of their valid frames."""


def open_loader(
    recipe: TrainRecipe,
    rows: Sequence[Rows],
    *,
    image_px: int,
    num_samples: int,
    context: DistributedContext,
    window: WindowRule | None = None,
    length_window: int = 0,
) -> ShardLoader:
    """Open the shards for training.

    Args:
        recipe: the settings.
        rows: what is read.
        image_px: side of the tower's input; frames are squashed to it.
        num_samples: of an epoch.
        context: the processes.
        window: how much of a video is shown; None: all frames of its plan.
        length_window: samples among which those of like length come together; 0: off.
    """
    data = recipe.data
    return ShardLoader(
        rows,
        batch=BatchRule(max_samples=recipe.batch.micro_samples),
        order=OrderRule(
            seed=recipe.run.seed, epoch_samples=num_samples, length_window=length_window
        ),
        frames=FrameOptions(
            frame_px=image_px,
            decoder=data.decoder,
            fallback=data.fallback,
            timeout_s=data.timeout_s,
            memory_mib=data.memory_mib,
        ),
        window=window,
        rank=context.rank,
        world_size=context.size,
        num_workers=data.workers,
        prefetch_batches=data.prefetch_batches,
        pin_memory=context.device.type == "cuda",
        max_broken=data.max_broken,
        start_method="forkserver" if data.workers else None,  # a process with threads must not fork
    )


def recot_window(recipe: ReCoTRecipe) -> WindowRule:
    """Return how much of a video ReCoT shows."""
    return WindowRule(num_frames=recipe.data.window_frames, seed=recipe.run.seed)


def step_batches(loader: ShardLoader, count: int) -> Iterator[list[Batch]]:
    """Return each step's batches, epoch after epoch without end.

    The loader's state after a step's batches are out says that the step is done.
    """
    step: list[Batch] = []
    while True:
        for batch in loader:
            step.append(batch)
            if len(step) == count:
                yield step
                step = []


def collate(
    samples: Sequence[TrainSample],
    *,
    grouper: FrameGrouper,
    num_tokens: int,
    seed: int,
    unmasked_share: float,
) -> MicroBatch:
    """Collate samples.

    Args:
        samples: of images and videos, with frames.
        grouper: of the model.
        num_tokens: of a frame, N.
        seed: of the masks.
        unmasked_share: of the samples, that have none.
    """
    frames = [sample.frames_THWC for sample in samples if sample.frames_THWC is not None]
    if len(frames) != len(samples):
        raise UserError("a sample without frames reached the training: leave text shards out.")
    counts = [len(frames_THWC) for frames_THWC in frames]
    groups = grouper(counts, is_image=[sample.kind == "image" for sample in samples])
    seeds, whole = [], []
    for clip, sample in enumerate(samples):
        index = {"epoch": sample.epoch, "position": sample.position}
        num_groups = int((groups.clip_G == clip).sum())
        seeds += [mask_seed(seed, group=group, **index) for group in range(num_groups)]
        whole += [is_whole(seed, share=unmasked_share, **index)] * num_groups
    shape = (groups.frame_GT.shape[1], num_tokens)
    return MicroBatch(
        frames_FHWC=torch.cat(frames),
        groups=groups,
        noise_GTN=seeded_noise(seeds, shape=shape),
        whole_G=torch.tensor(whole),
        num_valid=int(groups.valid_GT.sum()),
        sample_ids=[sample.sample_id for sample in samples],
        by_dataset=added(
            {sample.dataset: (1, int(groups.valid_GT[groups.clip_G == clip].sum()) * num_tokens)}
            for clip, sample in enumerate(samples)
        ),
    )
