"""What the tests of the model share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture
def no_grad() -> Iterator[None]:
    """Let torch compute without gradients."""
    import torch

    with torch.no_grad():
        yield
