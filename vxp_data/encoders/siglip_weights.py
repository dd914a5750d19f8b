"""Which SigLIP the settings mean, and where its weights lie. Imports open_clip, hence torch."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import open_clip
import torch
from huggingface_hub import (
    constants,
    get_hf_file_metadata,
    hf_hub_download,
    hf_hub_url,
    try_to_load_from_cache,
)
from huggingface_hub.errors import EntryNotFoundError
from open_clip.constants import HF_CONFIG_NAME, HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME
from open_clip.transform import PreprocessCfg, merge_preprocess_dict
from safetensors import safe_open

from vxp_data.encoders.base import EncoderSettings
from vxp_data.errors import UserError, unknown_name
from vxp_data.storage.digest import sampled_digest

HUB_TIMEOUT_S: Final = 5.0
"""How long the one question to the hub may take before it counts as unreachable."""

WEIGHT_SUFFIXES: Final = (".safetensors", ".bin", ".pt", ".pth")

TOKENIZER_FILE: Final = "tokenizer.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class SiglipModel:
    """One SigLIP: architecture of its image tower, preprocessing, place of its weights."""

    name: str
    """As the user knows it, for messages."""
    embed_dim: int
    vision_cfg: dict[str, Any]
    """open_clip's settings of the image tower."""
    text_cfg: dict[str, Any]
    """Of the text tower; empty where none is named."""
    quick_gelu: bool
    image_px: int
    """Side of the square input image."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    """Three numbers each, of RGB in 0..1."""
    local_path: Path | None
    """Weights file on this machine; None: the hub's."""
    hub_repo: str = ""
    hub_files: tuple[str, ...] = ()
    """Names under which the hub may have the weights, best first."""

    def weights_id(self) -> str:
        """Name the weights by content (local file) or by hub repository and revision.

        The revision is a commit where the hub's cache on this machine knows it, else 'main'.
        """
        if self.local_path is not None:
            return sampled_digest(self.local_path)
        cached = _cached(self.hub_repo, self.hub_files)
        return f"hub:{self.hub_repo}@{cached.parent.name if cached else 'main'}"


def find_model(settings: EncoderSettings) -> SiglipModel:
    """Return which model the settings mean; reads small JSON files, never weights.

    Raises:
        UserError: unknown model or tag; a checkpoint that is not there; a model that is no SigLIP
            with one square input size.
    """
    checkpoint = Path(settings.checkpoint).expanduser() if settings.checkpoint else None
    if checkpoint is not None and not checkpoint.exists():
        raise UserError(
            f"the encoder's checkpoint {str(checkpoint)!r} does not exist. Give a folder with "
            f"{HF_CONFIG_NAME} and one weights file, or a file: {', '.join(WEIGHT_SUFFIXES)}."
        )
    if checkpoint is not None and checkpoint.is_dir():
        return _from_folder(checkpoint)
    if checkpoint is not None and checkpoint.suffix not in WEIGHT_SUFFIXES:
        raise UserError(
            f"the encoder's checkpoint {str(checkpoint)!r} is no weights file: the name must end "
            f"in one of {', '.join(WEIGHT_SUFFIXES)}."
        )
    config = open_clip.get_model_config(settings.model) if ":" not in settings.model else None
    if config is None:
        siglips = [name for name in open_clip.list_models() if "siglip" in name.lower()]
        raise unknown_name("SigLIP model of open_clip", settings.model, siglips)
    tags = open_clip.list_pretrained_tags_by_model(settings.model)
    weights = open_clip.get_pretrained_cfg(settings.model, settings.pretrained)
    if not weights:
        raise unknown_name(f"pretrained weights of {settings.model}", settings.pretrained, tags)
    repo, _, file = str(weights.get("hf_hub", "")).rpartition("/")
    name = file or HF_WEIGHTS_NAME
    safe = HF_SAFE_WEIGHTS_NAME if name == HF_WEIGHTS_NAME else f"{Path(name).stem}.safetensors"
    return _model(
        f"{settings.model} ({settings.pretrained})",
        config,
        weights,
        local_path=checkpoint,
        hub_repo=repo,
        hub_files=(safe, name),
    )


def find_weights(model: SiglipModel) -> Path:
    """Return the weights file: local, from the hub's cache, or downloaded into that cache.

    The hub is asked once, for `HUB_TIMEOUT_S` at most, before any download starts.

    Raises:
        UserError: not on this machine and not to be had; the message says how to bring them.
    """
    if model.local_path is not None:
        return model.local_path
    if cached := _cached(model.hub_repo, model.hub_files):
        return cached
    why = "the hub repository has no such file"
    for name in model.hub_files:
        try:
            get_hf_file_metadata(hf_hub_url(model.hub_repo, name), timeout=HUB_TIMEOUT_S)
            return Path(hf_hub_download(model.hub_repo, name))
        except EntryNotFoundError:
            continue
        except Exception as error:  # noqa: BLE001 - whatever its client raises, the remedy is one
            why = f"{type(error).__name__}: {str(error).splitlines()[0]}"
            break
    folder = model.hub_repo.rpartition("/")[2]
    raise UserError(
        f"the weights of {model.name} are not on this machine (looked in "
        f"{constants.HF_HUB_CACHE}) and cannot be fetched ({why}).\n"
        f"On a machine with network:  hf download {model.hub_repo} "
        f'--include "open_clip*" --local-dir {folder}\n'
        f"Bring that folder here and add:  --set encoder.checkpoint={folder}\n"
        f"Or prune without weights, on low-level similarity:  --encoder thumbnail"
    ) from None


def find_tokenizer(model: SiglipModel) -> str:
    """Name what open_clip makes the model's tokenizer of: a folder, or its own name of the model.

    Raises:
        UserError: it is neither beside the weights nor in the hub's cache, and cannot be fetched.
    """
    repo = str(model.text_cfg.get("hf_tokenizer_name", ""))
    folder = model.local_path.parent if model.local_path else None
    if folder and all((folder / name).is_file() for name in (TOKENIZER_FILE, HF_CONFIG_NAME)):
        return f"local-dir:{folder}"
    if folder is None or not (folder / HF_CONFIG_NAME).is_file():  # a model of open_clip's own
        name = model.name.partition(" ")[0]
        if _cached(repo, (TOKENIZER_FILE,)):
            return name
        try:
            get_hf_file_metadata(hf_hub_url(repo, TOKENIZER_FILE), timeout=HUB_TIMEOUT_S)
        except Exception:  # noqa: BLE001 - whatever its client raises, the remedy is one
            folder = folder or Path(model.hub_repo.rpartition("/")[2])
        else:
            return name
    raise UserError(
        f"the tokenizer of {model.name}, for its text tower, is not on this machine and cannot be "
        f"fetched: no {TOKENIZER_FILE} beside the weights in {folder}, none of {repo!r} from the "
        f"hub.\nOn a machine with network:  hf download {repo or 'REPOSITORY'} "
        f'--include "*token*" --local-dir {folder}\n'
        "Bring these files into the folder of encoder.checkpoint; or leave the filter "
        "image_text_similarity out."
    )


def tower_tensors(path: Path, tower: str) -> Iterator[tuple[str, torch.Tensor]]:
    """Read one tower's tensors of a checkpoint, one by one; the other tower is not kept.

    Args:
        path: the weights file.
        tower: 'visual' or 'text', as open_clip's names begin.

    Yields:
        Name without the tower's, and the tensor on CPU, in the file's dtype. It may be a view of
        the file: copy it.

    Raises:
        UserError: the file cannot be read as weights, or has no such tower.
    """
    prefix = f"{tower}."
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118
                for name in names:
                    yield name.removeprefix(prefix), file.get_tensor(name)
        else:
            mmap = zipfile.is_zipfile(path)  # torch's format since 1.6: read only what is used
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
            state = state.get("state_dict", state)  # open_clip's training checkpoints
            state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
            names = [name for name in state if name.startswith(prefix)]
            for name in names:
                yield name.removeprefix(prefix), state[name]
    except Exception as error:
        raise UserError(
            f"{str(path)!r} cannot be read as weights: {type(error).__name__}: {error}"
        ) from error
    if not names:
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


def _from_folder(folder: Path) -> SiglipModel:
    try:
        config = json.loads((folder / HF_CONFIG_NAME).read_text())
        model_cfg, preprocess_cfg = config["model_cfg"], config["preprocess_cfg"]
        _ = model_cfg["embed_dim"], model_cfg["vision_cfg"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"the encoder's checkpoint folder {str(folder)!r} needs a file {HF_CONFIG_NAME} with "
            f"'model_cfg' and 'preprocess_cfg': {type(error).__name__}: {error}"
        ) from error
    found = sorted(path for path in folder.iterdir() if path.suffix in WEIGHT_SUFFIXES)
    known = [folder / name for name in (HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME)]
    choice = [path for path in known if path in found] or found
    if len(choice) != 1 and choice != known:
        raise UserError(
            f"the encoder's checkpoint folder {str(folder)!r} must hold one weights file, or "
            f"{HF_SAFE_WEIGHTS_NAME}; found {[path.name for path in found]}. Name the file itself "
            f"as checkpoint to choose."
        )
    return _model(str(folder), model_cfg, preprocess_cfg, local_path=choice[0])


def _model(
    name: str,
    config: dict[str, Any],
    preprocess: dict[str, Any],
    *,
    local_path: Path | None,
    hub_repo: str = "",
    hub_files: tuple[str, ...] = (),
) -> SiglipModel:
    merged = merge_preprocess_dict(asdict(PreprocessCfg()), preprocess)
    vision_cfg = dict(config["vision_cfg"])
    size = vision_cfg.get("image_size", 224)
    height_px, width_px = size if isinstance(size, list | tuple) else (size, size)
    if height_px != width_px:
        raise _unsupported(name, f"its input is {width_px} x {height_px} px, not square")
    if (how := merged["resize_mode"]) != "squash":
        raise _unsupported(name, f"its preprocessing is resize_mode {how!r}, not 'squash'")
    if (how := merged["interpolation"]) != "bicubic":
        raise _unsupported(name, f"it is made for {how} resizing; frames arrive resized bicubic")
    tower = vision_cfg.get("timm_model_name") or "not a timm model"
    if not vision_cfg.get("timm_model_name") or tower.startswith("naflex"):
        raise _unsupported(name, f"its image tower is {tower}")
    return SiglipModel(
        name=name,
        embed_dim=int(config["embed_dim"]),
        vision_cfg=vision_cfg,
        text_cfg=dict(config.get("text_cfg") or {}),
        quick_gelu=bool(config.get("quick_gelu", False)),
        image_px=int(width_px),
        mean=tuple(float(value) for value in merged["mean"]),
        std=tuple(float(value) for value in merged["std"]),
        local_path=local_path,
        hub_repo=hub_repo,
        hub_files=hub_files,
    )


def _unsupported(name: str, why: str) -> UserError:
    return UserError(
        f"{name} cannot be used as encoder: {why}. Wanted: a SigLIP or SigLIP2 of open_clip with "
        f"one square input size, such as ViT-SO400M-14-SigLIP-384 or ViT-B-16-SigLIP2-256."
    )


def _cached(repo: str, names: tuple[str, ...]) -> Path | None:
    for name in names:
        path = try_to_load_from_cache(repo, name)
        if isinstance(path, str):
            return Path(path)
    return None
