"""The processes that train together, and what they tell one another.

Alone, or one of many that `torchrun`, `deepspeed` or a cluster's own launcher has started with
RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT set.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import torch
from torch import distributed
from torch.distributed.rendezvous import rendezvous

from vxp_model.errors import UserError, require
from vxp_model.train.peers import watch_peers

_TIMEOUT_S: Final = 1800
"""Longest wait for the others: one of them may have to decode a bad stretch of data. For one that
has failed nobody waits: see `peers`."""
_ARRIVAL_S: Final = 600
"""Longest wait for the others at the start: they import the same, maybe from a slow disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DistributedContext:
    """This process among the others."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this process writes what is written once."""
        return self.rank == 0

    def barrier(self) -> None:
        """Wait until all are here."""
        distributed.barrier()

    def sum(self, numbers: Sequence[float]) -> list[float]:
        """Add up each number over the processes, in float64."""
        total = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        distributed.all_reduce(total)
        values: list[float] = total.tolist()
        return values

    def gather(self, value: Any) -> list[Any]:
        """Return every process's value, in order of rank, to all."""
        values: list[Any] = [None] * self.size
        distributed.all_gather_object(values, value)
        return values

    def first_says(self, value: Any) -> Any:
        """Return the first process's value to all."""
        box = [value]
        distributed.broadcast_object_list(box, src=0)
        return box[0]


@contextmanager
def join_distributed(device: str) -> Iterator[DistributedContext]:
    """Join the other processes, for the length of the context; alone, no port is opened.

    Args:
        device: 'auto', 'cpu' or 'cuda'.

    Raises:
        UserError: CUDA is asked for and there is none; the launcher's variables are incomplete;
            not all processes came.
        PeerFailedError: another process has failed, and this one's exchange with it.
    """
    size, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    store = distributed.HashStore() if size == 1 else _meet(rank, size)  # type: ignore[attr-defined]
    with watch_peers(store, rank=rank, size=size):
        index = _device(device)
        distributed.init_process_group(
            "nccl" if index.type == "cuda" else "gloo",
            store=distributed.PrefixStore("default", store),  # type: ignore[attr-defined]
            rank=rank,
            world_size=size,
            timeout=timedelta(seconds=_TIMEOUT_S),
        )
        is_whole = False
        try:
            yield DistributedContext(rank=rank, size=size, device=index)
            is_whole = True
        finally:
            # Of a group that has broken, NCCL would wait for those that are gone.
            if is_whole or size == 1:
                distributed.destroy_process_group()


def _meet(rank: int, size: int) -> Any:
    """Wait for the other processes; return the store that all of them read and write."""
    if missing := [name for name in ("MASTER_ADDR", "MASTER_PORT") if name not in os.environ]:
        raise UserError(
            f"WORLD_SIZE is {size}, but {', '.join(missing)} is not set: start the processes "
            "with torchrun or deepspeed."
        )
    timeout = timedelta(seconds=_ARRIVAL_S)
    try:
        store, _, _ = next(rendezvous("env://", rank, size, timeout=timeout))
    except distributed.DistError as error:
        raise UserError(
            f"not all of {size} processes came within {_ARRIVAL_S} s to "
            f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}: see what the others say, or "
            f"whether they can reach it. {error}"
        ) from error
    store.set_timeout(timeout)
    return store


def _device(name: str) -> torch.device:
    """Return this process's device, and make it torch's and DeepSpeed's."""
    on_cuda = torch.cuda.is_available() if name == "auto" else name == "cuda"
    require(
        not on_cuda or torch.cuda.is_available(),
        "engine.device is cuda, and torch sees no CUDA device. Set engine.device=auto.",
    )
    local_rank = int(os.environ.setdefault("LOCAL_RANK", "0"))  # DeepSpeed insists on it
    if not on_cuda:
        os.environ["DS_ACCELERATOR"] = "cpu"  # read when DeepSpeed is first imported
        return torch.device("cpu")
    device = torch.device("cuda", local_rank)
    torch.cuda.set_device(device)
    return device
