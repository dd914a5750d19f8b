"""What the tests of the model share: torch's threads and gradients, one world."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from vxp_model.train.distributed import DistributedContext


@pytest.fixture(scope="session")
def context() -> Iterator[DistributedContext]:
    """Join torch.distributed as a world of one process.

    For the whole session: DeepSpeed keeps the first world that it has seen.
    """
    from vxp_model.train.distributed import join_distributed

    with join_distributed("cpu") as joined:
        yield joined


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Let torch compute with one thread.

    For small tensors: two threads on a busy core wait for one another at every operation, and 5 s
    have turned into 300.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def no_grad() -> Iterator[None]:
    """Let torch compute without gradients."""
    import torch

    with torch.no_grad():
        yield
