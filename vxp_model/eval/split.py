"""Which part of a run answers which videos: fixed before the first is opened."""

from __future__ import annotations

import heapq
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from vxp_model.errors import UserError, require


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One of several processes that share the videos of a run."""

    index: int = 0
    count: int = 1

    @classmethod
    def of(cls, shard: str | None, environment: Mapping[str, str] = os.environ) -> Self:
        """Return the part of this process: ranks of a launcher share the part that is named.

        Args:
            shard: 'i/N', i from 0; None: all.
            environment: RANK and WORLD_SIZE, as torchrun sets them.

        Raises:
            UserError: a shard of another form.
        """
        index, count = 0, 1
        if shard is not None:
            first, slash, second = shard.partition("/")
            if not (slash and first.isdecimal() and second.isdecimal()):
                raise UserError(f"--shard takes i/N with i from 0, such as 0/4; got {shard!r}.")
            index, count = int(first), int(second)
            require(count > 0, f"--shard {shard}: N must be 1 or more, such as 0/4.")
            require(index < count, f"--shard {shard}: i must be below N; the last is {count - 1}.")
        rank, world = (int(environment.get(key, d)) for key, d in (("RANK", 0), ("WORLD_SIZE", 1)))
        return cls(index=index * world + rank, count=count * world)

    @property
    def name(self) -> str:
        """Of its files."""
        return f"part-{self.index:05d}-of-{self.count:05d}"

    def share(self, costs: Mapping[str, float]) -> set[str]:
        """Return the videos that this part answers.

        The costliest goes first, each to the part that has least so far, so that every part
        computes the same split and none has more than the least by above one video.

        Args:
            costs: video -> what it takes, such as bytes; less than 1, as of files of no known
                size, counts as 1.
        """
        loads = [(0.0, part) for part in range(self.count)]
        own = set()
        for video in sorted(costs, key=lambda video: (-costs[video], video)):
            load, part = heapq.heappop(loads)
            heapq.heappush(loads, (load + max(costs[video], 1.0), part))
            if part == self.index:
                own.add(video)
        return own
