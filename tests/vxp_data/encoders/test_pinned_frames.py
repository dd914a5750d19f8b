"""Batches on their way to a device: whole, filled up with black, not overwritten by the next."""

from __future__ import annotations

import numpy as np
import pytest

from support.later import LATER
from vxp_data.encoders.pinned_frames import PinnedFrames

if LATER:
    import torch


def test_every_batch_arrives_as_it_was_given() -> None:
    rng = np.random.default_rng(0)
    pinned = PinnedFrames(4, 6, torch.device("cpu"))
    given = [rng.integers(1, 256, (n, 6, 6, 3), dtype=np.uint8) for n in (4, 4, 1, 3, 4, 2)]
    there = [pinned.to_device(frames) for frames in given]  # looked at when all are on their way
    for frames, batch in zip(given, there, strict=True):
        assert batch.shape == (4, 6, 6, 3)
        np.testing.assert_array_equal(batch[: len(frames)].numpy(), frames)
        assert not batch[len(frames) :].any()


@pytest.mark.gpu
def test_on_a_gpu_batches_are_whole_while_it_is_busy() -> None:
    rng = np.random.default_rng(0)
    pinned = PinnedFrames(64, 384, torch.device("cuda"))
    given = [rng.integers(0, 256, (64, 384, 384, 3), dtype=np.uint8) for _ in range(8)]
    sums = []
    for frames in given:
        batch = pinned.to_device(frames)
        work = torch.randn(4096, 4096, device="cuda")
        for _ in range(20):  # the copies of later batches are through long before this is
            work = work @ work * 1e-4
        sums.append(batch.to(torch.int64).sum())
    assert [int(s) for s in sums] == [int(frames.astype(np.int64).sum()) for frames in given]
