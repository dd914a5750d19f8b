"""Small trainings of Video-XL-Pro for the tests: a toy whose answer is in the image."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from support.recot_runs import training_shards
from vxp_data.settings.file import Loaded
from vxp_model.settings.mllm import MLLM_RECIPES, MllmRecipe

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["changed_parts", "recipe", "tensors", "training_shards", "tree"]


def tree(shards: str, out: Path | str, **changes: Any) -> dict[str, Any]:
    """Settings of a small training; changes by section, or by key with '__' for the dot."""
    settings: dict[str, Any] = {
        "stage": "sft",
        "start": {"init": "random", "preset": "tiny"},
        "data": {"sources": [{"uri": shards}], "workers": 0},
        "batch": {"global_samples": 4, "micro_samples": 2},
        "optim": {"lr": 1e-3},
        "engine": {"zero_stage": 0, "device": "cpu"},
        "run": {"out": str(out), "steps": 4, "checkpoint_steps": 2},
    }
    for key, value in changes.items():
        section, _, name = key.partition("__")
        if name:
            settings.setdefault(section, {}).update({name: value})
        else:
            settings[section] = value
    return settings


def recipe(shards: str, out: Path | str, **changes: Any) -> Loaded[MllmRecipe]:
    """Load such settings."""
    return MLLM_RECIPES.read(tree(shards, out, **changes), "test")


def tensors(folder: Path) -> dict[str, Tensor]:
    """Read the tensors of a stored model."""
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def changed_parts(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    """Which parts have a tensor that is another now."""
    import torch

    from vxp_model.models.video_xl_pro import PARTS

    assert before.keys() == after.keys()
    return {
        part
        for part, index in PARTS.items()
        for name in before
        if name.startswith(f"{index}.") and not torch.equal(before[name], after[name])
    }
