"""Write a public Video-XL-Pro-3B or Video-XL-2 checkpoint as a folder of our model.

    <out>/config.json, model*.safetensors    the model
    <out>/tokenizer.json, ...                its processor
    <out>/generation_config.json             what ends answers
    <out>/import.json                        what became of every tensor of the checkpoint
    <out>/README.md                          the model's card

It is made in a folder beside `out` and renamed when it is whole. What a stop leaves there is gone
on with, if it is of the same checkpoint and options. One file of weights is held at a time.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from transformers import AutoTokenizer, GenerationConfig

from vxp_model.errors import UserError, require
from vxp_model.models.processor import VideoXLProProcessor
from vxp_model.models.released_card import write_released_card
from vxp_model.models.released_plan import TIME_FORMATS, Kind, ReleasedPlan, plan_released
from vxp_model.models.special_tokens import check_fits, end_ids, with_visual_token
from vxp_model.models.video_xl_pro import VideoXLProForConditionalGeneration

Say = Callable[[str], None]

SHARD_BYTES: Final = 1 << 30
"""Of a file of weights, unless one tensor alone is larger."""

_PLAN_NAME: Final = "unfinished.json"
_DTYPES: Final = ("bfloat16", "float16", "float32")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOptions:
    """How a checkpoint is imported."""

    kind: Kind | None = None
    """Of model; None: told by its tensors."""
    tokenizer: Path | str | None = None
    """Folder of it; None: the checkpoint's own."""
    dtype: str = "auto"
    """Of what is written: bfloat16, float16, float32, or auto, as the embeddings are stored."""
    ignore: Sequence[str] = ()
    """Beginnings of names of tensors that nobody knows and that may be left out."""
    seed: int = 0
    """Of the selector, which starts from chance."""
    shard_bytes: int = SHARD_BYTES
    """Of a file of weights, at most, but for larger tensors."""


def import_released(
    folder: Path | str, out: Path | str, options: ImportOptions, say: Say = lambda _: None
) -> ReleasedPlan:
    """Convert a checkpoint.

    Args:
        folder: config.json, weights and tokenizer, as they are published.
        out: where the model goes; must not exist, or be empty.
        options: see there.
        say: told what is done.

    Returns:
        plan: what became of every tensor.

    Raises:
        UserError: it is no such checkpoint; a tensor is missing, unknown, or of another shape;
            `out` holds something; there is no tokenizer.
    """
    folder, out = Path(folder).expanduser(), Path(out).expanduser()
    require(
        options.dtype in ("auto", *_DTYPES),
        f"dtype must be auto, {', '.join(_DTYPES)}, got {options.dtype!r}.",
    )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{str(out)!r} is there and not empty: name another --out, or remove it.")
    plan = plan_released(folder, kind=options.kind, seed=options.seed, ignore=options.ignore)
    processor = _processor(plan, Path(options.tokenizer or folder))
    dtype = _dtype_of(plan, options.dtype)
    say(f"{plan.kind}, {dtype}: {len(plan.report.fates)} tensors\n{plan.report.summary()}")
    beside = _staging(out, plan, options, dtype)
    _write_weights(plan, beside, dtype, options.shard_bytes, say)
    _write_rest(plan, processor, beside, dtype)
    (beside / _PLAN_NAME).unlink()
    if out.exists():
        out.rmdir()
    beside.rename(out)
    return plan


def _processor(plan: ReleasedPlan, folder: Path) -> VideoXLProProcessor:
    """Return the processor; the plan's config gets the id of its visual token."""
    config, tokenizer = plan.config, _tokenizer(folder)
    config.visual_token_id = with_visual_token(
        tokenizer,
        num_embeddings=config.text_config.vocab_size,  # type: ignore[union-attr]
    )
    processor = VideoXLProProcessor.for_model(
        config, tokenizer, time_format=TIME_FORMATS[plan.kind]
    )
    check_fits(config, processor)
    return processor


def _tokenizer(folder: Path) -> Any:
    try:
        return AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"{str(folder)!r} has no tokenizer that transformers can read ({first}). Name the "
            "folder of the language model that it was made from, or of its tokenizer, as "
            "--tokenizer."
        ) from error


def _dtype_of(plan: ReleasedPlan, wanted: str) -> torch.dtype:
    if wanted != "auto":
        return getattr(torch, wanted)  # type: ignore[no-any-return]
    name = "language_model.model.embed_tokens.weight"
    found = plan.read([name])[name].dtype
    require(
        str(found).removeprefix("torch.") in _DTYPES,
        f"{str(plan.files.path)!r}: weights are of {found}; quantised ones are not known.",
    )
    return found


def _staging(out: Path, plan: ReleasedPlan, options: ImportOptions, dtype: torch.dtype) -> Path:
    """Return the folder that becomes `out`: a stopped import of the same, or a new one."""
    beside = out.parent / f".{out.name}.import"
    files = sorted(path for path in plan.files.path.iterdir() if path.is_file())
    same = {
        "files": [[f.name, f.stat().st_size, f.stat().st_mtime_ns] for f in files],
        "options": {**asdict(options), "tokenizer": str(options.tokenizer), "dtype": str(dtype)},
        "kind": plan.kind,
    }
    text = json.dumps(same, indent=1, default=list)
    note = beside / _PLAN_NAME
    if beside.exists():
        if note.is_file() and note.read_text(encoding="utf-8") == text:
            return beside
        shutil.rmtree(beside)
    beside.mkdir(parents=True)
    note.write_text(text, encoding="utf-8")
    return beside


def _shards(
    plan: ReleasedPlan, dtype: torch.dtype, shard_bytes: int
) -> Iterator[tuple[list[str], int]]:
    """Deal tensors out to files: names of each, and their bytes."""
    names: list[str] = []
    total = 0
    for name, shape in plan.shapes.items():
        size = torch.Size(shape).numel() * dtype.itemsize
        if names and total + size > shard_bytes:
            yield names, total
            names, total = [], 0
        names.append(name)
        total += size
    yield names, total


def _write_weights(
    plan: ReleasedPlan, beside: Path, dtype: torch.dtype, shard_bytes: int, say: Say
) -> None:
    shards = list(_shards(plan, dtype, shard_bytes))
    where: dict[str, str] = {}
    for number, (names, num_bytes) in enumerate(shards, start=1):
        single = len(shards) == 1
        stem = "model" if single else f"model-{number:05}-of-{len(shards):05}"
        path = beside / f"{stem}.safetensors"
        where |= dict.fromkeys(names, path.name)
        if path.is_file() and _holds(path, names):
            say(f"{path.name}: written before")
            continue
        part = beside / f".{path.name}.part"
        read = plan.read(names)
        state = {name: read.pop(name).to(dtype).contiguous() for name in names}
        save_file(state, part, metadata={"format": "pt"})
        part.replace(path)
        say(f"{path.name}: {len(names)} tensors, {num_bytes / 1e9:.2f} GB")
    if len(shards) > 1:
        index = {
            "metadata": {"total_size": sum(num_bytes for _, num_bytes in shards)},
            "weight_map": dict(sorted(where.items())),
        }
        text = json.dumps(index, indent=2) + "\n"
        (beside / "model.safetensors.index.json").write_text(text, encoding="utf-8")


def _holds(path: Path, names: Sequence[str]) -> bool:
    """Whether a file is whole and has just these tensors; safetensors tells a cut file itself."""
    try:
        with safe_open(path, framework="pt") as opened:
            return set(opened.keys()) == set(names)
    except (SafetensorError, OSError):
        return False


def _write_rest(
    plan: ReleasedPlan, processor: VideoXLProProcessor, beside: Path, dtype: torch.dtype
) -> None:
    config, tokenizer = plan.config, processor.tokenizer
    config.dtype = dtype
    config.architectures = [VideoXLProForConditionalGeneration.__name__]
    config.save_pretrained(beside)
    ends: Any = GenerationConfig(  # type: ignore[no-untyped-call]
        eos_token_id=end_ids(tokenizer), pad_token_id=int(tokenizer.pad_token_id)
    )
    ends.save_pretrained(beside)
    processor.save_pretrained(beside)
    name = str(dtype).removeprefix("torch.")
    content = {
        "kind": plan.kind,
        "dtype": name,
        "random_parts": list(plan.report.random_parts),
        "tensors": {fate.name: fate.part or f"left out: {fate.why}" for fate in plan.report.fates},
    }
    text = json.dumps(content, indent=1) + "\n"
    (beside / "import.json").write_text(text, encoding="utf-8")
    write_released_card(beside / "README.md", plan, dtype=name)
