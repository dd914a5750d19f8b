"""What is known of a run that may be under way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Phase(StrEnum):
    """Where a run is."""

    NONE = "none"
    """Nothing has run here yet."""
    CHECKING = "checking"
    """Rows are read, files looked at, what is done already found."""
    EMBEDDING = "embedding"
    DECIDING = "deciding"
    """All is embedded; scores and decisions are written."""
    ENDED = "ended"
    STOPPED = "stopped"
    """It has no run.json, and nobody works on it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunState:
    """What `vxp-data watch` shows of a run."""

    run: str
    phase: Phase
    holder: str
    """Who works on it, or died of it; '' where nobody does."""
    is_killed: bool
    """The holder is known to be dead, or its lease has run out."""
    silent_s: float | None
    """How long its next line is overdue; None: it is not."""
    eta_s: float | None
    """Until all is embedded, at the rate of the last minute."""
    metrics: Mapping[str, Any] | None
    """The last line; None: there is none."""

    @property
    def is_under_way(self) -> bool:
        """Whether more is to come."""
        return self.phase in (Phase.CHECKING, Phase.EMBEDDING, Phase.DECIDING)

    def as_json(self) -> dict[str, Any]:
        """Return it for scripts."""
        return asdict(self)
