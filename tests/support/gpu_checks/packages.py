"""Which packages the checks need. Imports none of them, so that it costs nothing at collection."""

from __future__ import annotations

import importlib.util
from typing import Final

import pytest

TOWER: Final = ("transformers", "yaml", "safetensors")
"""Modules that `vxp_model`'s tower and model import."""
ENCODER: Final = ("open_clip", "timm", "ftfy", "safetensors", "yaml")
"""Modules that `vxp_data`'s SigLIP encoder imports."""
ESTIMATE: Final = (*TOWER, "pydantic", "pyarrow", "av", "pebble", "fsspec")
"""Modules that the estimate of a ReCoT training imports."""
TRAINING: Final = (*ESTIMATE, "deepspeed", "peft", "PIL")
"""Modules that a training imports."""
DECODING: Final = ("av", "pebble", "pyarrow", "fsspec", "torchcodec")
"""Modules that decoding on a card imports."""
PRUNING: Final = (*DECODING, "pydantic", "yaml", "typer", "rich", "PIL")
"""Modules that a prune imports."""
_NAMES: Final = {"open_clip": "open_clip_torch", "yaml": "pyyaml", "PIL": "pillow"}
"""Module -> what to install for it, where the names differ."""


def require_packages(*modules: str) -> None:
    """Skip the test that calls it, naming every package that is not installed."""
    missing = [_NAMES.get(m, m) for m in modules if importlib.util.find_spec(m) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
