"""Query-aware selection: which visual tokens the language model gets, judged by the question.

Shape suffixes: M visual tokens of a sample in their order, L tokens of its question, G groups of
frames, D the language model's width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, Self, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from vxp_model.errors import UserError, require

Aggregate = Literal["mean", "max", "logsumexp"]
KeepTime = Literal["with_tokens", "all"]

SCORE_CHUNK_TOKENS = 4096
"""Visual tokens scored at once: bounds memory, changes no score."""

GATE_WIDTH = 0.5
"""Softness of the straight-through gate, in standard deviations of a sample's scores."""

_SPREAD_EPS = 1e-6
_GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectorConfig:
    """How tokens are scored, and how many are left out."""

    aggregate: Aggregate = "mean"
    """Over the question's tokens: how their scores of a visual token become one."""

    drop_min: float = 0.05
    """Training: the least share of a sample's visual tokens that is left out, in [0, 1)."""

    drop_max: float = 0.30
    """Training: the greatest; 0: nothing is left out. The paper's range is 0.05 to 0.30; a
    two-hour video at 1 fps needs 0.87 left out to fit 32,768 positions."""

    full_share: float = 0.0
    """Training: the share of samples of which nothing is left out, in [0, 1]."""

    drops_images: bool = False
    """Images' tokens may be left out too; else videos' alone."""

    keep_time: KeepTime = "with_tokens"
    """A group's time text stays if one of its tokens does; or always."""

    def __post_init__(self) -> None:
        known = get_args(Aggregate)
        require(
            self.aggregate in known,
            f"selector.aggregate must be one of {', '.join(known)}; got {self.aggregate!r}.",
        )
        known = get_args(KeepTime)
        require(
            self.keep_time in known,
            f"selector.keep_time must be one of {', '.join(known)}; got {self.keep_time!r}.",
        )
        require(
            0 <= self.drop_min <= self.drop_max < 1,
            "selector.drop_min and drop_max must be 0 <= drop_min <= drop_max < 1, got "
            f"{self.drop_min} and {self.drop_max}.",
        )
        require(
            0 <= self.full_share <= 1,
            f"selector.full_share must be in [0, 1], got {self.full_share}.",
        )

    def num_kept(self, num_tokens: int, seed: int) -> int:
        """Draw how many of a sample's visual tokens stay in a training step.

        Args:
            num_tokens: M, of those that may be left out.
            seed: 64 bits, of the sample and the epoch; the number follows from it alone.

        Returns:
            M - floor(share * M), the share uniform in [drop_min, drop_max]; M for `full_share` of
            the seeds.
        """
        generator = torch.Generator().manual_seed(seed % 2**63)
        draw = torch.rand((), generator=generator, dtype=torch.float64).item()
        full_draw = torch.rand((), generator=generator, dtype=torch.float64).item()
        if full_draw < self.full_share:
            return num_tokens
        share = self.drop_min + (self.drop_max - self.drop_min) * draw
        return num_tokens - math.floor(share * num_tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLayout:
    """Which group each visual token is of, and what time text comes with a group."""

    group_M: Tensor
    """int64, never decreasing, from 0."""

    time_tokens_G: Tensor
    """int64: tokens of the group's time text; 0 for an image."""

    @property
    def num_tokens(self) -> int:
        """Visual tokens and time text together."""
        return len(self.group_M) + int(self.time_tokens_G.sum())

    def of(self, chosen_M: Tensor) -> Self:
        """Return the layout of some of the tokens, of the same groups; `chosen_M` is bool."""
        return replace(self, group_M=self.group_M[chosen_M])


class QueryAwareSelector(nn.Module):
    """Score visual tokens by what the language model makes of the question.

    Linear, GELU, Linear on the question's hidden states, then scaled dot products with the
    layer-normalised visual tokens, in fp32. No gradient reaches the visual tokens through their
    scores. 2 D^2 + 2 D parameters.

    Source: the paper, section 3.3: the question is encoded by the language model, a trainable MLP
    follows, attention scores with the visual tokens decide. The released code takes all text of the
    sample, the answer included, and always drops at random; this does neither.
    """

    def __init__(self, width: int, config: SelectorConfig) -> None:
        super().__init__()
        self.config = config
        self.up = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        nn.init.normal_(self.out.weight, std=0.02)
        nn.init.zeros_(self.out.bias)

    def forward(self, query_LD: Tensor, visual_MD: Tensor) -> Tensor:
        """Score every visual token.

        Args:
            query_LD: the question's hidden states; L = 0 where nothing was asked.
            visual_MD: any real dtype.

        Returns:
            scores_M: float32, higher = keep. Without a question: numbers whose order spreads any
                number of kept tokens evenly over the sample.
        """
        if not len(query_LD):
            # Multiples of the golden ratio, modulo 1 (a Weyl sequence): those above any bound are
            # spread evenly.
            index_M = torch.arange(len(visual_MD), device=visual_MD.device, dtype=torch.float64)
            return (index_M * _GOLDEN).remainder(1).float()
        encoded_LD = self.out(functional.gelu(self.up(query_LD))).float()
        scale = visual_MD.shape[-1] ** -0.5
        if self.config.aggregate == "mean":  # the mean of products is the product of the mean
            encoded_LD = encoded_LD.mean(0, keepdim=True)
        parts = []
        for chunk_CD in torch.split(visual_MD.detach(), SCORE_CHUNK_TOKENS):
            normed_CD = functional.layer_norm(chunk_CD.float(), chunk_CD.shape[-1:])
            parts.append(self._aggregate(normed_CD @ encoded_LD.T * scale))
        return torch.cat(parts) if parts else visual_MD.new_zeros(0, dtype=torch.float32)

    def gate(self, visual_MD: Tensor, scores_M: Tensor, keep_M: Tensor) -> Tensor:
        """Pass the kept tokens on unchanged, with a gradient for their scores.

        The values stay; in the backward pass a token counts as weighted by a soft step of its
        standardised score around the lowest kept one.

        Args:
            visual_MD: all tokens of the sample.
            scores_M: of them.
            keep_M: bool, which stay; one at least.

        Returns:
            kept_KD: the kept tokens, in order.
        """
        scores_M = scores_M.float()
        deviation_M = scores_M - scores_M.mean()
        z_M = deviation_M / (scores_M.std(correction=0) + _SPREAD_EPS)
        edge = z_M.detach()[keep_M].min()
        soft_K = ((z_M[keep_M] - edge) / GATE_WIDTH).sigmoid()
        weight_K1 = (1 + (soft_K - soft_K.detach()))[:, None]  # forward: exactly 1
        return visual_MD[keep_M] * weight_K1.to(visual_MD.dtype)

    def _aggregate(self, products_CL: Tensor) -> Tensor:
        if self.config.aggregate == "max":
            return products_CL.amax(-1)
        if self.config.aggregate == "logsumexp":
            return products_CL.logsumexp(-1)
        return products_CL.squeeze(-1)


def keep_within(
    scores_M: Tensor,
    layout: TokenLayout,
    *,
    budget: int,
    keep_time: KeepTime,
    most: int | None = None,
) -> Tensor:
    """Keep as many of the best tokens as fit, counting the time text that comes with them.

    Args:
        scores_M: higher = keep; ties go to the lower index.
        layout: of the same tokens.
        budget: positions for visual tokens and time text together.
        keep_time: 'with_tokens' counts a group's time text from its first kept token on; 'all'
            counts all of it from the start.
        most: keep no more than these, though they might fit; None: no such limit.

    Returns:
        keep_M: bool. Kept tokens and their time text are within the budget; with the next token by
            rank (and its group's time text, were it the first) they would not be, or it would be
            more than `most`.

    Raises:
        UserError: all time text is to stay, and it alone does not fit.
    """
    order_M = _by_rank(scores_M)
    cost_M = torch.ones_like(order_M)
    if keep_time == "all":
        num_time = int(layout.time_tokens_G.sum())
        if num_time > budget:
            raise UserError(
                f"the time text of {len(layout.time_tokens_G)} groups takes {num_time} positions, "
                f"and {budget} are left for it and the visual tokens. Set selector.keep_time to "
                "'with_tokens', show fewer frames, or raise context_limit."
            )
        budget -= num_time
    else:
        # A group's time text is charged to its best token. In order of rank, what fits is then a
        # beginning of the list.
        group_M = layout.group_M[order_M]
        rank_M = torch.arange(len(order_M), device=order_M.device)
        first_G = torch.full_like(layout.time_tokens_G, len(order_M))
        first_G.scatter_reduce_(0, group_M, rank_M, "amin")
        seen_G = first_G < len(order_M)
        cost_M[first_G[seen_G]] += layout.time_tokens_G[seen_G]
    num_kept = int((cost_M.cumsum(0) <= budget).sum())
    keep_M = torch.zeros(len(scores_M), dtype=torch.bool, device=scores_M.device)
    keep_M[order_M[: num_kept if most is None else min(num_kept, most)]] = True
    return keep_M


def _by_rank(scores_M: Tensor) -> Tensor:
    return scores_M.detach().sort(descending=True, stable=True).indices
