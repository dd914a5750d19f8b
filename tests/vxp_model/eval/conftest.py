"""What the tests of the evaluation share."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.eval_runs import offer_benchmarks


@pytest.fixture
def invented(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Offer the invented benchmarks 'shapes' and 'spans'."""
    offer_benchmarks(tmp_path, monkeypatch)
