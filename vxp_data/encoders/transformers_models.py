"""Any vision model of transformers in a folder: SigLIP, CLIP, DINOv2 and the others."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from vxp_data.encoders.base import EncoderSettings, EncoderSpec, require_modules
from vxp_data.encoders.torch_encoder import (
    TorchEncoder,
    model_spec,
    vector_length,
)
from vxp_data.errors import UserError
from vxp_data.storage.digest import sampled_digest

if TYPE_CHECKING:
    import torch

VERSION: Final = 1
"""Counts up with every change of the numbers; enters the fingerprint."""

_HALF: Final = (0.5, 0.5, 0.5)
_CONFIG: Final = "config.json"
_PROCESSOR: Final = "preprocessor_config.json"


class TransformersEncoder(TorchEncoder):
    """Encoder 'transformers': `checkpoint` is a folder with config.json and its weights.

    Of a model of images and texts it takes the vision tower. Images are squashed to the model's
    square, whatever its own transform crops; mean and deviation are those of
    preprocessor_config.json, 0.5 where it names none. A vector is the pooled output, or the mean of
    the last tokens where the model pools none. No code of the folder is run.
    """

    @classmethod
    def prepare(cls, settings: EncoderSettings) -> Path:
        """Find the weights; see `Encoder.prepare`."""
        return _weights(_folder(settings))

    @classmethod
    def describe(cls, settings: EncoderSettings) -> EncoderSpec:
        """Return the spec; builds the model of shapes alone, for which torch is loaded.

        Raises:
            UserError: the folder is not there, or holds no vision model with one square input.
        """
        folder = _folder(settings)
        mean, std = _mean_and_std(folder)
        config = _vision_config(folder)
        image_px = _image_px(folder, config)
        return model_spec(
            settings,
            image_px=image_px,
            dim=vector_length(partial(_build, config), image_px),
            mean=mean,
            std=std,
            version=VERSION,
            config=config.to_diff_dict(),
            weights=[sampled_digest(path) for path in _weight_files(folder)],
        )

    @classmethod
    def load(cls, settings: EncoderSettings) -> Self:
        """Build the model and read its weights; see `Encoder.load`."""
        spec, folder = cls.describe(settings), _folder(settings)
        mean, std = _mean_and_std(folder)
        return cls.of_model(lambda: (spec, _read(folder)), settings, mean=mean, std=std)


def _folder(settings: EncoderSettings) -> Path:
    require_modules(settings.name, "train", "transformers", "torch", "safetensors")
    folder = Path(settings.checkpoint).expanduser() if settings.checkpoint else None
    if folder is None or not (folder / _CONFIG).is_file():
        what = "none is named" if folder is None else f"{str(folder)!r} has no {_CONFIG}"
        raise UserError(
            f"encoder {settings.name!r} reads a model's folder, and {what}. Add: "
            "--set encoder.checkpoint=FOLDER"
        )
    return folder


def _weight_files(folder: Path) -> list[Path]:
    found = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))
    if not found:
        raise UserError(
            f"the encoder's checkpoint {str(folder)!r} has no weights: wanted *.safetensors or "
            "pytorch_model*.bin."
        )
    return found


def _weights(folder: Path) -> Path:
    return _weight_files(folder)[0]


def _vision_config(folder: Path) -> Any:
    """Return transformers' configuration of the vision model.

    Raises:
        UserError: transformers does not know it, or it has no vision model.
    """
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"transformers cannot read {folder / _CONFIG}: {error}") from error
    return getattr(config, "vision_config", config)


def _image_px(folder: Path, config: Any) -> int:
    """Return the side of the square that a model takes.

    Raises:
        UserError: neither file names one.
    """
    processor = _processor(folder)
    crops = processor.get("do_center_crop") and processor.get("crop_size")
    size = getattr(config, "image_size", None) or crops or processor.get("size")
    if isinstance(size, dict):
        size = (size.get("height"), size.get("width"))
        size = size if None not in size else processor.get("size", {}).get("shortest_edge")
    height_px, width_px = size if isinstance(size, list | tuple) else (size, size)
    if not isinstance(height_px, int) or height_px != width_px:
        raise UserError(
            f"the encoder's checkpoint {str(folder)!r} names no square input: got {size!r} of "
            f"{_CONFIG} and {_PROCESSOR}, wanted image_size, or size with height and width."
        )
    return height_px


def _mean_and_std(folder: Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
    processor = _processor(folder)
    return (
        tuple(processor.get("image_mean") or _HALF),
        tuple(processor.get("image_std") or _HALF),
    )


def _processor(folder: Path) -> dict[str, Any]:
    """Return what the folder says of its images.

    Raises:
        UserError: that file is no JSON mapping.
    """
    path = folder / _PROCESSOR
    if not path.is_file():
        return {}
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    if not isinstance(told, dict):
        raise UserError(f"{path}: wanted a mapping, got {type(told).__name__}.")
    return told


def _build(config: Any) -> torch.nn.Module:
    """Build the model of a configuration, with drawn weights.

    Raises:
        UserError: transformers has no model for it.
    """
    from transformers import AutoModel

    from vxp_data.encoders.pooled import Pooled

    try:
        return Pooled(AutoModel.from_config(config))  # type: ignore[no-untyped-call]
    except (KeyError, ValueError) as error:
        raise UserError(f"transformers has no vision model for this: {error}") from error


def _read(folder: Path) -> torch.nn.Module:
    """Build the model with its weights, in fp32.

    Raises:
        UserError: they cannot be read or do not fit.
    """
    import torch
    from transformers import AutoModel

    from vxp_data.encoders.pooled import Pooled

    config = _vision_config(folder)
    try:
        with _silent():  # that a text tower is left out is no news
            model, report = AutoModel.from_pretrained(
                folder,
                config=config,
                dtype=torch.float32,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"transformers cannot read the model in {folder}: {error}") from error
    if missing := sorted(report["missing_keys"]):
        raise UserError(
            f"the weights in {folder} do not fit its vision model: {len(missing)} tensors are "
            f"missing, {missing[0]!r} first."
        )
    return Pooled(model).eval().requires_grad_(False)


@contextmanager
def _silent() -> Iterator[None]:
    """Keep transformers from drawing bars and from reporting what it leaves out."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]
