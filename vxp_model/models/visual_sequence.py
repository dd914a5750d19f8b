"""A prompt with visual tokens: what each position is, which of them stay, and the batch of them.

Shape suffixes: B samples, P positions of the longest sample, M visual tokens of a sample, G groups
of frames of a sample, D the language model's width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional

from vxp_model.modules.selector import TokenLayout

_ROTARY_BASE = 1e6

IGNORED_LABEL = -100
"""What transformers' losses leave out."""


class Kind(IntEnum):
    """What stands at a position."""

    TEXT = 0
    """Always kept."""
    VISUAL = 1
    """A token of a group of a video's frames."""
    TIME = 2
    """Of the text that tells when the group of frames that follows begins."""
    QUERY = 3
    """Text that the selector judges visual tokens by: one question, without its answer."""
    IMAGE = 4
    """A token of an image."""


def is_visual(kinds: Tensor) -> Tensor:
    """Return where visual tokens are, of videos and images: bool, of the same shape."""
    return (kinds == Kind.VISUAL) | (kinds == Kind.IMAGE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What the selector did with one sample."""

    num_visual: int
    """Visual tokens that there were."""

    num_kept: int
    """Of those, how many the language model gets."""

    num_dropped_time: int
    """Positions of time text that went with groups of which no token is left."""

    scores_M: Tensor | None
    """float32, infinite for images' tokens that stay in any case; None where nothing had to be
    chosen."""

    kept_G: Tensor
    """int64: kept tokens of each group."""

    keep_M: Tensor | None = None
    """bool: which stay; None: all."""

    @classmethod
    def of_all(cls, num_visual: int, kept_G: Tensor) -> Self:
        """Describe that every token stays."""
        return cls(
            num_visual=num_visual,
            num_kept=num_visual,
            num_dropped_time=0,
            scores_M=None,
            kept_G=kept_G,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What of a sample goes into the language model."""

    keep_P: Tensor | None
    """bool: which positions stay; None: all."""

    visual_KD: Tensor
    """The visual tokens that stay."""

    selection: Selection


@dataclass(frozen=True, slots=True, kw_only=True)
class VisualSequence:
    """What goes into the language model."""

    embeds_BPD: Tensor
    attention_mask_BP: Tensor
    """int64, 0 at padding."""

    is_visual_BP: Tensor
    """bool: where visual tokens are."""

    labels_BP: Tensor | None
    selections: tuple[Selection, ...]
    """One for each sample."""


def layout_of(kinds_P: Tensor, *, group_tokens: int) -> TokenLayout:
    """Find a sample's groups.

    A group's time text, if it has any, stands right before its visual tokens.

    Args:
        kinds_P: of one sample, its padding as `Kind.TEXT`.
        group_tokens: visual tokens of a group.

    Raises:
        ValueError: the visual positions are not whole groups, or time text is followed by none.
    """
    is_visual_P = is_visual(kinds_P)
    num_visual = int(is_visual_P.sum())
    if num_visual % group_tokens:
        raise ValueError(f"{num_visual} visual positions are not groups of {group_tokens}")
    num_groups = num_visual // group_tokens
    group_P = _group_at(is_visual_P, group_tokens)
    time_G = group_P[kinds_P == Kind.TIME]
    if len(time_G) and int(time_G.max()) >= num_groups:
        raise ValueError("time text is followed by no group of frames")
    return TokenLayout(
        group_M=group_P[is_visual_P],
        time_tokens_G=torch.bincount(time_G, minlength=num_groups),
    )


def kept_positions(kinds_P: Tensor, keep_M: Tensor, *, group_tokens: int, all_time: bool) -> Tensor:
    """Return which positions of a sample stay.

    Args:
        kinds_P: of the sample.
        keep_M: bool, of its visual tokens.
        group_tokens: visual tokens of a group.
        all_time: keep the time text of groups of which nothing is left too.

    Returns:
        keep_P: bool.
    """
    is_visual_P = is_visual(kinds_P)
    keep_P = torch.ones_like(is_visual_P)
    keep_P[is_visual_P] = keep_M
    if not all_time:
        group_P = _group_at(is_visual_P, group_tokens)
        has_any_G = keep_M.view(-1, group_tokens).any(-1)
        is_time_P = kinds_P == Kind.TIME
        keep_P[is_time_P] = has_any_G[group_P[is_time_P]]
    return keep_P


def assemble(
    embeds_BPD: Tensor,
    attention_mask_BP: Tensor,
    labels_BP: Tensor | None,
    is_visual_BP: Tensor,
    choices: Sequence[Choice],
    *,
    pad_left: bool,
) -> VisualSequence:
    """Put the chosen visual tokens in their places and close the gaps.

    Args:
        embeds_BPD: of the text; at visual positions anything.
        attention_mask_BP: 0 at padding.
        labels_BP: of every position; None without.
        is_visual_BP: bool.
        choices: one for each sample.
        pad_left: put padding at the beginning.

    Returns:
        sequence: of the same length where every token stays and padding is where it should be.
    """
    real_BP = attention_mask_BP.bool()
    selections = tuple(choice.selection for choice in choices)
    parts = [choice.visual_KD for choice in choices]
    visual_MD = torch.cat(parts) if len(parts) > 1 else parts[0]  # no second copy of a long video
    padded_right = not bool((real_BP[:, -1] if pad_left else real_BP).all())
    if all(choice.keep_P is None for choice in choices) and not (pad_left and padded_right):
        # masked_scatter fills row by row: the samples' tokens follow one another in that order.
        embeds_BPD = embeds_BPD.masked_scatter(is_visual_BP[..., None], visual_MD)
        return VisualSequence(
            embeds_BPD=embeds_BPD,
            attention_mask_BP=attention_mask_BP,
            is_visual_BP=is_visual_BP,
            labels_BP=labels_BP,
            selections=selections,
        )
    rows, visual_rows, label_rows = [], [], []
    for b, choice in enumerate(choices):
        stays_P = real_BP[b] if choice.keep_P is None else real_BP[b] & choice.keep_P
        visual_rows.append(is_visual_BP[b][stays_P])
        index_K1 = visual_rows[-1][:, None]
        rows.append(embeds_BPD[b][stays_P].masked_scatter(index_K1, choice.visual_KD))
        if labels_BP is not None:
            label_rows.append(labels_BP[b][stays_P])
    ones = [torch.ones(len(row), dtype=torch.int64, device=row.device) for row in rows]
    return VisualSequence(
        embeds_BPD=_stack(rows, fill=0, left=pad_left),
        attention_mask_BP=_stack(ones, fill=0, left=pad_left),
        is_visual_BP=_stack(visual_rows, fill=0, left=pad_left),
        labels_BP=_stack(label_rows, fill=IGNORED_LABEL, left=pad_left) if label_rows else None,
        selections=selections,
    )


def run_packed(decoder: Any, sequence: VisualSequence, **kwargs: Any) -> Any:
    """Run a language model's decoder over samples one behind the other.

    transformers tells them apart by their positions, which begin again at 0, and lets each see
    itself alone: as a mask for SDPA, as lengths for flash-attention.

    Args:
        decoder: without its head.
        sequence: of the samples.
        kwargs: for the decoder.

    Returns:
        output: its `last_hidden_state` is as if the samples were padded, 0 at padding.
    """
    real_BP = sequence.attention_mask_BP.bool()
    index_BP = sequence.attention_mask_BP.cumsum(-1) - 1
    output = decoder(
        inputs_embeds=sequence.embeds_BPD[real_BP][None],
        position_ids=index_BP[real_BP][None],
        use_cache=False,
        **kwargs,
    )
    states_BPD = torch.zeros_like(sequence.embeds_BPD)
    output.last_hidden_state = states_BPD.masked_scatter(
        real_BP[..., None], output.last_hidden_state[0].to(states_BPD.dtype)
    )
    return output


def rotate_block(embeds_BPD: Tensor, tokens_MD: Tensor, kinds_BP: Tensor) -> tuple[Tensor, Tensor]:
    """Rotate visual tokens and time text by their position in their sample's visual block.

    For released weights alone (`visual_rotary`). Channels 2i and 2i + 1 turn by position *
    1e6^(-2i/D), the position counted from 0 over the sample's visual tokens and time text together.

    Args:
        embeds_BPD: of all text.
        tokens_MD: visual tokens of all samples.
        kinds_BP: of all positions.

    Returns:
        embeds_BPD: with the time text rotated.
        tokens_MD: rotated.
    """
    is_visual_BP, is_time_BP = is_visual(kinds_BP), kinds_BP == Kind.TIME
    index_BP = (is_visual_BP | is_time_BP).long().cumsum(-1) - 1
    turned = _rotate(embeds_BPD[is_time_BP], index_BP[is_time_BP])
    embeds_BPD = embeds_BPD.masked_scatter(is_time_BP[..., None], turned)
    return embeds_BPD, _rotate(tokens_MD, index_BP[is_visual_BP])


def _rotate(x_ND: Tensor, index_N: Tensor) -> Tensor:
    width = x_ND.shape[-1]
    channel = torch.arange(0, width, 2, device=x_ND.device, dtype=torch.float32)
    # Angles in float32: bf16 holds whole numbers up to 256 only.
    angle_NE = index_N[:, None].float() * _ROTARY_BASE ** (-channel / width)
    even_NE, odd_NE = x_ND[:, 0::2].float(), x_ND[:, 1::2].float()
    turned = (
        even_NE * angle_NE.cos() - odd_NE * angle_NE.sin(),
        odd_NE * angle_NE.cos() + even_NE * angle_NE.sin(),
    )
    return torch.stack(turned, dim=-1).flatten(-2).to(x_ND.dtype)


def _stack(rows: Sequence[Tensor], *, fill: int, left: bool) -> Tensor:
    """Stack rows of unequal length, [P] or [P, D] each."""
    longest = max(len(row) for row in rows)
    padded = []
    for row in rows:
        missing = longest - len(row)
        pad = (missing, 0) if left else (0, missing)
        padded.append(functional.pad(row, (0, 0) * (row.ndim - 1) + pad, value=fill))
    return torch.stack(padded)


def _group_at(is_visual_P: Tensor, group_tokens: int) -> Tensor:
    """Return the group of each visual position; elsewhere, the group that comes next."""
    before_P = is_visual_P.long().cumsum(0) - is_visual_P.long()
    return before_P // group_tokens
