"""Rows with several media: how the frames of one row are shared out among them.

Each medium is planned by a rule of its own, which is the row's with a smaller cap, so that together
they have no more frames than a row of one medium may have.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from fractions import Fraction

from vxp_data.core.sampling_plans import Policy, SamplingRule
from vxp_data.registry import SAMPLING_POLICIES


def share_frames(max_frames: int, duration_s: Sequence[float | None]) -> list[int]:
    """Share frames out: one to each image, the rest to the videos in proportion to their length.

    Largest remainder, the earlier medium where remainders are equal. Every medium gets one at
    least, so that the sum is `max_frames` where there is a video and room for one each.

    Args:
        max_frames: of all media together.
        duration_s: seconds of each medium's part, 0 or more and finite; None of an image.

    Returns:
        Frames of each medium.

    Raises:
        ValueError: a length is out of range.
    """
    lengths = {i: Fraction(seconds) for i, seconds in enumerate(duration_s) if seconds is not None}
    if any(length < 0 for length in lengths.values()):
        raise ValueError(f"lengths must be 0 or more, got {list(duration_s)}")
    shares = [1] * len(duration_s)
    left = max_frames - (len(shares) - len(lengths))
    quotas = _quotas(left, lengths)
    while short := [i for i, quota in quotas.items() if quota < 1]:
        for i in short:  # keeps its one frame; the others share what is left
            del lengths[i]
        left -= len(short)
        quotas = _quotas(left, lengths)
    for i, quota in quotas.items():
        shares[i] = math.floor(quota)
    by_remainder = sorted(quotas, key=lambda i: (shares[i] - quotas[i], i))
    for i in by_remainder[: left - sum(shares[i] for i in quotas)]:
        shares[i] += 1
    return shares


def media_rules(rule: SamplingRule, duration_s: Sequence[float | None]) -> list[SamplingRule]:
    """Return the rule by which each medium of a row is planned.

    Shared is the cap that the policy sets for a video as long as all of them together.

    Args:
        rule: what the user set.
        duration_s: see `share_frames`.
    """
    policy: Policy = SAMPLING_POLICIES.load(rule.policy)
    whole_s = math.fsum(seconds for seconds in duration_s if seconds is not None)
    cap = min(rule.max_frames, policy(rule, whole_s, lambda _: 0).max_frames)
    return [
        dataclasses.replace(rule, max_frames=share, num_frames=min(rule.num_frames, share))
        for share in share_frames(cap, duration_s)
    ]


def _quotas(num_frames: int, lengths: dict[int, Fraction]) -> dict[int, Fraction]:
    """Divide frames in proportion to lengths, exactly; evenly where nothing has any length."""
    total = sum(lengths.values())
    return {
        i: num_frames * length / total if total else Fraction(num_frames, len(lengths))
        for i, length in lengths.items()
    }
