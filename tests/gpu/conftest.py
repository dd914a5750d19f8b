"""Tests that need a card: full sizes, random weights, drawn frames; no network, no data.

    make gpu-test                          in .venv, writes manifests/runs/gpu.json
    make gpu-test PYTHON=python3           the same with the packages of an image
    python -m pytest -m gpu tests/gpu      in any environment that has pytest and torch

Written for one card of 139 GiB with 16 cores and 128 GiB of main memory; under 6 minutes in all, by
the seconds that each test's docstring expects. VXP_GPU_RECORD=FILE.json says where the record goes;
without it, or without a card, nothing is written. What a test needs and is not installed is named
where it is skipped: open_clip_torch (with timm and ftfy) for the encoder; deepspeed, av, pebble and
others for training steps. The rest needs torch, transformers and numpy.

Without a card all tests are skipped and say so; with VXP_REQUIRE_CUDA=1, as `make gpu-test` sets
it, the run ends with exit status 1 instead. What the tests measure are functions in
support/gpu_checks, which tests/test_gpu_checks.py runs at tiny sizes on any machine.
"""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    import torch

    from vxp_model.train.distributed import DistributedContext

RECORD: Final = "VXP_GPU_RECORD"
LIBRARIES: Final = (
    "vxp",
    "torch",
    "triton",
    "transformers",
    "deepspeed",
    "open_clip_torch",
    "timm",
)

_BEGAN_S: Final = time.perf_counter()
_outcomes: Final[dict[str, str]] = {}
_figures: Final[dict[str, Any]] = {}


def pytest_collection_finish(session: pytest.Session) -> None:
    """Without a card, skip the tests that need one, or end the run where it is required."""
    chosen = [item for item in session.items if item.get_closest_marker("gpu")]
    reason = _no_card() if chosen else None
    if reason is None:
        return
    if os.environ.get("VXP_REQUIRE_CUDA") == "1":
        pytest.exit(
            f"VXP_REQUIRE_CUDA=1, and {reason}. The {len(chosen)} GPU tests need one NVIDIA card "
            "(full sizes: 139 GiB) with its driver, and a torch built for CUDA. To see them "
            "skipped instead: python -m pytest -m gpu tests/gpu",
            returncode=1,
        )
    for item in chosen:
        item.add_marker(pytest.mark.skip(reason=reason))


def _no_card() -> str | None:
    if importlib.util.find_spec("torch") is None:
        return "torch is not installed"
    import torch

    if torch.cuda.is_available():
        return None
    return f"torch {torch.__version__} sees no CUDA device"


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note how each GPU test ended, for the record."""
    if "gpu" not in report.keywords or (report.when != "call" and report.passed):
        return
    outcome = report.outcome
    if report.skipped and isinstance(report.longrepr, tuple):
        outcome = f"skipped: {report.longrepr[2].removeprefix('Skipped: ')}"
    elif report.when == "call":
        outcome += f" in {report.duration:.1f} s"
    _outcomes[report.nodeid.rpartition("::")[2]] = outcome


def pytest_sessionfinish() -> None:
    """Write the record, where one is asked for and something was measured."""
    target = os.environ.get(RECORD)
    if not target or not _figures:
        return
    import records

    path = Path(target).absolute()
    records.write_record(
        path.stem,
        {"tests": _outcomes, **_figures},
        argv=["-m", "pytest", "-m", "gpu", "tests/gpu"],
        libraries=LIBRARIES,
        folder=path.parent,
        wall_s=time.perf_counter() - _BEGAN_S,
    )


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What a test measures goes in here, and so into the record, even where the test then fails."""
    found: dict[str, Any] = {}
    _figures[request.node.name.removeprefix("test_")] = found
    return found


@pytest.fixture
def card() -> Iterator[torch.device]:
    """Return the card, with nothing of earlier tests on it."""
    import torch

    from support.gpu_checks.common import clear_device

    device = torch.device("cuda", 0)
    clear_device(device)
    yield device
    clear_device(device)


@pytest.fixture(scope="session")
def cuda_context() -> Iterator[DistributedContext]:
    """Join torch.distributed on the card, as a world of one process."""
    from vxp_model.train.distributed import join_distributed

    with join_distributed("cuda") as joined:
        yield joined
