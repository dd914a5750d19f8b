"""Any image model of timm with a weights file of yours: its pooled features."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from vxp_data.encoders.base import EncoderSettings, EncoderSpec, require_modules
from vxp_data.encoders.torch_encoder import (
    TorchEncoder,
    model_spec,
    vector_length,
)
from vxp_data.errors import UserError, unknown_name
from vxp_data.storage.digest import sampled_digest

if TYPE_CHECKING:
    import torch

VERSION: Final = 1
"""Counts up with every change of the numbers; enters the fingerprint."""


class TimmEncoder(TorchEncoder):
    """Encoders 'timm:NAME': a name of timm's, and `checkpoint`, a file with its weights.

    Images are squashed to the size that timm's configuration of the model names, whatever its own
    transform crops; mean and deviation are the model's. Vectors are what the model gives without
    its classifier.
    """

    @classmethod
    def prepare(cls, settings: EncoderSettings) -> Path:
        """Find the weights file; see `Encoder.prepare`."""
        _require(settings)
        from vxp_data.encoders.weights_file import local_weights

        return local_weights(settings)

    @classmethod
    def describe(cls, settings: EncoderSettings) -> EncoderSpec:
        """Return the spec; builds the model of shapes alone, for which torch and timm are loaded.

        Raises:
            UserError: timm has no such model; its input is not square; there is no weights file.
        """
        weights = cls.prepare(settings)
        name = _name(settings)
        cfg = _config(name)
        return model_spec(
            settings,
            image_px=cfg["input_size"][1],
            dim=vector_length(partial(_build, name), cfg["input_size"][1]),
            mean=cfg["mean"],
            std=cfg["std"],
            version=VERSION,
            weights=sampled_digest(weights),
        )

    @classmethod
    def load(cls, settings: EncoderSettings) -> Self:
        """Build the model and read its weights; see `Encoder.load`."""
        spec, name = cls.describe(settings), _name(settings)
        cfg = _config(name)

        def make() -> tuple[EncoderSpec, torch.nn.Module]:
            return spec, _with_weights(_build(name), name, cls.prepare(settings))

        return cls.of_model(make, settings, mean=cfg["mean"], std=cfg["std"])


def _require(settings: EncoderSettings) -> None:
    require_modules(settings.name, "siglip", "timm", "torch", "safetensors")


def _name(settings: EncoderSettings) -> str:
    return settings.name.partition(":")[2]


def _config(name: str) -> dict[str, Any]:
    """Return timm's configuration of a model: size, mean, deviation, name of its classifier.

    Raises:
        UserError: there is no such model, or its input is not square.
    """
    import timm

    if not timm.is_model(name):
        raise unknown_name("timm model", name, timm.list_models())
    found = timm.get_pretrained_cfg(name)
    assert found is not None  # it is a model
    cfg: dict[str, Any] = found.to_dict()  # type: ignore[no-untyped-call]
    _, height_px, width_px = cfg["input_size"]
    if height_px != width_px:
        raise UserError(
            f"timm model {name!r} cannot be used as encoder: its input is {width_px} x "
            f"{height_px} px, wanted a square."
        )
    return cfg


def _build(name: str) -> torch.nn.Module:
    import timm

    model: torch.nn.Module = timm.create_model(name, pretrained=False, num_classes=0)
    return model


def _with_weights(model: torch.nn.Module, name: str, path: Path) -> torch.nn.Module:
    """Give a model without classifier the weights of a file, which may have one.

    Raises:
        UserError: they do not fit.
    """
    from vxp_data.encoders.weights_file import read_tensors

    classifier = _config(name).get("classifier") or ()
    heads = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    own = model.state_dict().keys()
    state = {
        tensor_name: tensor
        for tensor_name, tensor in read_tensors(path)
        if tensor_name in own or not tensor_name.startswith(tuple(f"{head}." for head in heads))
    }
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise UserError(
            f"the weights {str(path)!r} do not fit timm model {name!r}: {error}"
        ) from error
    return model.eval().requires_grad_(False)
