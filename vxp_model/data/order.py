"""In which order samples come: a pure function of (seed, epoch, indexes, weights, frame counts).

The order of an epoch does not know how many ranks or workers there are: it is one sequence of
samples, cut into batches, dealt out to the ranks. So a position in it, a number of samples, is all
that a resume needs, whatever the world size before and after.

Shapes: P parts of a mixture, N samples of a part, E samples of an epoch, B batches.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vxp_data.core.seeds import hash64

_COPY_BIT: Final = 40
"""Where the number of a sample's copy goes in what is hashed; rows stay below it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderRule:
    """What a user sets of the order."""

    seed: int = 0
    """Another seed gives another order."""
    shuffle: bool = True
    """False: each part in the order of its shards, every epoch."""
    epoch_samples: int | None = None
    """Samples of an epoch, over all ranks. None: the smallest epoch that holds every sample."""
    length_window: int = 0
    """Length grouping: in each stretch of so many samples, those with about as many planned frames
    come together; 0: off. A multiple of `length_run`; thousands keep the shuffle good."""
    length_run: int = 64
    """Samples that come together; at least a step's samples over all ranks serves best."""

    def __post_init__(self) -> None:
        if self.epoch_samples is not None and self.epoch_samples < 1:
            raise ValueError(f"epoch_samples must be 1 or more, got {self.epoch_samples}")
        if self.length_run < 1:
            raise ValueError(f"length_run must be 1 or more, got {self.length_run}")
        if self.length_window < 0 or self.length_window % self.length_run:
            raise ValueError(
                f"length_window must be 0 or a multiple of length_run ({self.length_run}), got "
                f"{self.length_window}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRule:
    """How a rank's batch is cut from the order: as many samples as fit both limits, 1 at least."""

    max_samples: int = 1
    max_frames: int | None = None
    """Planned frames of the first stored epoch, summed over the batch; None: no limit."""

    def __post_init__(self) -> None:
        for name, value in (("max_samples", self.max_samples), ("max_frames", self.max_frames)):
            if value is not None and value < 1:
                raise ValueError(f"{name} must be 1 or more, got {value}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part of a mixture, as far as the order depends on it."""

    digest: str
    """Of its index: another index, another shuffle."""
    num_frames_N: NDArray[np.int32]
    weight: float | None = None
    """Its share of the epoch's samples, against the other parts' weights. None, for all parts or
    for none: as many samples as it has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochOrder:
    """The samples of one epoch, in order."""

    part_E: NDArray[np.int32]
    sample_E: NDArray[np.int64]
    """Index in the part, from 0."""
    num_frames_E: NDArray[np.int32]

    def __post_init__(self) -> None:
        got = (len(self.part_E), len(self.sample_E), len(self.num_frames_E))
        if len(set(got)) > 1:
            raise ValueError(f"the columns of an order differ in length: {got}; want E each")

    def __len__(self) -> int:
        """Return the number of samples, E."""
        return len(self.part_E)


def part_counts(
    sizes: Sequence[int], weights: Sequence[float | None], epoch_samples: int | None
) -> list[int]:
    """Return how many samples of an epoch come from each part.

    With weights, each part's share is exact to within one sample (largest remainder, the earlier
    part where remainders are equal). Without an epoch length, the epoch is the smallest in which no
    part gives less than all its samples: repeated is only what the weights demand.

    Args:
        sizes: samples of each part, 1 or more.
        weights: positive and finite, or all None: then each part's size.
        epoch_samples: samples of the epoch.

    Raises:
        ValueError: a size or weight is out of range, or only some parts have a weight.
    """
    if not sizes or min(sizes) < 1:
        raise ValueError(f"every part must have a sample, got sizes {list(sizes)}")
    given = [weight for weight in weights if weight is not None]
    if len(given) not in (0, len(sizes)):
        raise ValueError(f"give every part a weight or none, got {list(weights)}")
    if any(not 0 < weight < math.inf for weight in given):
        raise ValueError(f"weights must be positive numbers, got {given}")
    # As decimals, not as binary fractions: 0.1 and 0.3 are one to three exactly.
    exact = [Fraction(repr(weight)) for weight in given] or [Fraction(size) for size in sizes]
    total = sum(exact)
    pairs = list(zip(sizes, exact, strict=True))
    length = epoch_samples or max(math.ceil(size * total / weight) for size, weight in pairs)
    quotas = [length * weight / total for weight in exact]
    counts = [math.floor(quota) for quota in quotas]
    by_remainder = sorted(range(len(counts)), key=lambda p: (counts[p] - quotas[p], p))
    for part in by_remainder[: length - sum(counts)]:
        counts[part] += 1
    return counts


def epoch_order(parts: Sequence[Part], rule: OrderRule, epoch: int) -> EpochOrder:
    """Return the samples of an epoch, in order.

    A part that gives n of its N samples gives each n // N times, and n % N of them once more: the
    next of a shuffled circle, which goes on from epoch to epoch. So none comes a second time before
    all have come once, neither in an epoch nor over epochs.

    The parts are mixed evenly: any stretch of the order holds each part's share (of two parts: to
    within two samples), in random order.

    Args:
        parts: the mixture.
        rule: seed, length and grouping.
        epoch: from 0.

    Returns:
        The order; memory and time grow with E (a second and 100 bytes for a million samples).
    """
    weights = [part.weight for part in parts]
    counts = part_counts([len(part.num_frames_N) for part in parts], weights, rule.epoch_samples)
    samples, keys, lengths = [], [], []
    for number, (part, count) in enumerate(zip(parts, counts, strict=True)):
        sample_n = _drawn(part, number, count, rule, epoch)
        # Sample i of n gets a key in [i / n, (i + 1) / n): sorted together, each part is spread
        # evenly over the epoch.
        hash_n = _hashes(sample_n, "place", rule.seed, epoch, number, part.digest)
        jitter_n = hash_n / 2.0**64 if rule.shuffle else np.full(count, 0.5)
        samples.append(sample_n & ((1 << _COPY_BIT) - 1))
        keys.append((np.arange(count) + jitter_n) / max(count, 1))
        lengths.append(part.num_frames_N[samples[-1]])
    part_E = np.repeat(np.arange(len(parts), dtype=np.int32), counts)
    order_E = np.argsort(np.concatenate(keys), kind="stable")
    num_frames_E = np.concatenate(lengths)[order_E]
    if rule.length_window:
        order_E = order_E[_grouped(num_frames_E, rule, epoch)]
    return EpochOrder(
        part_E=part_E[order_E],
        sample_E=np.concatenate(samples)[order_E],
        num_frames_E=np.concatenate(lengths)[order_E],
    )


def cut_batches(
    num_frames_E: NDArray[np.int32], rule: BatchRule, *, start: int = 0
) -> NDArray[np.int64]:
    """Cut an epoch into batches, from a position on.

    Batches are filled one after the other, so that cutting again from where a batch begins gives
    the same batches from there on.

    Args:
        num_frames_E: planned frames of each sample, in order.
        rule: the limits.
        start: position of the first sample, 0 <= start <= E.

    Returns:
        bound: int64 [B + 1], batch b is the samples bound[b] to bound[b + 1]; bound[0] is `start`,
        bound[B] is E.
    """
    length = len(num_frames_E)
    if rule.max_frames is None:
        return np.append(np.arange(start, length, rule.max_samples), length).astype(np.int64)
    until = np.concatenate([[0], np.cumsum(num_frames_E, dtype=np.int64)]).tolist()
    bounds = [start]
    while (first := bounds[-1]) < length:
        # The last position up to which the frames fit; the first sample is taken whatever it has.
        fitting = bisect_right(until, until[first] + rule.max_frames, lo=first) - 1
        bounds.append(min(max(fitting, first + 1), first + rule.max_samples, length))
    return np.array(bounds, dtype=np.int64)


def _drawn(part: Part, number: int, count: int, rule: OrderRule, epoch: int) -> NDArray[np.int64]:
    """Draw a part's samples for an epoch, shuffled; from bit `_COPY_BIT` on: which copy it is."""
    size = len(part.num_frames_N)
    full, rest = divmod(count, size)
    row_N = np.arange(size, dtype=np.int64)
    circle_N = row_N
    if rule.shuffle:
        # Without the epoch: each one goes on around the same circle where the last one stopped.
        circle_N = np.argsort(_hashes(row_N, "circle", rule.seed, number, part.digest))
    more = circle_N[(epoch * rest + np.arange(rest)) % size]
    copies = [row_N + (copy << _COPY_BIT) for copy in range(full)]
    # Sorted, so that an order that is not shuffled goes by the shards.
    drawn = np.concatenate([*copies, np.sort(more) + (full << _COPY_BIT)])
    if rule.shuffle:
        hashes = _hashes(drawn, "order", rule.seed, epoch, number, part.digest)
        drawn = drawn[np.argsort(hashes, kind="stable")]
    return drawn


def _grouped(num_frames_E: NDArray[np.int32], rule: OrderRule, epoch: int) -> NDArray[np.int64]:
    """Return the indices in the order that length grouping wants."""
    index_E = np.arange(len(num_frames_E), dtype=np.int64)
    window_E = index_E // rule.length_window
    sorted_E = np.lexsort((index_E, num_frames_E, window_E))
    if not rule.shuffle:
        return sorted_E
    run_E = index_E // rule.length_run  # windows are whole runs
    key_E = _hashes(run_E, "runs", rule.seed, epoch)
    whole = len(index_E) // rule.length_run * rule.length_run
    key_E[whole:] = np.iinfo(np.uint64).max  # the short run last, or all after it would be askew
    return sorted_E[np.lexsort((index_E, key_E, window_E))]


def _hashes(value_N: NDArray[np.int64], *about: int | str) -> NDArray[np.uint64]:
    """Hash whole numbers to 64 bits, by what they are about (SplitMix64's finaliser)."""
    # Products go round at 2**64, as they are meant to; numpy says nothing of it in arrays.
    x_N = value_N.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(hash64(*about))
    x_N = (x_N ^ (x_N >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x_N = (x_N ^ (x_N >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x_N ^ (x_N >> np.uint64(31))
