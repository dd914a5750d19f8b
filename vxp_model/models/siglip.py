"""Where the vision tower's weights come from: a folder, the hub at a fixed revision, or chance."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from vxp_model.errors import UserError
from vxp_model.models.tensor_files import TensorFiles
from vxp_model.modules.shapes import VisionConfig
from vxp_model.modules.siglip import SiglipVisionTower
from vxp_model.modules.siglip_layers import (
    APPROXIMATIONS,
    USUAL_ACTIVATION,
    USUAL_EPS,
    build_tower,
    draw_weights,
)

SO400M: Final = "google/siglip-so400m-patch14-384"
SO400M_REVISION: Final = "9fdffc58afc957d1a03a25b10dba0329ab15c2a3"

HUB_FILES: Final = ("config.json", "*.safetensors", "*.safetensors.index.json")
HUB_TIMEOUT_S: Final = 10

_PREFIXES: Final = ("", "vision_model.", "siglip.vision_model.")
_FIRST_TENSOR: Final = "embeddings.patch_embedding.weight"

_MODEL_TYPES: Final = ("siglip", "siglip_vision_model")

_FIELDS: Final = {
    "image_px": "image_size",
    "patch_px": "patch_size",
    "width": "hidden_size",
    "mlp_width": "intermediate_size",
    "num_heads": "num_attention_heads",
}
"""Fields of VisionConfig and what transformers calls them."""

_DEFAULTS: Final = {
    "image_size": 224,
    "patch_size": 16,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "num_channels": 3,
    "hidden_act": USUAL_ACTIVATION,
    "layer_norm_eps": USUAL_EPS,
}
"""What transformers takes where config.json says nothing."""


def load_tower(
    config: VisionConfig,
    *,
    source: str | Path,
    revision: str | None = None,
    dtype: torch.dtype = torch.float32,
    chunk_frames: int = 32,
) -> SiglipVisionTower:
    """Load a SigLIP vision tower, frozen, on the CPU; no layer beyond the config's is read.

    Args:
        config: the shape that the model is built for.
        source: a folder with config.json and weights as transformers writes them, of a whole SigLIP
            or of its vision part; or a hub repository such as `SO400M`.
        revision: commit of the hub repository, 40 hexadecimal digits; `SO400M` has a default. Not
            for folders.
        dtype: of the weights, and so of the features.
        chunk_frames: see `SiglipVisionTower`.

    Raises:
        UserError: no such source; not this shape; a tensor is missing or has another shape; from
            the hub: no fixed revision, or not to be had.
    """
    folder = Path(source).expanduser()
    if not folder.is_dir():
        folder = _fetch(str(source), revision)
    elif revision is not None:
        raise UserError(f"the tower's source {str(source)!r} is a folder: it has no revision.")
    theirs = _read_config(folder)
    _check_shape(config, theirs, folder)
    with torch.device("meta"):
        tower = build_tower(
            config,
            activation=theirs["hidden_act"],
            norm_eps=theirs["layer_norm_eps"],
            chunk_frames=chunk_frames,
        )
    _fill(tower, TensorFiles(folder), dtype=dtype)
    return tower.eval()


def random_tower(
    config: VisionConfig,
    *,
    seed: int,
    dtype: torch.dtype = torch.float32,
    chunk_frames: int = 32,
) -> SiglipVisionTower:
    """Build a tower with random weights, frozen: for tests, benchmarks and the tiny preset.

    Same config and seed, same weights; torch's own random state is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tower = build_tower(config, chunk_frames=chunk_frames)
        draw_weights(tower, config)
    return tower.eval().to(dtype)


def _read_config(folder: Path) -> dict[str, Any]:
    """Return transformers' settings of the tower.

    Raises:
        UserError: no config.json; of another model.
    """
    try:
        values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kind = values["model_type"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{str(folder)!r} has no config.json of a model: {type(error).__name__}: {error}"
        ) from error
    if kind not in _MODEL_TYPES:
        raise UserError(f"{str(folder)!r} is a {kind}; wanted: {' or '.join(_MODEL_TYPES)}.")
    told = values.get("vision_config") or {} if kind == "siglip" else values
    return {name: told.get(name, usual) for name, usual in _DEFAULTS.items()}


def _check_shape(config: VisionConfig, theirs: dict[str, Any], folder: Path) -> None:
    wrong = [
        f"{ours} {theirs[name]} (wanted {getattr(config, ours)})"
        for ours, name in _FIELDS.items()
        if theirs[name] != getattr(config, ours)
    ]
    if theirs["num_hidden_layers"] < config.layer:
        wrong.append(f"{theirs['num_hidden_layers']} layers (wanted {config.layer} or more)")
    if theirs["num_channels"] != 3:
        wrong.append(f"{theirs['num_channels']} colours (wanted 3)")
    if (activation := theirs["hidden_act"]) not in APPROXIMATIONS:
        wrong.append(f"activation {activation!r} (wanted {' or '.join(APPROXIMATIONS)})")
    if wrong:
        raise UserError(
            f"the SigLIP in {str(folder)!r} is not the one in the settings: {'; '.join(wrong)}. "
            "Take other weights, or set vision.* to match."
        )


def _fill(tower: SiglipVisionTower, files: TensorFiles, *, dtype: torch.dtype) -> None:
    prefix = next((p for p in _PREFIXES if f"{p}{_FIRST_TENSOR}" in files.names), None)
    if prefix is None:
        raise UserError(f"{str(files.path)!r} holds no SigLIP vision tower: no {_FIRST_TENSOR}.")
    wanted = {
        name: prefix + re.sub(r"^layers\.", "encoder.layers.", name) for name in tower.state_dict()
    }
    if lacking := sorted(set(wanted.values()) - set(files.names)):
        raise UserError(
            f"{str(files.path)!r} lacks {len(lacking)} tensors of the vision tower, such as "
            f"{lacking[0]!r}: fetch it again."
        )
    read = files.read(wanted.values())
    state: dict[str, Tensor] = {ours: read[name].to(dtype) for ours, name in wanted.items()}
    try:
        tower.load_state_dict(state, strict=True, assign=True)
    except RuntimeError as error:
        raise UserError(f"the weights in {str(files.path)!r} do not fit: {error}") from error
    tower.requires_grad_(False)  # `assign` has brought in new parameters


def _fetch(source: str, revision: str | None) -> Path:
    """Return the folder of a hub repository's files in the hub's cache, fetched if need be."""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", source):
        raise UserError(f"the tower's source {source!r} is neither a folder nor a hub repository.")
    revision = SO400M_REVISION if revision is None and source == SO400M else revision
    if revision is None or not re.fullmatch(r"[0-9a-f]{40}", revision):
        raise UserError(
            f"the tower's source {source!r} is a hub repository, and its revision is {revision!r}. "
            "Wanted: a commit of 40 hexadecimal digits, so that the weights stay the same."
        )
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(
                source,
                revision=revision,
                allow_patterns=list(HUB_FILES),
                etag_timeout=HUB_TIMEOUT_S,
            )
        )
    except Exception as error:
        folder = source.rpartition("/")[2]
        raise UserError(
            f"the vision tower {source} at {revision[:12]} is not on this machine and cannot be "
            f"fetched ({type(error).__name__}).\n"
            f"On a machine with network:  hf download {source} --revision {revision} "
            f'--include config.json "*.safetensors" --local-dir {folder}\n'
            f"Bring that folder here and name it as the tower's source."
        ) from error
