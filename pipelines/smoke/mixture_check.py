"""Does fine-tuning see the mixture: in the shards each dataset's rows, in training its share?

Sample ids begin with their dataset's name, in shards and in a training's log.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet as pq

from vxp_data.errors import ExpectationError
from vxp_model.train.metrics_log import read_log


@dataclass(frozen=True, slots=True, kw_only=True)
class MixtureSeen:
    """Rows of each dataset: wanted, in shards, and how often training saw one."""

    wanted: Mapping[str, int]
    sharded: Mapping[str, int]
    seen: Mapping[str, int]
    num_epochs: int
    """That training went through, the last one counted whole."""
    unseen: Sequence[str] = field(default=())
    """Rows in shards that training never saw."""

    def asked(self, dataset: str) -> float:
        """Return how often training was to see a row of a dataset, by the wanted shares."""
        return sum(self.seen.values()) * self.wanted[dataset] / sum(self.wanted.values())

    def problems(self) -> list[str]:
        """Return what is not as the mixture says; an epoch is exact to one sample a dataset."""
        found = []
        if dict(self.sharded) != dict(self.wanted):
            found.append(f"the shards hold {dict(self.sharded)} rows, wanted {dict(self.wanted)}")
        found += [
            f"training saw rows of {name} {self.seen.get(name, 0)} times, wanted "
            f"{self.asked(name):.0f} within {self.num_epochs}"
            for name in self.wanted
            if abs(self.seen.get(name, 0) - self.asked(name)) > self.num_epochs
        ]
        if self.unseen:
            found.append(f"training never saw {len(self.unseen)} rows, such as {self.unseen[0]}")
        return found

    def require(self) -> None:
        """Check that all is as the mixture says.

        Raises:
            ExpectationError: something is not; the message has all of it.
        """
        if problems := self.problems():
            told = "\n  ".join(problems)
            raise ExpectationError(f"fine-tuning did not see its mixture:\n  {told}")

    def lines(self) -> list[str]:
        """Return a line a dataset."""
        total = sum(self.seen.values())
        return [
            f"  {name}: {self.sharded[name]} rows of {wanted} in shards, seen {self.seen[name]} "
            f"times, {self.seen[name] / total:.1%} of training; asked "
            f"{wanted / sum(self.wanted.values()):.1%}"
            for name, wanted in self.wanted.items()
        ]


def mixture_seen(wanted: Mapping[str, int], shards: Path, log: Path) -> MixtureSeen:
    """Count what shards hold and what a training saw.

    Args:
        wanted: rows by dataset.
        shards: their folder.
        log: of the training.
    """
    ids = pq.read_table(shards / "samples.parquet", columns=["sample_id"])["sample_id"].to_pylist()
    entries = read_log(log)
    seen = Counter(name for entry in entries for name in entry["sample_ids"])
    return MixtureSeen(
        wanted=wanted,
        sharded=_by_dataset(ids),
        seen=_by_dataset(seen.elements()),
        num_epochs=math.ceil(entries[-1]["epoch"]),
        unseen=tuple(sorted(set(ids) - set(seen))),
    )


def _by_dataset(ids: Iterable[str]) -> Counter[str]:
    return Counter(name.partition("/")[0] for name in ids)
