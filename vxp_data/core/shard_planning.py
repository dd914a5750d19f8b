"""Shard planning: which clips go into which shard, so that every shard costs about the same.

Shapes: N clips, S shards.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

_NAME_DIGITS: Final = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipCosts:
    """What N clips weigh."""

    key: Sequence[str]
    """Unique names, made from content."""
    kind: Sequence[str]
    """Clips of one kind share shards: values of records.Modality."""
    num_bytes: NDArray[np.int64]
    """Bytes in the shard."""
    decode_cost: NDArray[np.float64]
    """See `decode_cost`."""

    def __post_init__(self) -> None:
        lengths = {len(self.key), len(self.kind), len(self.num_bytes), len(self.decode_cost)}
        if len(lengths) != 1:
            raise ValueError(f"columns of one length wanted, got lengths {sorted(lengths)}")
        if len(set(self.key)) != len(self.key):
            raise ValueError("keys must be unique")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedShard:
    """One shard to be written."""

    name: str
    kind: str
    members: NDArray[np.int64]
    """Indices of its clips in the columns, in the order of their keys."""


def decode_cost(*, width_px: int, height_px: int, num_frames: float) -> float:
    """Return what a sample costs to decode in one epoch: megapixels that the codec must produce.

    At 1 to 4 frames a second nearly every frame of a compressed video has to be decoded on the way,
    so `num_frames` is that of the sample's part of the video for a video payload, and the planned
    number where the shard holds images.
    """
    return width_px * height_px * num_frames / 1e6


def plan_shards(
    clips: ClipCosts, *, shard_bytes: int, max_clips: int, divisor: int, salt: str
) -> list[PlannedShard]:
    """Put every clip into a shard: near-equal bytes and decode cost, kinds apart, nothing left out.

    The number of shards of a kind is the smallest multiple of `divisor` that keeps to `shard_bytes`
    on average and to `max_clips`; where a kind has too few clips for that, the largest multiple
    that leaves no shard empty (`max_clips` gives way), or one clip a shard where even `divisor` is
    more than there are.
    Clips are placed heaviest first, each where the sum over shards of bytes squared and cost
    squared (as shares of their totals) grows least: into the shard that has least of what the clip
    has most of. Time grows with clips times shards, about 10 s for 400,000 clips in 1,000 shards.

    Args:
        clips: in any order; the plan does not depend on it.
        shard_bytes: what a shard should hold; one larger clip has a shard's room for itself.
        max_clips: most clips in a shard.
        divisor: world size times loader workers.
        salt: digest of everything else that the shards' bytes depend on; goes into their names.

    Returns:
        Shards, by kind and number. Equal arguments give equal names and members.

    Raises:
        ValueError: a limit is below 1.
    """
    for name, value in (
        ("shard_bytes", shard_bytes),
        ("max_clips", max_clips),
        ("divisor", divisor),
    ):
        if value < 1:
            raise ValueError(f"{name} must be 1 or more, got {value}")
    shards = []
    for kind in sorted(set(clips.kind)):
        own = [i for i in range(len(clips.key)) if clips.kind[i] == kind]
        mine = np.array(sorted(own, key=lambda i: clips.key[i]), dtype=np.int64)
        number = _num_shards(clips.num_bytes[mine], shard_bytes, max_clips, divisor)
        most = max(max_clips, math.ceil(len(mine) / number))
        shard_M = _assign(clips.num_bytes[mine], clips.decode_cost[mine], number, most)
        for index in range(number):
            members = mine[shard_M == index]
            digest = hashlib.sha256("\0".join([salt, *(clips.key[i] for i in members)]).encode())
            name = f"{kind}-{index:05d}-{digest.hexdigest()[:_NAME_DIGITS]}.tar"
            shards.append(PlannedShard(name=name, kind=kind, members=members))
    return shards


def _num_shards(
    num_bytes_M: NDArray[np.int64], shard_bytes: int, max_clips: int, divisor: int
) -> int:
    num_clips = len(num_bytes_M)
    least = max(math.ceil(int(num_bytes_M.sum()) / shard_bytes), math.ceil(num_clips / max_clips))
    wanted = math.ceil(max(1, least) / divisor) * divisor
    if wanted <= num_clips:
        return wanted
    return num_clips // divisor * divisor or num_clips


def _assign(
    num_bytes_M: NDArray[np.int64], cost_M: NDArray[np.float64], number: int, most: int
) -> NDArray[np.int64]:
    """Share M clips, in order of their keys, out over `number` shards of at most `most` clips."""
    bytes_M, cost_M = _shares(num_bytes_M.astype(np.float64)), _shares(cost_M)
    shard_M = np.zeros(len(num_bytes_M), dtype=np.int64)
    bytes_S, cost_S, count_S = (np.zeros(number) for _ in range(3))
    for m in np.argsort(-np.maximum(bytes_M, cost_M), kind="stable"):
        # Half of what the sum of squares grows by, without the clip's own squares.
        growth_S = bytes_S * bytes_M[m] + cost_S * cost_M[m]
        growth_S[count_S >= most] = np.inf
        count_of_best_S = np.where(growth_S == growth_S.min(), count_S, np.inf)
        shard = int(count_of_best_S.argmin())  # of equals the one with fewest clips: none is empty
        shard_M[m] = shard
        bytes_S[shard] += bytes_M[m]
        cost_S[shard] += cost_M[m]
        count_S[shard] += 1
    return shard_M


def _shares(value_M: NDArray[np.float64]) -> NDArray[np.float64]:
    total = math.fsum(value_M.tolist())  # exact: np.sum's last bits differ between processors
    shares: NDArray[np.float64] = value_M / total if total > 0 else np.zeros(len(value_M))
    return shares
