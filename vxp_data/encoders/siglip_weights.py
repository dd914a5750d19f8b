"""SigLIP's image tower with its weights, and what any tower of open_clip reads of a checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import torch

from vxp_data.encoders.siglip_model import SiglipModel, find_weights, require_siglip
from vxp_data.encoders.siglip_tower import SiglipTower, ViTShape, shape_of
from vxp_data.encoders.weights_file import read_tensors
from vxp_data.errors import UserError

_SMALLEST_TEXT: Final = {
    "context_length": 1,
    "vocab_size": 1,
    "width": 1,
    "heads": 1,
    "layers": 1,
}


def load_image_tower(model: SiglipModel, device: torch.device) -> torch.nn.Module:
    """Build the image tower and read its weights: in plain torch, or by open_clip where it has to.

    Raises:
        UserError: it cannot be built; the weights cannot be had or do not fit.
    """
    shape = shape_of(model.vision_cfg)
    visual = _open_clips_tower(model) if shape is None else _plain_tower(model, shape)
    return with_weights(visual, model, "visual", device)


def _plain_tower(model: SiglipModel, shape: ViTShape) -> torch.nn.Module:
    if shape.class_token:
        fits, wanted = model.image_px % shape.patch_px == 0, f"a multiple of {shape.patch_px}"
    else:
        fits, wanted = model.image_px == shape.image_px, f"{shape.image_px}"
    if not fits:
        raise UserError(
            f"cannot build the image tower of {model.name}: image_size is {model.image_px}, and "
            f"{model.vision_cfg['timm_model_name']} takes {wanted}."
        )
    _check_dim(model, shape.width)
    with torch.device("meta"):  # shapes only: no memory, no random numbers drawn
        return SiglipTower(shape)


def _open_clips_tower(model: SiglipModel) -> torch.nn.Module:
    require_siglip("open_clip", "torchvision")
    try:
        with torch.device("meta"):
            visual = open_clip_tower(model)
            shape = visual(torch.empty(1, 3, model.image_px, model.image_px)).shape
    except Exception as error:
        raise UserError(
            f"open_clip cannot build the image tower of {model.name}: {error}"
        ) from error
    _check_dim(model, *shape[1:])
    return visual


def open_clip_tower(model: SiglipModel) -> torch.nn.Module:
    """Build an image tower as open_clip has it, on torch's present device, with drawn weights."""
    import open_clip

    visual: torch.nn.Module = open_clip.CustomTextCLIP(
        embed_dim=model.embed_dim,
        vision_cfg={**model.vision_cfg, "timm_model_pretrained": False},
        text_cfg=_SMALLEST_TEXT,  # the class insists on a text tower; it is dropped here
        quick_gelu=model.quick_gelu,
    ).visual
    return visual


def _check_dim(model: SiglipModel, *dims: int) -> None:
    if dims != (model.embed_dim,):
        raise UserError(
            f"the image tower of {model.name} gives {list(dims)}, its config says embed_dim "
            f"{model.embed_dim}."
        )


def tower_tensors(path: Path, tower: str) -> Iterator[tuple[str, torch.Tensor]]:
    """Read one tower's tensors of a checkpoint, one by one; the other tower is not kept.

    Args:
        path: the weights file.
        tower: 'visual' or 'text', as open_clip's names begin.

    Yields:
        Name without the tower's, and the tensor; see `read_tensors`.

    Raises:
        UserError: the file cannot be read as weights, or has no such tower.
    """
    prefix, num_found = f"{tower}.", 0
    for named in read_tensors(path, prefix):
        num_found += 1
        yield named
    if not num_found:
        kind = "image" if tower == "visual" else tower
        raise UserError(
            f"{str(path)!r} has no {kind} tower: no tensor's name begins with {prefix!r}"
        )


def with_weights(
    module: torch.nn.Module, model: SiglipModel, tower: str, device: torch.device
) -> torch.nn.Module:
    """Return a tower, built without memory, its weights, for inference.

    Raises:
        UserError: the weights cannot be had, or do not fit.
    """
    state = {
        name: tensor.to(device, torch.float32, copy=True)
        for name, tensor in tower_tensors(find_weights(model), tower)
    }
    try:
        module.load_state_dict(state, strict=True, assign=True)
    except RuntimeError as error:
        kind = "image" if tower == "visual" else tower
        raise UserError(
            f"the weights do not fit the {kind} tower of {model.name}: {error}"
        ) from error
    return module.eval().requires_grad_(False)
