"""Reading a long prompt a piece at a time.

Shape suffixes: B samples, P positions, D the language model's width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

CHUNK_POSITIONS = 1024
"""Positions read at once: bounds the memory of activations and masks."""


@torch.no_grad()
def prefill(
    language_model: Any,
    embeds_BPD: Tensor,
    *,
    chunk_positions: int = CHUNK_POSITIONS,
    progress: Callable[[int], None] | None = None,
) -> DynamicCache:
    """Read all but the last position of a prompt.

    transformers' own `prefill_chunk_size` takes token ids alone. Given to the language model's
    `generate` together with all of `embeds_BPD`, the cache saves it all that work, and the answer
    is the one without it but for the last bits of floating point.

    Args:
        language_model: a causal language model of transformers, in eval mode.
        embeds_BPD: of the whole prompt, without padding.
        chunk_positions: read at once.
        progress: called with the positions read so far.

    Returns:
        cache: keys and values of P - 1 positions.
    """
    decoder = language_model.get_decoder()
    cache = DynamicCache()
    end = embeds_BPD.shape[1] - 1
    for start in range(0, end, chunk_positions):
        stop = min(start + chunk_positions, end)
        decoder(inputs_embeds=embeds_BPD[:, start:stop], past_key_values=cache, use_cache=True)
        if progress is not None:
            progress(stop)
    return cache
