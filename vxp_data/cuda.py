"""Whether there is a CUDA device, told without loading torch, which takes seconds."""

from __future__ import annotations

import ctypes
import importlib.util
import runpy
import sys
from pathlib import Path


def has_cuda() -> bool:
    """Whether torch.cuda.is_available() holds here.

    torch itself is asked where it is loaded already. Else what it depends on: that the torch
    installed is built for CUDA, that the driver starts and shows a device (CUDA_VISIBLE_DEVICES is
    the driver's business), and that the driver is of that CUDA's major version or a later one.
    Where that tells nothing, for ROCm and on systems other than Linux, torch is loaded and asked.
    """
    told = _told_without_torch() if sys.modules.get("torch") is None else None
    if told is not None:
        return told
    import torch

    return torch.cuda.is_available()


def _told_without_torch() -> bool | None:
    """Return the answer; None: only torch knows."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return False
    try:
        build = runpy.run_path(str(Path(spec.origin).with_name("version.py")))
        cuda, hip = build["cuda"], build["hip"]
    except (OSError, KeyError):
        return None
    if cuda is None and hip is None:
        return False
    if cuda is None or sys.platform != "linux":
        return None
    return _driver_shows_device(at_least=int(cuda.partition(".")[0]))


def _driver_shows_device(*, at_least: int) -> bool:
    """Whether the CUDA driver, of that major version or later, has a device for this process."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    version, num_devices = ctypes.c_int(), ctypes.c_int()
    answers = (
        driver.cuDriverGetVersion(ctypes.byref(version)),
        driver.cuInit(0),
        driver.cuDeviceGetCount(ctypes.byref(num_devices)),
    )
    return not any(answers) and version.value // 1000 >= at_least and num_devices.value > 0
