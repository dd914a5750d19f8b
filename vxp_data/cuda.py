"""Whether there are CUDA devices, told without loading torch, which takes seconds."""

from __future__ import annotations

import ctypes
import importlib.util
import os
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
    version, num_devices = _driver()
    return version >= int(cuda.partition(".")[0]) and num_devices > 0


def visible_devices() -> list[str]:
    """Return this process's devices as CUDA_VISIBLE_DEVICES names them; none where torch has none.

    Of ROCm's devices none is named.
    """
    if not has_cuda():
        return []
    _, num_devices = _driver()
    names = os.environ.get("CUDA_VISIBLE_DEVICES")
    if names is None:
        return [str(index) for index in range(num_devices)]
    return [name.strip() for name in names.split(",")][:num_devices]


def _driver() -> tuple[int, int]:
    """Return the CUDA driver's major version and how many devices it shows; zeros for no driver."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0, 0
    version, num_devices = ctypes.c_int(), ctypes.c_int()
    answers = (
        driver.cuDriverGetVersion(ctypes.byref(version)),
        driver.cuInit(0),
        driver.cuDeviceGetCount(ctypes.byref(num_devices)),
    )
    return (0, 0) if any(answers) else (version.value // 1000, num_devices.value)
