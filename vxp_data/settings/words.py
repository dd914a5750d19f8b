"""What the commands' options and the Python API's arguments stand for, whoever says them.

An `origin` is what messages call the thing said: '--keep 0.5' in a command, 'keep=0.5' in Python.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from vxp_data.core.budgets import Target
from vxp_data.core.per_cost import PER, Per
from vxp_data.errors import UserError, unknown_name
from vxp_data.registry import SELECTORS
from vxp_data.settings.curation import NO_SELECTOR
from vxp_data.settings.prune import threshold_spec

Override = tuple[str, Any, str]
"""(dotted key, value, origin), to be laid over a recipe or a run's settings."""

KEY_OF: Final[Mapping[str, str]] = {
    "encoder": "encoder.name",
    "measure": "measure",
    "duplicates": "duplicates.mode",
    "exclude": "duplicates.exclude",
    "per": "selection.per",
    "tokens_per_gpu_hour": "costs.tokens_per_gpu_hour",
    "address": "cluster.address",
    "engine": "cluster.engine",
    "share": "cluster.share",
    "decoder": "decode.decoder",
    "timeout": "decode.timeout_s",
    "memory": "decode.memory_mib",
    "epochs": "shard.num_epochs",
    "payload": "shard.payload",
    "shard_bytes": "shard.shard_bytes",
    "max_samples": "shard.max_samples",
    "world_size": "shard.world_size",
    "workers": "shard.workers",
    "out": "out",  # of a data recipe
}
"""By word, the one setting that it stands for."""

_UNITS: Final = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12,
                 "ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30, "ti": 1 << 40}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetText:
    """How much to keep of one task, as recipes write it."""

    task: str
    """'default' stands for all that are not named."""
    text: str
    """'0.8', 'keep 0.5', 'budget frames=2M'; see `threshold_spec`."""
    origin: str

    def target(self) -> Target:
        """Read the text.

        Raises:
            UserError: it is none that recipes may have.
        """
        try:
            return threshold_spec(self.text)
        except UserError as error:
            raise UserError(f"{self.origin}: {error}") from error


def target_overrides(given: Iterable[TargetText]) -> list[Override]:
    """Turn how much to keep into settings of a prune.

    Raises:
        UserError: one cannot be read, or a task has two.
    """
    checked = _by_task(given)
    for each in checked.values():
        each.target()
    return [(f"thresholds.{task}", each.text, each.origin) for task, each in checked.items()]


def read_targets(given: Iterable[TargetText]) -> tuple[dict[str, Target], Target | None]:
    """Read how much to keep: by task, and for all other tasks if that is given.

    Raises:
        UserError: one cannot be read, or a task has two.
    """
    found = {task: each.target() for task, each in _by_task(given).items()}
    default = found.pop("default", None)
    return found, default


def _by_task(given: Iterable[TargetText]) -> dict[str, TargetText]:
    found: dict[str, TargetText] = {}
    for each in given:
        if (other := found.get(each.task)) is not None:
            raise UserError(
                f"{each.origin}: {each.task!r} has {other.origin} already; give one threshold for "
                "each task."
            )
        found[each.task] = each
    return found


def read_weights(given: Iterable[tuple[str, Any, str]]) -> dict[str, float]:
    """Read the tasks' weights in a budget.

    Args:
        given: (task, weight as a number or its text, origin).

    Raises:
        UserError: a weight is no number above 0, or a task has two.
    """
    read: dict[str, float] = {}
    for task, number, origin in given:
        try:
            weight = float(number)
        except (TypeError, ValueError):
            weight = 0.0
        if not task or not weight > 0 or task in read:
            raise UserError(
                f"{origin}: wanted a task, once, and a number above 0, such as caption=2."
            )
        read[task] = weight
    return read


def read_selectors(given: Iterable[tuple[str, str, str]]) -> dict[str, str]:
    """Read the selectors of tasks.

    Args:
        given: (task or 'default', name, origin).

    Raises:
        UserError: a name is not known, or a task has two.
    """
    read: dict[str, str] = {}
    for task, name, origin in given:
        if name != NO_SELECTOR:
            SELECTORS.require(name)
        if task in read:
            raise UserError(f"{origin}: {task!r} has {read[task]!r} already; give one a task.")
        read[task] = name
    return read


def read_per(given: str | None, origin: str) -> Per | None:
    """Read what the order is by; None for None.

    Raises:
        UserError: it is not known.
    """
    found = next((per for per in PER if per == given), None)
    if given is not None and found is None:
        raise unknown_name(f"{origin}: order per", given, PER)
    return found


def gpu_hour_rate(given: float | str | Path | None, origin: str) -> float | None:
    """Read how many visual tokens a GPU trains on in an hour; None for None.

    Args:
        given: the number, its text, or a run record that has it among its figures.
        origin: what messages call it.

    Raises:
        UserError: it is none of these.
    """
    if given is None:
        return None
    try:
        return float(str(given))
    except ValueError:
        pass
    try:
        record = json.loads(Path(str(given)).read_text(encoding="utf-8"))
        return float(record["figures"]["tokens_per_gpu_hour"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{origin}: wanted a number, or a JSON record with figures.tokens_per_gpu_hour "
            f"({type(error).__name__}: {error})."
        ) from error


def num_bytes(given: int | str | None, origin: str) -> int | None:
    """Read 500M, 1.5Gi or a plain number; None for None.

    Raises:
        UserError: it is none of these.
    """
    if given is None or isinstance(given, int):
        return given
    number = given.lower().removesuffix("b")
    digits = number.rstrip("kmgti")
    try:
        return int(float(digits) * _UNITS[number[len(digits) :]])
    except (ValueError, KeyError, OverflowError):
        raise UserError(f"{origin}: wanted a number of bytes, such as 500M or 1Gi.") from None
