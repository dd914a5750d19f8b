"""Checkpoints: written whole or not at all, the newest few kept.

    checkpoints/step-00000500/
        state.json      where training stands, and the size of every other file
        engine/         DeepSpeed's: weights, optimizer
        rng-0.pt        each process's random states
        zero_to_*.py    DeepSpeed's own, with ZeRO: they put divided weights together

A checkpoint is written under another name and renamed at the end, when all of it is on the disk.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from vxp_model.errors import UserError
from vxp_model.train.distributed import DistributedContext

_FORMAT: Final = 1
_STATE: Final = "state.json"
_NAME: Final = re.compile(r"step-(\d{8})")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainState:
    """Where a training stands, beside weights and random states."""

    step: int
    """Steps done."""
    total_steps: int
    world_size: int
    settings: dict[str, Any]
    """The recipe's."""
    loader: dict[str, Any]
    """`ShardLoader.state_dict`, with what all processes replaced."""
    frozen_digest: str
    """Of the weights that are used and not trained; empty: there are none."""
    num_tokens: int
    """Tokens of frames that went in."""
    bad_batches: list[list[str]] = field(default_factory=list)
    """Sample ids of each batch that was left out."""
    datasets: dict[str, list[int]] = field(default_factory=dict)
    """Of each dataset, samples that went in, and their tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The checkpoint to go on from, and what was passed over."""

    folder: Path | None
    state: TrainState | None
    skipped: list[str]
    """One line for each newer checkpoint that is not whole."""


def save_checkpoint(
    root: Path,
    state: TrainState,
    write: Callable[[Path], None],
    context: DistributedContext,
    *,
    keep: int,
) -> Path:
    """Write a checkpoint, then remove the oldest beyond `keep`; every process calls it.

    Args:
        root: folder of all checkpoints, seen by all processes.
        state: the same in every process.
        write: puts DeepSpeed's files into a folder.
        context: of the processes.
        keep: newest checkpoints that stay, 1 or more.

    Returns:
        folder: of this one.
    """
    folder = root / f"step-{state.step:08d}"
    part = root / f".{folder.name}.part"
    if context.is_first:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
    context.barrier()
    write(part)
    torch.save(_random_states(), part / f"rng-{context.rank}.pt")
    context.barrier()
    if context.is_first:
        _commit(part, folder, state)
        for old in _numbered(root)[:-keep]:
            gone = root / f".{old.name}.old"
            old.rename(gone)  # removed as a whole, also if we are stopped here
            shutil.rmtree(gone)
    context.barrier()
    return folder


def find_checkpoint(root: Path) -> Found:
    """Find the newest whole checkpoint.

    Raises:
        UserError: there are checkpoints and none is whole.
    """
    skipped = []
    for folder in reversed(_numbered(root)):
        try:
            state = _read_whole(folder)
        except (OSError, ValueError, KeyError, TypeError) as error:
            skipped.append(f"{folder} is not whole: {error}")
            continue
        return Found(folder=folder, state=state, skipped=skipped)
    if skipped:
        lines = "\n".join(skipped)
        raise UserError(
            f"no checkpoint in {str(root)!r} can be used:\n{lines}\nBring them back, or remove "
            "the folder to begin anew."
        )
    return Found(folder=None, state=None, skipped=[])


def require_same_run(
    saved: TrainState,
    now: TrainState,
    *,
    may_change: Collection[str],
    where: str,
    zero_stage: int,
) -> None:
    """Refuse to go on with other settings than those of the checkpoint.

    That the data is the same, the loader checks.

    Args:
        saved: of the checkpoint.
        now: of this run, before its first step.
        may_change: dotted keys of settings that may differ.
        where: the run directory, for the message.
        zero_stage: from 1 on, the number of processes must be the same.

    Raises:
        UserError: they differ; the message has all of it.
    """
    values, before = dict(_leaves(now.settings)), dict(_leaves(saved.settings))
    wrong = [
        f"{key} is {values.get(key)!r}, was {before.get(key)!r}"
        for key in sorted(values.keys() | before.keys())
        if key not in may_change and values.get(key) != before.get(key)
    ]
    if saved.total_steps != now.total_steps:
        wrong.append(f"the training has {now.total_steps} steps, it had {saved.total_steps}")
    if saved.frozen_digest != now.frozen_digest:
        wrong.append("the weights that are not trained, or their precision, are others")
    if saved.world_size != now.world_size and zero_stage > 0:
        wrong.append(
            f"{now.world_size} processes, {saved.world_size} saved it, and ZeRO has divided the "
            "optimizer among them"
        )
    if wrong:
        raise UserError(
            f"cannot go on in {where!r}: {'; '.join(wrong)}. Use the settings of the saved run, or "
            "another run.out."
        )


def clear_leftovers(root: Path) -> None:
    """Remove what a killed run left half-written or half-removed."""
    for pattern in (".step-*.part", ".step-*.old"):
        for folder in root.glob(pattern):
            shutil.rmtree(folder)


def restore_random_states(folder: Path, context: DistributedContext) -> None:
    """Set the random states of torch, numpy and Python to those of a checkpoint.

    With more processes than before, the new ones keep theirs.
    """
    if not (path := folder / f"rng-{context.rank}.pt").is_file():
        return
    states = torch.load(path, weights_only=True)
    torch.set_rng_state(states["torch"])
    if context.device.type == "cuda" and states["cuda"] is not None:
        torch.cuda.set_rng_state(states["cuda"], context.device)
    name, keys, *rest = states["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))  # noqa: NPY002
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _random_states() -> dict[str, Any]:
    name, keys, *rest = np.random.get_state()  # noqa: NPY002 - libraries may use it
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
        "numpy": [name, np.asarray(keys).tolist(), *rest],
        "python": list(random.getstate()),
    }


def _commit(part: Path, folder: Path, state: TrainState) -> None:
    files = {
        path.relative_to(part).as_posix(): path.stat().st_size
        for path in sorted(part.rglob("*"))
        if path.is_file()
    }
    content = {"format": _FORMAT, "files": files, "state": asdict(state)}
    (part / _STATE).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    for path in [*part.rglob("*"), part]:
        _sync(path)
    shutil.rmtree(folder, ignore_errors=True)  # not whole, or we would not write it again
    part.rename(folder)
    _sync(folder.parent)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _numbered(root: Path) -> list[Path]:
    """Return the finished checkpoints, oldest first."""
    if not root.is_dir():
        return []
    return sorted(path for path in root.iterdir() if _NAME.fullmatch(path.name))


def _read_whole(folder: Path) -> TrainState:
    content = json.loads((folder / _STATE).read_text(encoding="utf-8"))
    if content["format"] != _FORMAT:
        raise ValueError(f"it has format {content['format']}, this reads {_FORMAT}")
    for name, num_bytes in content["files"].items():
        got = (folder / name).stat().st_size
        if got != num_bytes:
            raise ValueError(f"{name} has {got} bytes, wanted {num_bytes}")
    return TrainState(**content["state"])
