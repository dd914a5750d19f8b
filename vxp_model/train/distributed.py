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

from vxp_model.errors import UserError, require

_TIMEOUT_S: Final = 1800
"""Longest wait for the others: one of them may have to decode a bad stretch of data."""


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
        UserError: CUDA is asked for and there is none; the launcher's variables are incomplete.
    """
    on_cuda = torch.cuda.is_available() if device == "auto" else device == "cuda"
    require(
        not on_cuda or torch.cuda.is_available(),
        "engine.device is cuda, and torch sees no CUDA device. Set engine.device=auto.",
    )
    if not on_cuda:
        os.environ["DS_ACCELERATOR"] = "cpu"  # read when DeepSpeed is first imported
    size, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    local_rank = int(os.environ.setdefault("LOCAL_RANK", "0"))  # DeepSpeed insists on it
    index = torch.device("cuda", local_rank) if on_cuda else torch.device("cpu")
    if on_cuda:
        torch.cuda.set_device(index)
    backend = "nccl" if on_cuda else "gloo"
    timeout = timedelta(seconds=_TIMEOUT_S)
    if size == 1:
        store = distributed.HashStore()  # type: ignore[attr-defined]
        distributed.init_process_group(backend, store=store, rank=0, world_size=1, timeout=timeout)
    else:
        if missing := [name for name in ("MASTER_ADDR", "MASTER_PORT") if name not in os.environ]:
            raise UserError(
                f"WORLD_SIZE is {size}, but {', '.join(missing)} is not set: start the processes "
                "with torchrun or deepspeed."
            )
        distributed.init_process_group(backend, timeout=timeout)
    try:
        yield DistributedContext(rank=rank, size=size, device=index)
    finally:
        distributed.destroy_process_group()
