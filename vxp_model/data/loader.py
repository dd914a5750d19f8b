"""Batches for one rank, in an order that can be taken up again at any step, on any world size."""

from __future__ import annotations

import atexit
import logging
import multiprocessing.connection
import os
import signal
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import distributed
from torch.utils.data import DataLoader

from vxp_data.core.seeds import hash64
from vxp_data.decoders.child_process import start_tracker
from vxp_model.data.dataset import SampleIndex, ShardDataset
from vxp_model.data.frames import FrameOptions
from vxp_model.data.order import BatchRule, EpochOrder, OrderRule, cut_batches, epoch_order
from vxp_model.data.sample import Batch, TrainSample
from vxp_model.data.seeded_draws import WindowRule
from vxp_model.data.sources import Rows, Source
from vxp_model.data.state import (
    STATE_VERSION,
    LoaderState,
    Replacement,
    SourceState,
    list_replaced,
    require_same_data,
)
from vxp_model.errors import UserError

_log: Final = logging.getLogger(__name__)
_ONE_SAMPLE: Final = BatchRule()
_SHUFFLED: Final = OrderRule()
_DECODED: Final = FrameOptions()


class TooManyBrokenError(UserError):
    """More clips than allowed could not be used; the message lists them."""


class ShardLoader:
    """Iterates over the rest of the current epoch; then the next epoch is current.

    Every rank makes one with the same arguments but `rank`. The epoch's order is cut into batches,
    and in each step every rank takes one of the next `world_size` batches; which of them, changes
    from step to step, so that no rank always has the long ones. All ranks end on the same step:
    where the last step has fewer batches than ranks, the others get the step's first sample alone,
    with `is_padding` set. So over all ranks, padding aside, an epoch gives every position of its
    order exactly once.

    `state_dict()` after a batch says that this step is done, however far workers have read ahead.
    A loader that loads it, with any world size, batch limits and number of workers, gives the rest
    of the epoch, in the same order.

    Args:
        sources: a mixture, or the path of one shard directory; `Rows` where indexes are read, and
            rows that cannot be learned from left out (`row_check.check_rows`).
        batch: limits of one rank's batch.
        order: seed, epoch length, length grouping.
        frames: how frames are read; None: not at all, to read the rows alone.
        window: shows only so many neighbouring frames of each plan; None: all of them. Limits of
            the batch and the order's lengths go on counting planned frames.
        rank: of this process; None: torch.distributed's, 0 where that is not initialised.
        world_size: processes that train; None: torch.distributed's, else 1.
        num_workers: processes that read and decode ahead; 0: none, each batch when it is asked for.
        prefetch_batches: how far each worker reads ahead.
        pin_memory: put frames into page-locked memory, for faster copies to a GPU.
        max_broken: clips that may be broken on this rank; one more stops with the list of them.
        start_method: of the workers: 'fork', 'forkserver', 'spawn'; None: Python's default.

    Raises:
        UserError: an index cannot be used, or arguments do not fit.
    """

    def __init__(
        self,
        sources: Sequence[Source | Rows] | str | Path,
        *,
        batch: BatchRule = _ONE_SAMPLE,
        order: OrderRule = _SHUFFLED,
        frames: FrameOptions | None = _DECODED,
        window: WindowRule | None = None,
        rank: int | None = None,
        world_size: int | None = None,
        num_workers: int = 0,
        prefetch_batches: int = 2,
        pin_memory: bool = False,
        max_broken: int = 100,
        start_method: str | None = None,
    ) -> None:
        self.rank, self.world_size = _rank_and_world_size(rank, world_size)
        self.dataset = ShardDataset(sources, frames, window)
        self.epoch = 0
        self.position = 0
        self.replaced: list[Replacement] = []
        self._batch = batch
        self._order = order
        self._max_broken = max_broken
        self._of_epoch: tuple[int, EpochOrder] | None = None
        self._closing: Finalize | None = None
        if num_workers:
            start_tracker()
        self._loader: DataLoader[TrainSample] = DataLoader(
            self.dataset,
            batch_sampler=_Steps(self),
            num_workers=num_workers,
            prefetch_factor=prefetch_batches if num_workers else None,
            persistent_workers=num_workers > 0,
            collate_fn=_collate,
            pin_memory=pin_memory,
            worker_init_fn=_init_worker,
            multiprocessing_context=start_method if num_workers else None,
            generator=torch.Generator(),  # or each epoch draws from torch's own, as no resume does
        )
        self._at_exit = partial(_close, weakref.ref(self))
        if num_workers:
            # At its end a process kills its workers, and what they hold stays: stop them before.
            # A process of multiprocessing's does not ask atexit; in others torch, which does, stops
            # no worker any more once its own turn has come.
            atexit.register(self._at_exit)
            self._closing = Finalize(None, self._at_exit, exitpriority=10)

    def __iter__(self) -> Iterator[Batch]:
        """Return the batches left of the current epoch; at its end, log what was replaced.

        Raises:
            TooManyBrokenError: more than `max_broken` clips cannot be used.
            UserError: no substitute can be found for a broken clip.
        """
        bounds = self._bounds()
        ends = bounds[self.world_size :: self.world_size].tolist()
        if (len(bounds) - 1) % self.world_size:  # the last step has fewer batches than ranks
            ends.append(len(self.current_order()))
        for end, batch in zip(ends, self._loader, strict=True):
            self._note_replaced(batch)
            self.position = end
            yield batch
        if replaced := [entry for entry in self.replaced if entry.epoch == self.epoch]:
            _log.warning("epoch %d: %s", self.epoch, list_replaced(replaced))
        self.epoch, self.position = self.epoch + 1, 0

    def __len__(self) -> int:
        """Return the number of steps left in the current epoch: the same on every rank."""
        return -(-(len(self._bounds()) - 1) // self.world_size)

    def current_order(self) -> EpochOrder:
        """Return the order of the current epoch, the same on every rank."""
        if self._of_epoch is None or self._of_epoch[0] != self.epoch:
            parts = [rows.part() for rows in self.dataset.rows]
            self._of_epoch = (self.epoch, epoch_order(parts, self._order, self.epoch))
        return self._of_epoch[1]

    def steps(self) -> Iterator[list[SampleIndex]]:
        """Return what this rank gets in each step that is left of the epoch; nothing is read."""
        order, bound, epoch = self.current_order(), self._bounds().tolist(), self.epoch

        def indices(first: int) -> list[SampleIndex]:
            batch = first + (self.rank + hash64("rank", bound[first])) % self.world_size
            is_padding = batch >= len(bound) - 1
            own = range(bound[first], bound[first] + 1)
            if not is_padding:
                own = range(bound[batch], bound[batch + 1])
            return [
                SampleIndex(int(order.part_E[e]), int(order.sample_E[e]), epoch, e, is_padding)
                for e in own
            ]

        return map(indices, range(0, len(bound) - 1, self.world_size))

    def state_dict(self) -> dict[str, Any]:
        """Return the position after the batch last given out, in plain values.

        It is the same on every rank but for the list of what this rank replaced: to keep that
        whole, save `merge_states` of all ranks' states.
        """
        return self._state().to_dict()

    def load_state_dict(self, values: Mapping[str, Any]) -> None:
        """Move to where a state was saved.

        Raises:
            UserError: the state is of other data, another order, or another version.
        """
        state = LoaderState.from_dict(values)
        require_same_data(state, self._state())
        self.epoch, self.position = state.epoch, state.position
        self.replaced = list(state.replaced)

    def close(self) -> None:
        """Stop the workers and close what they have open.

        Called at the end of the process where nobody else does.
        """
        atexit.unregister(self._at_exit)
        if self._closing is not None:
            self._closing.cancel()
        self._loader._iterator = None  # torch's own way to end persistent workers
        self.dataset.close()

    def _bounds(self) -> NDArray[np.int64]:
        num_frames_E = self.current_order().num_frames_E
        return cut_batches(num_frames_E, self._batch, start=self.position)

    def _state(self) -> LoaderState:
        return LoaderState(
            version=STATE_VERSION,
            order=asdict(self._order),
            sources=[
                SourceState(
                    uri=rows.source.uri,
                    digest=rows.table.digest,
                    weight=rows.source.weight,
                    kinds=None if rows.source.kinds is None else sorted(rows.source.kinds),
                    datasets=(
                        None if rows.source.datasets is None else sorted(rows.source.datasets)
                    ),
                    num_left_out=len(rows.left_out_N),
                    left_out=rows.left_out_digest(),
                )
                for rows in self.dataset.rows
            ],
            epoch=self.epoch,
            position=self.position,
            replaced=list(self.replaced),
        )

    def _note_replaced(self, batch: Batch) -> None:
        new = [
            sample.replaced
            for sample in batch.samples
            if sample.replaced is not None and not sample.is_padding
        ]
        self.replaced += new
        broken = {(entry.source, entry.key) for entry in self.replaced}
        if new and len(broken) > self._max_broken:
            raise TooManyBrokenError(
                f"{len(broken)} clips cannot be used, at most {self._max_broken} are allowed "
                f"(max_broken): {list_replaced(self.replaced)}\nSee `vxp-data verify`, or raise "
                "max_broken."
            )


def _close(loader: weakref.ref[ShardLoader]) -> None:
    if (found := loader()) is not None:
        found.close()


class _Steps:
    """What torch asks for the indices of each batch."""

    def __init__(self, loader: ShardLoader) -> None:
        self._loader = loader

    def __iter__(self) -> Iterator[list[SampleIndex]]:
        return self._loader.steps()

    def __len__(self) -> int:
        return len(self._loader)


def _collate(samples: list[TrainSample]) -> Batch:
    return Batch(samples=samples)


def _init_worker(worker: int) -> None:
    del worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the training process's to handle
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Stop this worker when the training process is gone, however it went.

    torch's own watch looks whether the process above it is another one now. Under a fork server,
    Python's default from 3.14 on, that is the server, which lives on.
    """
    training = multiprocessing.parent_process()
    if training is not None:
        multiprocessing.connection.wait([training.sentinel])
        os._exit(1)


def _rank_and_world_size(rank: int | None, world_size: int | None) -> tuple[int, int]:
    if (rank is None) != (world_size is None):
        raise UserError(f"rank is {rank} and world_size {world_size}: give both or neither.")
    if rank is None or world_size is None:
        if not (distributed.is_available() and distributed.is_initialized()):
            return 0, 1
        return distributed.get_rank(), distributed.get_world_size()
    if not 0 <= rank < world_size:
        raise UserError(f"rank is {rank}, wanted 0 to world_size - 1 ({world_size - 1}).")
    return rank, world_size
