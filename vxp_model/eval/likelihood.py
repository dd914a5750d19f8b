"""Answers by likelihood: of the options that a question has, the one a model finds likeliest."""

from __future__ import annotations

import time
from typing import Any

from vxp_model.errors import UserError
from vxp_model.eval.adapters.base import EvalModel, Reply
from vxp_model.eval.benchmarks.base import Prompt


def likeliest(model: EvalModel, watched: Any, prompt: Prompt) -> Reply | UserError:
    """Take the likeliest of a prompt's choices for the answer.

    Args:
        model: that asked.
        watched: what it made of the video.
        prompt: with choices.

    Returns:
        The answer; or why there is none.
    """
    if not prompt.choices:
        return UserError("answer.by: likelihood needs questions with options; this one has none.")
    began_s = time.monotonic()
    try:
        found = model.continued(watched, prompt, prompt.choices)
    except UserError as error:
        return error
    log_probs = tuple(one.log_prob for one in found)
    best = max(range(len(log_probs)), key=log_probs.__getitem__)  # of equal ones, the first
    return Reply(
        text=prompt.choices[best],
        finish="stop",
        num_visual=0,
        num_kept=0,
        log_probs=log_probs,
        seconds={"choose": time.monotonic() - began_s},
        peak_bytes=0,
    )
