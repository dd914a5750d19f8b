"""What ReCoT training leaves: a folder with the trained parts and their config.

    config.json            format, version, the ReCoTConfig, and each file's SHA-256
    dts.safetensors        the compressor
    decoder.safetensors    the decoder, for going on with the training
    sgm.safetensors        the masking, likewise

The frozen tower is not among them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, Final, TypeVar, get_type_hints

import torch
from safetensors.torch import save_file
from torch import nn

from vxp_model.errors import UserError
from vxp_model.models.recot import ReCoTModel
from vxp_model.models.recot_config import ReCoTConfig
from vxp_model.models.tensor_files import TensorFiles
from vxp_model.modules.dts import DynamicTokenSynthesizer
from vxp_model.modules.siglip import SiglipVisionTower

FORMAT: Final = "vxp-recot"
VERSION: Final = 2
SINCE_2: Final = {"unmasked_share": 0.0}
"""Settings of the masking that models of version 1 were trained with and do not name."""
CONFIG_NAME: Final = "config.json"
PARTS: Final = ("dts", "decoder", "sgm")

_Config = TypeVar("_Config")


def save_recot(model: ReCoTModel, folder: Path | str) -> Path:
    """Write the artefacts; over older ones.

    Each file is written beside its name and renamed, config.json last. A folder in which a crash
    has left files of two savings does not load: the digests differ.

    Returns:
        folder: as given.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    digests = {}
    for part in PARTS:
        state = {name: t.detach().contiguous().cpu() for name, t in _part(model, part).items()}
        beside = folder / f".{part}.safetensors.part"
        save_file(state, beside, metadata={"format": "pt", "part": f"{FORMAT}/{part}"})
        digests[part] = _sha256(beside)
        beside.replace(folder / f"{part}.safetensors")
    content = {
        "format": FORMAT,
        "version": VERSION,
        "config": asdict(model.config),
        "sha256": {f"{part}.safetensors": digest for part, digest in digests.items()},
    }
    beside = folder / f".{CONFIG_NAME}.part"
    beside.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    beside.replace(folder / CONFIG_NAME)
    return folder


def load_recot(folder: Path | str, *, tower: SiglipVisionTower | None = None) -> ReCoTModel:
    """Read all artefacts, on the CPU, in the dtype they were saved in.

    Args:
        folder: as `save_recot` wrote it.
        tower: see `ReCoTModel`.

    Raises:
        UserError: a file is missing, damaged, not of this saving, or does not fit the config.
    """
    content = _read_config(Path(folder))
    with torch.device("meta"):
        model = ReCoTModel(config_from_dict(ReCoTConfig, content["config"], where="config"))
    for part in PARTS:
        _fill(model.get_submodule(part), Path(folder), part, content)
    model.tower = tower
    return model


def load_dts(folder: Path | str) -> DynamicTokenSynthesizer:
    """Read the compressor alone: what comes after ReCoT needs no more.

    Raises:
        UserError: as `load_recot`, for dts.safetensors and config.json.
    """
    content = _read_config(Path(folder))
    config = config_from_dict(ReCoTConfig, content["config"], where="config")
    with torch.device("meta"):
        dts = DynamicTokenSynthesizer(config.dts)
    _fill(dts, Path(folder), "dts", content)
    return dts


def config_from_dict(kind: type[_Config], values: Mapping[str, Any], *, where: str) -> _Config:
    """Build a config dataclass, and those inside it, from plain values.

    Args:
        kind: the class.
        values: a value for every field, no more.
        where: what error messages call it.

    Raises:
        UserError: a field is missing, unknown or out of range.
    """
    if not isinstance(values, Mapping):
        raise UserError(f"{where} must be an object, got {values!r}.")
    assert is_dataclass(kind)
    known = {field.name for field in fields(kind)}
    if set(values) != known:
        unknown, missing = sorted(set(values) - known), sorted(known - set(values))
        raise UserError(f"{where}: unknown fields {unknown}, missing fields {missing}.")
    types = get_type_hints(kind)
    built = {
        name: config_from_dict(types[name], value, where=f"{where}.{name}")
        if is_dataclass(types[name])
        else value
        for name, value in values.items()
    }
    try:
        return kind(**built)
    except TypeError as error:
        raise UserError(f"{where}: {error}") from error


def _part(model: ReCoTModel, part: str) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = model.get_submodule(part).state_dict()
    return state


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG_NAME
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found = (content["format"], content["version"])
        _ = content["config"], dict(content["sha256"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{str(folder)!r} holds no ReCoT model: {CONFIG_NAME}: {type(error).__name__}: {error}"
        ) from error
    if found == (FORMAT, 1):
        content["config"]["sgm"] |= SINCE_2
    elif found != (FORMAT, VERSION):
        raise UserError(f"{str(path)!r} is {found[0]} {found[1]}, this reads {FORMAT} {VERSION}.")
    return dict(content)


def _fill(module: nn.Module, folder: Path, part: str, content: Mapping[str, Any]) -> None:
    name = f"{part}.safetensors"
    path = folder / name
    if not path.is_file():
        raise UserError(f"{str(folder)!r} lacks {name}: copy the whole folder.")
    if (digest := _sha256(path)) != content["sha256"].get(name):
        raise UserError(
            f"{str(path)!r} is not the file that {CONFIG_NAME} was written with (SHA-256 begins "
            f"{digest[:12]}): it is damaged, or of another training. Copy the whole folder anew."
        )
    files = TensorFiles(path)
    state = {name: tensor.clone() for name, tensor in files.read(files.names).items()}
    try:
        module.load_state_dict(state, strict=True, assign=True)
    except RuntimeError as error:
        raise UserError(f"{str(path)!r} does not fit {CONFIG_NAME}: {error}") from error
    for parameter in module.parameters():
        parameter.requires_grad_(True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
