"""Where training stands in the data: what a checkpoint keeps of the loader."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, Self

from vxp_model.errors import UserError

STATE_VERSION: Final = 1
_MAX_LINES: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceState:
    """One part of the mixture, as it was."""

    uri: str
    """Where it lay; it may lie elsewhere now."""
    digest: str
    """SHA-256 of its index.json."""
    weight: float | None
    kinds: list[str] | None
    datasets: list[str] | None = None
    num_left_out: int = 0
    """Rows that are left out by rule."""
    left_out: str = ""
    """Digest of them, see `Rows.left_out_digest`; '' where there are none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replacement:
    """One sample whose media could not be used, and what came in its place."""

    epoch: int
    position: int
    """Position in the epoch's order, over all ranks."""
    source: int
    sample_id: str
    key: str
    """Of its clip: what is broken."""
    uri: str
    reason: str
    message: str
    by_sample_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LoaderState:
    """A position in the data. The same on every rank, but for `replaced`; see `merge_states`."""

    version: int
    order: dict[str, Any]
    """Fields of `OrderRule`."""
    sources: list[SourceState]
    epoch: int
    position: int
    """Samples of this epoch that have been given out, over all ranks."""
    replaced: list[Replacement]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as JSON and checkpoints keep them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_dict` gave.

        Raises:
            UserError: it is not a state of this version.
        """
        if values.get("version") != STATE_VERSION:
            raise UserError(
                f"loader state: version is {values.get('version')!r}, wanted {STATE_VERSION}. "
                "Resume with the version of vxp that saved it."
            )
        try:
            names = {field.name: values[field.name] for field in fields(cls)}
            names["sources"] = [SourceState(**source) for source in values["sources"]]
            names["replaced"] = [Replacement(**entry) for entry in values["replaced"]]
            return cls(**names)
        except (KeyError, TypeError) as error:
            raise UserError(f"loader state: not what `state_dict()` gives: {error!r}.") from error


def require_same_data(saved: LoaderState, now: LoaderState) -> None:
    """Refuse a state of other data or another order: its position means nothing there.

    Free to change are the batch limits, the world size, the workers, the decoder, and where the
    shards lie.

    Raises:
        UserError: the indexes, the mixture, or the order's settings differ; the message has all of
            it.
    """
    problems = []
    if len(saved.sources) != len(now.sources):
        problems.append(f"{len(now.sources)} sources, the state has {len(saved.sources)}")
    for number, (old, new) in enumerate(zip(saved.sources, now.sources, strict=False)):
        if old.digest != new.digest:
            problems.append(
                f"source {number} ({new.uri}): its index.json has SHA-256 {new.digest[:16]}..., "
                f"the state was saved with {old.digest[:16]}... ({old.uri})"
            )
        for name in ("weight", "kinds", "datasets"):
            got, wanted = getattr(new, name), getattr(old, name)
            if got != wanted:
                problems.append(
                    f"source {number} ({new.uri}): {name} {got}, the state has {wanted}"
                )
        if old.left_out != new.left_out:
            problems.append(
                f"source {number} ({new.uri}): {new.num_left_out} rows are left out, the state was "
                f"saved with {old.num_left_out}, or others"
            )
    for name, wanted in saved.order.items():
        if (got := now.order.get(name)) != wanted:
            problems.append(f"{name} {got}, the state has {wanted}")
    if problems:
        raise UserError(
            f"cannot resume in this data: {'; '.join(problems)}. Use the shards and settings of "
            "the saved run, or begin anew without its loader state."
        )


def list_replaced(replaced: Sequence[Replacement]) -> str:
    """List the clips that could not be used, each once: how many samples, reason, message."""
    samples: dict[tuple[int, str], list[Replacement]] = {}
    for entry in replaced:
        samples.setdefault((entry.source, entry.key), []).append(entry)
    lines = [
        f"  {first.sample_id} ({first.uri}, clip {first.key}), {1 + len(more)} times: "
        f"{first.reason}: {first.message}"
        for first, *more in samples.values()
    ]
    head = f"{len(replaced)} samples of {len(samples)} broken clips were replaced:"
    return "\n".join([head, *lines[:_MAX_LINES], *["  ..."][: len(lines) > _MAX_LINES]])


def merge_states(states: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Merge all ranks' `state_dict()`s, with every rank's replacements.

    Args:
        states: one of each rank, taken after the same step.

    Raises:
        ValueError: they differ in more than what was replaced.
    """
    first = dict(states[0])
    for rank, state in enumerate(states):
        odd = [name for name in first if name != "replaced" and state[name] != first[name]]
        if odd:
            raise ValueError(f"the states of ranks 0 and {rank} differ in {', '.join(odd)}")
    merged = {
        (entry["epoch"], entry["position"], entry["sample_id"]): entry
        for state in states
        for entry in state["replaced"]
    }
    return first | {"replaced": [merged[index] for index in sorted(merged)]}
