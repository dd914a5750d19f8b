"""Read compressor and projector out of the public Video-XL-Pro and Video-XL-2 checkpoints.

What the files are: Video-XL-Pro-3B is a whole language model (folder of safetensors) in which the
compressor is `model.sae.*` and the projector `model.mm_projector.*`; Video-XL-2 gives stage files,
`dts.pth` with the compressor alone and `mm_projector.bin`. The names here were read from the
released model code (VectorSpaceLab/Video-XL at 6e3dc89), which can build no other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from vxp_model.errors import UserError
from vxp_model.models.tensor_files import TensorFiles
from vxp_model.modules.dts import DynamicTokenSynthesizer
from vxp_model.modules.projector import MlpProjector
from vxp_model.modules.shapes import DTSConfig

MODEL_DTS = "model.sae."
MODEL_PROJECTOR = "model.mm_projector."
"""Where compressor and projector are in a whole released model."""

_DTS_PREFIXES = (MODEL_DTS, "sae.", "module.", "")
_PROJECTOR_PREFIXES = (MODEL_PROJECTOR, "mm_projector.")

OTHER_PARTS = (
    "lm_head.",
    "model.embed_tokens.",
    "model.layers.",
    "model.norm.",
    "model.vision_tower.",
    "model.vision_resampler.",
    "model.image_newline",
    "model.text_mlp.",
    "model.WindowTimeToTokenAttention.",
)
"""What else the released models are made of; known, and not read here."""

_LINEAR = ("weight", "bias")


@dataclass(frozen=True, slots=True, kw_only=True)
class Accounts:
    """Where every tensor of a checkpoint went."""

    read: int
    """Tensors that were taken."""

    left: Mapping[str, int]
    """Tensors that belong to other parts of the model, by part."""


def load_released_dts(
    path: Path | str, *, ignore: Sequence[str] = ()
) -> tuple[DynamicTokenSynthesizer, Accounts]:
    """Build the compressor with released weights; it then computes what the released code does.

    Both legacy flags are on: the weights were trained with, or at least are used with, mixed-up
    axes and a transposed position table.

    Args:
        path: a checkpoint folder, `dts.pth`, or a safetensors file.
        ignore: beginnings of names of further tensors that may be in it.

    Returns:
        dts: float32, in training mode as any new module.
        accounts: of every tensor in the checkpoint.

    Raises:
        UserError: the checkpoint holds no such compressor, one of its tensors is missing or has
            another shape, or the checkpoint holds a tensor that nobody knows.
    """
    files = TensorFiles(path)
    prefix = _prefix(files, _DTS_PREFIXES, "temporal_encoding", "compressor")
    sources = dts_sources(prefix)
    read, accounts = _read(files, sources, others=_PROJECTOR_PREFIXES, ignore=ignore)
    width = dts_width(read["time_code"].shape, path)
    config = DTSConfig(width=width, legacy_frame_layout=True, legacy_relpos_transpose=True)
    with torch.device("meta"):
        dts = DynamicTokenSynthesizer(config)
    _assign(dts, read, path)
    return dts, accounts


def load_released_projector(
    path: Path | str, *, ignore: Sequence[str] = ()
) -> tuple[MlpProjector, Accounts]:
    """Build the projector with released weights; see `load_released_dts`.

    Args:
        path: a checkpoint folder, `mm_projector.bin`, or a safetensors file.
        ignore: beginnings of names of further tensors that may be in it.
    """
    files = TensorFiles(path)
    prefix = _prefix(files, _PROJECTOR_PREFIXES, "0.weight", "projector")
    sources = projector_sources(prefix)
    read, accounts = _read(files, sources, others=(MODEL_DTS,), ignore=ignore)
    width = read["up.weight"].shape[-1]
    with torch.device("meta"):
        projector = MlpProjector(width, read["up.weight"].shape[0])
    _assign(projector, read, path)
    return projector, accounts


def dts_width(time_code_shape: Sequence[int], path: Path | str) -> int:
    """Return the channels of a released compressor.

    Raises:
        UserError: its time code is not that of four frames.
    """
    if len(time_code_shape) != 2 or time_code_shape[0] != 4:
        raise UserError(
            f"{str(path)!r}: the time code is {list(time_code_shape)}, not 4 frames of channels."
        )
    return int(time_code_shape[1])


def projector_sources(prefix: str) -> dict[str, list[str]]:
    """Return the projector's names with us, and in a checkpoint behind a prefix."""
    return {
        f"{ours}.{kind}": [f"{prefix}{theirs}.{kind}"]
        for ours, theirs in (("up", 0), ("out", 2))
        for kind in _LINEAR
    }


def dts_sources(prefix: str) -> dict[str, list[str]]:
    """Return the compressor's names with us, and in a checkpoint behind a prefix.

    Where theirs are three they are stacked in this order.
    """
    sources = {"time_code": ["temporal_encoding"]}
    for stage in range(2):
        spatial, temporal, conv = (f"encoder.{3 * stage + i}" for i in range(3))
        ours = f"stages.{stage}"
        for kind in _LINEAR:
            sources[f"{ours}.spatial.norm.{kind}"] = [f"{spatial}.norm.{kind}"]
            sources[f"{ours}.spatial.qkv.{kind}"] = [f"{spatial}.{part}.{kind}" for part in "qkv"]
            sources[f"{ours}.spatial.out.{kind}"] = [f"{spatial}.proj_out.{kind}"]
            sources[f"{ours}.temporal.norm.{kind}"] = [f"{temporal}.norm.{kind}"]
            sources[f"{ours}.temporal.qkv.{kind}"] = [f"{temporal}.qkv.{kind}"]
            sources[f"{ours}.temporal.out.{kind}"] = [f"{temporal}.proj_out.{kind}"]
            sources[f"{ours}.conv.{kind}"] = [f"{conv}.conv.{kind}"]
        for table, letter in (("key_table", "k"), ("value_table", "v")):
            name = f"{temporal}.relative_position_{letter}.embeddings_table"
            sources[f"{ours}.temporal.{table}"] = [name]
    return {ours: [prefix + name for name in names] for ours, names in sources.items()}


def _prefix(files: TensorFiles, prefixes: Sequence[str], first: str, what: str) -> str:
    found = [prefix for prefix in prefixes if prefix + first in files.names]
    if len(found) != 1:
        wanted = " or ".join(repr(prefix + first) for prefix in prefixes)
        raise UserError(
            f"{str(files.path)!r} must hold one {what}: looked for {wanted}, found "
            f"{', '.join(found) or 'none'}. Its names begin with: "
            f"{', '.join(sorted({name.split('.')[0] for name in files.names})[:8])}."
        )
    return found[0]


def _read(
    files: TensorFiles,
    sources: Mapping[str, Sequence[str]],
    *,
    others: Sequence[str],
    ignore: Sequence[str],
) -> tuple[dict[str, Tensor], Accounts]:
    wanted = [name for names in sources.values() for name in names]
    if lacking := sorted(set(wanted) - set(files.names)):
        raise UserError(f"{str(files.path)!r} lacks {len(lacking)} tensors: {_some(lacking)}.")
    left: Counter[str] = Counter()
    unknown = []
    known = (*OTHER_PARTS, *others, *ignore)
    for name in sorted(set(files.names) - set(wanted)):
        part = next((part for part in known if name.startswith(part)), None)
        if part is None:
            unknown.append(name)
        else:
            left[part] += 1
    if unknown:
        raise UserError(
            f"{str(files.path)!r} holds {len(unknown)} tensors that no released model has: "
            f"{_some(unknown)}. Name them under 'ignore' if they may be left out."
        )
    read = files.read(wanted)
    state = {
        ours: torch.cat([read[name].float() for name in names]) for ours, names in sources.items()
    }
    return state, Accounts(read=len(wanted), left=dict(left))


def _assign(module: torch.nn.Module, state: Mapping[str, Tensor], path: Path | str) -> None:
    """Fill a module, made without memory, with tensors of its shapes or with trailing ones more."""
    shaped = {
        name: fitted(state[name], parameter.shape, f"{str(path)!r}: the tensor for {name}")
        for name, parameter in module.named_parameters()
    }
    module.load_state_dict(shaped, strict=True, assign=True)
    module.requires_grad_(True)


def fitted(tensor: Tensor, shape: Sequence[int], what: str) -> Tensor:
    """Return a tensor in a shape that it has, or has with trailing ones.

    1 x 1 x 1 kernels are our linear layers.

    Raises:
        UserError: it has another shape.
    """
    if not fits(tensor.shape, shape):
        raise UserError(f"{what} is {list(tensor.shape)}, wanted {list(shape)}.")
    return tensor.reshape(tuple(shape))


def fits(got: Sequence[int], wanted: Sequence[int]) -> bool:
    """Whether a shape is the wanted one but for trailing ones."""
    count = len(wanted)
    return list(got[:count]) == list(wanted) and all(size == 1 for size in got[count:])


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (" ..." if len(names) > 5 else "")
