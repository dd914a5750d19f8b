"""Prompts that were selected in, read and continued: by generation, or by given replies.

Shape suffixes: B prompts, P positions, T tokens of a reply, V vocabulary, D the language model's
width.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers.cache_utils import Cache

from vxp_model.inference.answers import Continuation
from vxp_model.inference.asked import Asked
from vxp_model.models.visual_sequence import VisualSequence

BATCH_POSITIONS = 32_768
"""Positions of a batch, padding included: bounds its memory. A longer prompt is read alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selected:
    """A question, and its prompt after selection."""

    asked: Asked
    sequence: VisualSequence
    select_s: float

    @property
    def num_positions(self) -> int:
        """Of the prompt."""
        return int(self.sequence.embeds_BPD.shape[1])


def in_batches(
    prompts: Iterable[Selected], *, most: int, most_positions: int
) -> Iterator[list[Selected]]:
    """Put prompts together, in their order.

    No more of them are held than a batch and the one that comes next.

    Args:
        prompts: one question each.
        most: prompts of a batch.
        most_positions: of a batch, padding included, where it has more than one prompt.
    """
    batch: list[Selected] = []
    for prompt in prompts:
        longest = max(one.num_positions for one in [*batch, prompt])
        if batch and (len(batch) == most or longest * (len(batch) + 1) > most_positions):
            yield batch
            batch = []
        batch.append(prompt)
    if batch:
        yield batch


def padded_left(prompts: Sequence[Selected]) -> tuple[Tensor, Tensor]:
    """Stack prompts.

    Returns:
        embeds_BPD: 0 at padding.
        attention_mask_BP: int64, 0 at padding.
    """
    if len(prompts) == 1:  # no second copy of a long prompt
        return prompts[0].sequence.embeds_BPD, prompts[0].sequence.attention_mask_BP
    longest = max(prompt.num_positions for prompt in prompts)
    embeds, masks = [], []
    for prompt in prompts:
        missing = longest - prompt.num_positions
        embeds.append(functional.pad(prompt.sequence.embeds_BPD, (0, 0, missing, 0)))
        masks.append(functional.pad(prompt.sequence.attention_mask_BP, (missing, 0)))
    return torch.cat(embeds), torch.cat(masks)


def num_new(ids: Sequence[int], ends: int | Sequence[int], *, most: int) -> tuple[int, bool]:
    """Count the tokens of an answer, its end included.

    Args:
        ids: what was generated, perhaps with padding behind its end.
        ends: tokens that end an answer.
        most: longest answer.

    Returns:
        count: of tokens.
        has_ended: whether the last of them is an end.
    """
    known = {ends} if isinstance(ends, int) else set(ends)
    for number, token in enumerate(ids[:most]):
        if token in known:
            return number + 1, True
    return min(len(ids), most), False


@torch.no_grad()
def continuations(
    language_model: Any,
    last_1D: Tensor,
    num_read: int,
    cache: Cache,
    replies: Sequence[Sequence[int]],
) -> list[Continuation]:
    """Read replies one after another behind a prompt that is read once.

    All begin after the same position, so that a reply of one token costs nothing more than that
    position does.

    Args:
        language_model: a causal language model of transformers, in eval mode.
        last_1D: the prompt's last position.
        num_read: positions before it.
        cache: of those; it grows by one.
        replies: one token or more each.
    """

    def log_probs(positions: int, **given: Tensor) -> Tensor:
        start = num_read + positions
        (shape,) = (value.shape for value in given.values())
        index_BT = torch.arange(start, start + shape[1], device=last_1D.device)[None]
        output = language_model(
            **given, position_ids=index_BT, past_key_values=cache, use_cache=True
        )
        log_TV: Tensor = output.logits[0].float().log_softmax(-1)
        return log_TV

    first_1V = log_probs(0, inputs_embeds=last_1D[None])
    found = []
    for reply in replies:
        ids_T = torch.tensor(reply, device=last_1D.device)
        log_TV = first_1V
        if len(reply) > 1:
            log_TV = torch.cat([first_1V, log_probs(1, input_ids=ids_T[None, :-1])])
            cache.crop(1 - len(reply))
        found.append(
            Continuation(
                log_prob=float(log_TV.gather(1, ids_T[:, None]).double().sum()),
                num_tokens=len(reply),
                is_greedy=bool((log_TV.argmax(-1) == ids_T).all()),
            )
        )
    return found
