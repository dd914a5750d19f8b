"""What becomes of every tensor of a public Video-XL-Pro-3B or Video-XL-2 checkpoint.

The names were read from the released model code (VectorSpaceLab/Video-XL at 6e3dc89), not from the
weights. Which of the two a checkpoint is shows in its tensors: Video-XL-Pro has a selector of its
own (`model.text_mlp`, `model.WindowTimeToTokenAttention`), Video-XL-2 has none. What that changes
for us: Pro turns visual tokens by their position and writes times as 'Time 0012.3s:', Video-XL-2
does not turn them and writes 'Time 12.3s:'.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import torch
from torch import Tensor
from transformers import Qwen2Config

from vxp_model.errors import UserError, require
from vxp_model.models.released import (
    MODEL_DTS,
    MODEL_PROJECTOR,
    dts_sources,
    dts_width,
    fits,
    fitted,
    projector_sources,
)
from vxp_model.models.tensor_files import TensorFiles
from vxp_model.models.video_xl_pro import VideoXLProForConditionalGeneration
from vxp_model.models.video_xl_pro_config import VideoXLProConfig, vision_to_transformers
from vxp_model.modules.selector import QueryAwareSelector
from vxp_model.modules.shapes import VisionConfig

Kind = Literal["video-xl-pro", "video-xl-2"]

TIME_FORMATS: Final[dict[Kind, str]] = {
    "video-xl-pro": "Time {:06.1f}s:",
    "video-xl-2": "Time {:.1f}s:",
}
"""Of the processor."""

PARTS: Final = {
    "vision.tower.": "vision tower",
    "vision.dts.": "compressor",
    "vision.projector.": "projector",
    "selector.": "selector",
    "language_model.": "language model",
}
"""Beginnings of our names, and what is told of them."""

_WIDTHS: Final[dict[int, Kind]] = {2048: "video-xl-pro", 3584: "video-xl-2"}
"""Of the published models' language models, Qwen2.5 3B and 7B."""

_TOWER: Final = "model.vision_tower.vision_tower.vision_model."
_SELECTOR: Final = ("model.text_mlp.", "model.WindowTimeToTokenAttention.")
_TEXT_FIELDS: Final = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "vocab_size",
    "max_position_embeddings",
    "rms_norm_eps",
)
_WANTED: Final[dict[str, tuple[Any, ...]]] = {
    "hidden_act": ("silu",),
    "use_sliding_window": (False,),
    "mm_projector_type": ("mlp2x_gelu",),
}
"""Of config.json, where it has them: other values are another model."""

_LEFT_OUT: Final[tuple[tuple[str, str], ...]] = (
    (re.escape(_TOWER) + r"(encoder\.layers\.\d+|post_layernorm|head)\..+",
     "of the vision tower behind the layers that are run"),
    (re.escape(_TOWER) + r"embeddings\.position_ids", "numbers of positions, made anew"),
    (r"model\.(text_mlp|WindowTimeToTokenAttention)\..+",
     "of the released selector, which is built in another way"),
    (r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq", "computed from rope_theta"),
    (r"model\.(image_newline|vision_resampler\..+)",
     "never used by the released code for video"),
)  # fmt: skip
"""Names that a checkpoint may have and our model has no place for, and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorFate:
    """Where one tensor of the checkpoint went."""

    name: str
    part: str
    """Of our model; '' where it was left out."""
    why: str
    """Why it was left out; '' where it was taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportReport:
    """What became of a checkpoint."""

    fates: tuple[TensorFate, ...]
    """Of every tensor in it, by name."""
    random_parts: tuple[str, ...]
    """Parts of our model that it has no weights for."""

    def summary(self) -> str:
        """Return how many tensors went where, a line for each part."""
        counts: dict[str, int] = {}
        for fate in self.fates:
            line = fate.part or f"left out: {fate.why}"
            counts[line] = counts.get(line, 0) + 1
        lines = [f"{count:6} {line}" for line, count in sorted(counts.items())]
        return "\n".join([*lines, f"random: {', '.join(self.random_parts)}"])


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleasedPlan:
    """A checkpoint that fits our model, tensor by tensor; no weights are held."""

    kind: Kind
    config: VideoXLProConfig
    shapes: Mapping[str, tuple[int, ...]]
    """Of our model's stored tensors, by name."""
    report: ImportReport
    files: TensorFiles
    sources: Mapping[str, Sequence[str]] = field(repr=False)
    """Our names, and theirs; several are stacked. Those of random parts are missing."""
    selector: Mapping[str, Tensor] = field(repr=False)
    """What starts from chance, by our names."""

    def read(self, names: Sequence[str]) -> dict[str, Tensor]:
        """Read some of our model's tensors, on the CPU, in the checkpoint's dtype.

        Raises:
            UserError: a file of the checkpoint is damaged.
        """
        theirs = [name for ours in names for name in self.sources.get(ours, ())]
        read = self.files.read(theirs)
        found = {}
        for ours in names:
            if ours in self.selector:
                found[ours] = self.selector[ours]
                continue
            parts = [read[name] for name in self.sources[ours]]
            whole = parts[0] if len(parts) == 1 else torch.cat(parts)
            found[ours] = fitted(whole, self.shapes[ours], f"the tensor for {ours}")
        return found


def plan_released(
    folder: Path | str,
    *,
    kind: Kind | None = None,
    vision: VisionConfig | None = None,
    grid: int | None = None,
    visual_token_id: int = 151_654,
    seed: int = 0,
    ignore: Sequence[str] = (),
) -> ReleasedPlan:
    """Find a place for every tensor of a checkpoint. Reads names and shapes alone.

    Args:
        folder: config.json and weights.
        kind: of model; None: told by its tensors.
        vision: the tower's shape; None: read off its tensors, with 16 heads at SigLIP SO400M's
            width of 1,152, else one for 64 channels.
        grid: tokens along a side of a frame; the files do not tell. None: 24, or the tower's own
            where that has less.
        visual_token_id: see `VideoXLProConfig`.
        seed: of the selector's random weights.
        ignore: beginnings of names of further tensors that may be in it.

    Raises:
        UserError: it is no such checkpoint; a tensor is missing, unknown, or of another shape.
    """
    folder = Path(folder)
    _refuse_stage_files(folder)
    files = TensorFiles(folder)
    shapes = files.shapes()
    vision = vision or _vision_of(files, shapes)
    text_config = _text_config(folder)
    kind = kind or _kind_of(files, width=text_config.hidden_size)
    config = VideoXLProConfig(
        vision_config=vision_to_transformers(vision),
        text_config=text_config,
        grid=grid or min(24, vision.grid),
        legacy_frame_layout=True,
        legacy_relpos_transpose=True,
        visual_rotary=kind == "video-xl-pro",
        visual_token_id=visual_token_id,
        context_limit=text_config.max_position_embeddings,
        random_parts=["selector"],
    )
    wanted = _wanted_shapes(config)
    sources = {name: theirs for name in wanted if (theirs := _sources_of(name)) is not None}
    _check_shapes(files, shapes, sources, wanted)
    _check_tied(files, is_tied=bool(text_config.tie_word_embeddings))
    return ReleasedPlan(
        kind=kind,
        config=config,
        shapes=wanted,
        report=ImportReport(fates=_fates(files, sources, ignore), random_parts=("selector",)),
        files=files,
        sources=sources,
        selector=_random_selector(config, seed),
    )


def _refuse_stage_files(folder: Path) -> None:
    stage = [name for name in ("dts.pth", "mm_projector.bin") if (folder / name).is_file()]
    if stage and not (folder / "config.json").is_file():
        raise UserError(
            f"{str(folder)!r} has stage files of Video-XL-2 ({', '.join(stage)}): a compressor or "
            "a projector, and no language model to answer with. Take the whole model "
            "(BAAI/Video-XL-2); `vxp_model.models.released` reads stage files by themselves."
        )


def _kind_of(files: TensorFiles, *, width: int) -> Kind:
    has_selector = any(name.startswith(_SELECTOR) for name in files.names)
    found: Kind = "video-xl-pro" if has_selector else "video-xl-2"
    if _WIDTHS.get(width, found) != found:
        raise UserError(
            f"{str(files.path)!r} has {'a' if has_selector else 'no'} selector, as {found}, and a "
            f"language model {width} wide, as {_WIDTHS[width]}: say which it is, as --kind. It "
            "decides whether visual tokens are turned by their position, and how times are written."
        )
    return found


def _text_config(folder: Path) -> Qwen2Config:
    try:
        values: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        given = {name: values[name] for name in _TEXT_FIELDS}
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"{str(folder)!r} has no config.json of a Qwen2 model: {type(error).__name__}: {error}"
        ) from error
    for name, known in _WANTED.items():
        value = values.get(name, known[0])
        require(
            value in known,
            f"{str(folder)!r}: config.json has {name} {value!r}, and this model knows "
            f"{', '.join(map(repr, known))} alone: it would compute something else.",
        )
    rope = {"rope_type": "default", "rope_theta": float(values.get("rope_theta", 1e6))}
    tied = bool(values.get("tie_word_embeddings", False))
    return Qwen2Config(**given, rope_parameters=rope, tie_word_embeddings=tied)


def _vision_of(files: TensorFiles, shapes: Mapping[str, tuple[int, ...]]) -> VisionConfig:
    patch, position = (
        f"{_TOWER}embeddings.{name}.weight" for name in ("patch_embedding", "position_embedding")
    )
    mlp = f"{_TOWER}encoder.layers.0.mlp.fc1.weight"
    if lacking := [name for name in (patch, position, mlp) if name not in shapes]:
        raise UserError(
            f"{str(files.path)!r} has no SigLIP tower: it lacks {', '.join(lacking)}. Is it a "
            "whole Video-XL-Pro or Video-XL-2 model?"
        )
    width, patch_px = shapes[patch][0], shapes[patch][-1]
    side = math.isqrt(shapes[position][0])
    found = re.compile(re.escape(_TOWER) + r"encoder\.layers\.(\d+)\.")
    numbers = {int(match[1]) for name in shapes if (match := found.match(name))}
    whole = VisionConfig()
    return VisionConfig(
        # 384 px have a strip of 6 that no patch of 14 covers.
        image_px=whole.image_px if side == whole.grid else side * patch_px,
        patch_px=patch_px,
        width=width,
        mlp_width=shapes[mlp][0],
        num_heads=whole.num_heads if width == whole.width else max(1, width // 64),
        layer=min(whole.layer, max(numbers) + 1),
    )


def _wanted_shapes(config: VideoXLProConfig) -> dict[str, tuple[int, ...]]:
    """Return what a model stores: of tied weights, the embeddings alone."""
    with torch.device("meta"):
        model = VideoXLProForConditionalGeneration(config)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    if config.text_config.tie_word_embeddings:  # type: ignore[union-attr]
        del shapes["language_model.lm_head.weight"]
    return shapes


def _sources_of(name: str) -> list[str] | None:
    """Return a tensor's names in a checkpoint; None for what starts from chance."""
    if name.startswith("selector."):
        return None
    if name.startswith("vision.tower."):
        inner = name.removeprefix("vision.tower.")
        return [_TOWER + re.sub(r"^layers\.", "encoder.layers.", inner)]
    if name.startswith("vision.dts."):
        return _DTS_SOURCES[name.removeprefix("vision.dts.")]
    if name.startswith("vision.projector."):
        return _PROJECTOR_SOURCES[name.removeprefix("vision.projector.")]
    return [name.removeprefix("language_model.")]


_DTS_SOURCES: Final = dts_sources(MODEL_DTS)
_PROJECTOR_SOURCES: Final = projector_sources(MODEL_PROJECTOR)


def _check_shapes(
    files: TensorFiles,
    shapes: Mapping[str, tuple[int, ...]],
    sources: Mapping[str, Sequence[str]],
    wanted: Mapping[str, tuple[int, ...]],
) -> None:
    needed = {name for names in sources.values() for name in names}
    if lacking := sorted(needed - set(shapes)):
        raise UserError(
            f"{str(files.path)!r} lacks {len(lacking)} tensors: {', '.join(lacking[:5])}."
        )
    dts_width(shapes[f"{MODEL_DTS}temporal_encoding"], files.path)
    for ours, theirs in sources.items():
        got = list(shapes[theirs[0]])
        got[0] = sum(shapes[name][0] for name in theirs)
        if not fits(got, wanted[ours]):
            raise UserError(
                f"{str(files.path)!r}: {' + '.join(theirs)} is {got}, wanted "
                f"{list(wanted[ours])} for {ours}."
            )


def _check_tied(files: TensorFiles, *, is_tied: bool) -> None:
    """Check that a head which is stored though it is the embeddings is equal to them."""
    head, embeddings = "lm_head.weight", "model.embed_tokens.weight"
    if not is_tied or head not in files.names:
        return
    read = files.read([head, embeddings])
    if not torch.equal(read[head], read[embeddings]):
        raise UserError(
            f"{str(files.path)!r}: config.json says that head and embeddings are one, and they "
            "differ. Set tie_word_embeddings to false in it."
        )


def _fates(
    files: TensorFiles, sources: Mapping[str, Sequence[str]], ignore: Sequence[str]
) -> tuple[TensorFate, ...]:
    taken = {
        name: next(part for start, part in PARTS.items() if ours.startswith(start))
        for ours, names in sources.items()
        for name in names
    }
    fates, unknown = [], []
    for name in files.names:
        part = taken.get(name, "language model" if name == "lm_head.weight" else "")
        why = "" if part else _why_left_out(name, ignore)
        if not part and not why:
            unknown.append(name)
        fates.append(TensorFate(name=name, part=part, why=why))
    if unknown:
        raise UserError(
            f"{str(files.path)!r} holds {len(unknown)} tensors that no released model has: "
            f"{', '.join(unknown[:5])}{' ...' if len(unknown) > 5 else ''}. If they may be "
            "left out, name their beginnings as --ignore (in Python: ignore)."
        )
    return tuple(fates)


def _why_left_out(name: str, ignore: Sequence[str]) -> str:
    for pattern, why in _LEFT_OUT:
        if re.fullmatch(pattern, name):
            return why
    return "asked for" if ignore and name.startswith(tuple(ignore)) else ""


def _random_selector(config: VideoXLProConfig, seed: int) -> dict[str, Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        selector = QueryAwareSelector(config.text_width, config.selector)
    return {f"selector.{name}": tensor for name, tensor in selector.state_dict().items()}
