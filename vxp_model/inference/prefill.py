"""Reading a long prompt a piece at a time.

Shape suffixes: B samples, P positions, D the language model's width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import Cache

from vxp_model.inference.window import WindowCache

CHUNK_POSITIONS = 1024
"""Positions read at once: bounds the memory of activations and masks."""


@torch.no_grad()
def prefill(
    language_model: Any,
    embeds_BPD: Tensor,
    *,
    attention_mask_BP: Tensor | None = None,
    chunk_positions: int = CHUNK_POSITIONS,
    is_visual_P: Tensor | None = None,
    window: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Cache:
    """Read all but the last position of a prompt.

    transformers' own `prefill_chunk_size` takes token ids alone. Given to the language model's
    `generate` together with all of `embeds_BPD`, the cache saves it all that work, and the answer
    is the one without it but for the last bits of floating point.

    Args:
        language_model: a causal language model of transformers, in eval mode.
        embeds_BPD: of the whole prompt.
        attention_mask_BP: 0 at padding, which is at the beginning; None: there is none.
        chunk_positions: read at once.
        is_visual_P: bool, of all positions; wanted with a window.
        window: before each piece is read, forget visual tokens but for so many that came last; see
            `WindowCache`. None: nothing is forgotten.
        progress: called with the positions read so far.

    Returns:
        cache: keys and values of P - 1 positions, or of those that were not forgotten.

    Raises:
        ValueError: a window, and no word of which positions are visual.
    """
    if window is not None and is_visual_P is None:
        raise ValueError("window needs is_visual_P")
    decoder = language_model.get_decoder()
    cache = DynamicCache() if window is None else WindowCache(window)
    end = embeds_BPD.shape[1] - 1
    if attention_mask_BP is None:
        index_BP = torch.arange(end, device=embeds_BPD.device)[None]
    else:
        index_BP = (attention_mask_BP.cumsum(-1) - 1).clamp_min(0)
    for start in range(0, end, chunk_positions):
        stop = min(start + chunk_positions, end)
        decoder(
            inputs_embeds=embeds_BPD[:, start:stop],
            attention_mask=None if attention_mask_BP is None else attention_mask_BP[:, :stop],
            position_ids=index_BP[:, start:stop],
            past_key_values=cache,
            use_cache=True,
        )
        if isinstance(cache, WindowCache) and is_visual_P is not None:
            cache.forget(is_visual_P[start:stop])
        if progress is not None:
            progress(stop)
    return cache


def cached_positions(cache: Cache) -> int:
    """Count the positions whose keys and values a cache holds."""
    return cache.num_kept if isinstance(cache, WindowCache) else cache.get_seq_length()
