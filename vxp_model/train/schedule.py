"""Learning rate over the steps. Our own: DeepSpeed's WarmupCosineLR warms up logarithmically."""

from __future__ import annotations

import math


def lr_factor(step: int, *, total_steps: int, warmup: float, final: float) -> float:
    """Return the rate of a step as a share of the highest.

    It rises in a straight line over the first round(warmup * total_steps) steps, of which the last
    has the highest rate, then falls along half a cosine; the last step comes one short of `final`.

    Args:
        step: from 0.
        total_steps: of the training.
        warmup: share of the steps, in [0, 1].
        final: where the cosine ends, in [0, 1].

    Returns:
        factor: in (0, 1]; past the end, `final`.
    """
    warmup_steps = round(warmup * total_steps)
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(total_steps - warmup_steps, 1)
    return final + (1 - final) * (1 + math.cos(math.pi * min(progress, 1))) / 2
