"""Semantic-Guided Masking: which tokens the compressor has to do without while it is trained.

Shape suffixes: B groups, T frames of a group, N tokens of a frame, C channels, K queries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from vxp_model.modules.shapes import SGMConfig

QUERY_STD = 0.02
"""Small, so that the queries can turn negative: a literal similarity would spare the redundant."""

GATE_WIDTH = 0.5
"""Softness of the straight-through gate, in standard deviations of a frame's scores."""

SPREAD_EPS = 1e-6
"""Least spread of scores of mean one; below it all tokens of the frame are alike."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Masked:
    """What became of a batch of groups."""

    x_BTNC: Tensor
    """The tokens; the masked ones are replaced by the mask token."""

    mask_BTN: Tensor
    """bool, True where masked."""

    scores_BTN: Tensor
    """float32, low where a token may be masked; 0 or more, sum 2 over each frame."""


class SemanticGuidedMasking(nn.Module):
    """Score each token by what learned queries make of the frame before and of its own frame.

    Temporal: each query gathers, by attention, the tokens of the previous frame; spatial: each
    query meets the mean token of the frame itself. Both products attend to the frame's tokens, the
    two score sets are summed. Among the tokens of low score, a share is masked at random. Scores
    are computed in fp32 from layer-normalised tokens. 2 K C + C parameters.

    What comes to score high is what stands out, moving or not: a bright patch that stands still
    scores above a faint one that moves (manifests/runs/sgm.json).

    In `eval()`, with ratio 0, and in groups that are drawn to stay whole, nothing is masked.

    Source: the paper, section 3.2, fixes the two query sets, the sum, and random masking among low
    scores; its Algorithm 1 and the code are not public. Scales, pool, mask token and the gradient
    to the queries are ours.
    """

    def __init__(self, config: SGMConfig, *, width: int) -> None:
        super().__init__()
        self.config = config
        self.temp_query = nn.Parameter(torch.randn(config.num_queries, width) * QUERY_STD)
        self.spatio_query = nn.Parameter(torch.randn(config.num_queries, width) * QUERY_STD)
        self.mask_token = nn.Parameter(torch.zeros(width))

    def forward(
        self,
        x_BTNC: Tensor,
        *,
        prev_BNC: Tensor | None = None,
        copy_of_BT: Tensor | None = None,
        ratio: float | None = None,
        noise_BTN: Tensor | None = None,
        whole_B: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Masked:
        """Mask a share of every frame's tokens.

        Args:
            x_BTNC: tokens; no gradient reaches them through the scores.
            prev_BNC: the frame before each group; its own first frame stands in where there is
                none. None: it stands in everywhere.
            copy_of_BT: int64, for each frame the first frame of the group that it repeats. Copies
                share one mask, or a token hidden in one would show in the other. None: no copies.
            ratio: share to mask; None: the config's.
            noise_BTN: uniform random numbers in [0, 1) that decide the draw, as `seeded_noise`
                gives; then the mask of a group depends on nothing else in the batch.
            whole_B: bool, groups that pass as in `eval()`, whatever the ratio. None: each is drawn,
                with the config's `unmasked_share` as its chance.
            generator: draws what is not given, on x's device. None: torch's own.

        Returns:
            masked: exactly round(ratio * N) masked tokens in every frame of a masked group.
        """
        ratio = self.config.ratio if ratio is None else ratio
        scores_BTN = self.scores(x_BTNC, prev_BNC=prev_BNC, copy_of_BT=copy_of_BT)
        if not self.training or ratio == 0:
            mask_BTN = torch.zeros_like(scores_BTN, dtype=torch.bool)
            return Masked(x_BTNC=x_BTNC, mask_BTN=mask_BTN, scores_BTN=scores_BTN)
        if noise_BTN is None:
            noise_BTN = torch.rand(scores_BTN.shape, generator=generator, device=x_BTNC.device)
        if whole_B is None and self.config.unmasked_share:
            drawn_B = torch.rand(len(x_BTNC), generator=generator, device=x_BTNC.device)
            whole_B = drawn_B < self.config.unmasked_share
        if copy_of_BT is not None:
            noise_BTN = _take_frames(noise_BTN, copy_of_BT)
        num_tokens = scores_BTN.shape[-1]
        num_masked = round(ratio * num_tokens)
        # The share that is masked is promised exactly: a ratio beyond the pool widens the pool.
        num_pool = max(num_masked, round(self.config.pool * num_tokens))
        mask_BTN = draw_mask(
            scores_BTN.detach(), noise_BTN, num_masked=num_masked, num_pool=num_pool
        )
        masked_BTNC = self.mask_tokens(x_BTNC, mask_BTN, scores_BTN, num_pool=num_pool)
        if whole_B is not None:
            mask_BTN = mask_BTN & ~whole_B[:, None, None]
            masked_BTNC = torch.where(whole_B[:, None, None, None], x_BTNC, masked_BTNC)
        return Masked(x_BTNC=masked_BTNC, mask_BTN=mask_BTN, scores_BTN=scores_BTN)

    def hide(self, x_BTNC: Tensor, mask_BTN: Tensor) -> Tensor:
        """Put the mask token where the mask is True, whatever the scores."""
        return torch.where(mask_BTN[..., None], self.mask_token.to(x_BTNC.dtype), x_BTNC)

    def scores(
        self, x_BTNC: Tensor, *, prev_BNC: Tensor | None = None, copy_of_BT: Tensor | None = None
    ) -> Tensor:
        """Score tokens; see the class. Copies get the score of the frame they repeat.

        Returns:
            scores_BTN: float32, 0 or more, sum 2 over each frame.
        """
        # bf16 has 8 bits: near scores would tie, and ties all go to the lower index.
        with torch.autocast(x_BTNC.device.type, enabled=False):
            normed_BTNC = _normed(x_BTNC)
            temp_KC = self.temp_query.float()
            seen_BTKC = _pool_by(temp_KC, normed_BTNC)
            first_B1KC = (
                seen_BTKC[:, :1]
                if prev_BNC is None
                else _pool_by(temp_KC, _normed(prev_BNC[:, None]))
            )
            # What frame t gave is what frame t + 1 compares with: each frame is gathered once.
            before_BTKC = torch.cat([first_B1KC, seen_BTKC[:, :-1]], 1)
            mean_BT1C = normed_BTNC.mean(2, keepdim=True)
            scores_BTN = _attend(temp_KC * before_BTKC, normed_BTNC) + _attend(
                self.spatio_query.float() * mean_BT1C, normed_BTNC
            )
        return scores_BTN if copy_of_BT is None else _take_frames(scores_BTN, copy_of_BT)

    def rank_loss(self, masked: Masked, error_BTN: Tensor, valid_BT: Tensor) -> Tensor:
        """Ask for high scores where a masked token was rebuilt badly.

        Listwise, over the masked tokens of each frame: cross-entropy between the softmax of their
        errors and the share that each has of the scores. The errors are standardised, so that the
        scale of the features does not matter.

        Args:
            masked: of this batch.
            error_BTN: mean squared error of each token; no gradient goes there.
            valid_BT: frames that count; at least one.

        Returns:
            loss: scalar; 0 without a masked token.
        """
        error_BTN = error_BTN.detach().float()
        hidden_BTN = masked.mask_BTN
        count_BT1 = hidden_BTN.sum(-1, keepdim=True).clamp_min(1)
        mean_BT1 = (error_BTN * hidden_BTN).sum(-1, keepdim=True) / count_BT1
        spread_BT1 = ((error_BTN - mean_BT1).square() * hidden_BTN).sum(-1, keepdim=True)
        # Not zero, where one token alone is masked or all errors are equal.
        spread_BT1 = (spread_BT1 / count_BT1).sqrt() + torch.finfo(torch.float32).tiny
        # A large finite number: a frame without a masked token must not turn into NaN.
        target_BTN = (
            ((error_BTN - mean_BT1) / spread_BT1).masked_fill(~hidden_BTN, -1e9).softmax(-1)
        )
        # Scores come out of a softmax, which may underflow to 0.
        log_share_BTN = masked.scores_BTN.clamp_min(1e-30).log().masked_fill(~hidden_BTN, -1e9)
        log_share_BTN = log_share_BTN.log_softmax(-1).masked_fill(~hidden_BTN, 0)
        loss_BT = -(target_BTN * log_share_BTN).sum(-1)
        return (loss_BT * valid_BT).sum() / valid_BT.sum()

    def mask_tokens(
        self, x_BTNC: Tensor, mask_BTN: Tensor, scores_BTN: Tensor, *, num_pool: int
    ) -> Tensor:
        """Put the mask token where the mask is True, with the gradient that the mode asks for.

        Args:
            x_BTNC: tokens.
            mask_BTN: bool.
            scores_BTN: of `scores`.
            num_pool: tokens of a frame from which the masked ones were drawn.
        """
        if self.config.grad_mode == "additive":
            # Scores sum to 2 over a frame, so that the floor under their spread goes with 1 / N.
            low_BT1, high_BT1 = scores_BTN.aminmax(dim=-1, keepdim=True)
            share_BTN = (scores_BTN - low_BT1) / (
                high_BT1 - low_BT1 + SPREAD_EPS / mask_BTN.shape[-1]
            )
            return self.hide(x_BTNC + share_BTN[..., None].to(x_BTNC.dtype), mask_BTN)
        if not self.config.straight_through:
            return self.hide(x_BTNC, mask_BTN)
        relative_BTN = scores_BTN * (scores_BTN.shape[-1] / 2)  # of mean 1
        std_BT1 = relative_BTN.std(-1, keepdim=True, correction=0)
        z_BTN = (relative_BTN - 1) / (std_BT1 + SPREAD_EPS)
        # The gate stands where the pool ends: tokens of higher scores are never masked.
        edge_BT1 = z_BTN.detach().sort(-1).values[..., num_pool - 1 : num_pool]
        soft_BTN = ((z_BTN - edge_BT1) / GATE_WIDTH).sigmoid()
        keep_BTN = (~mask_BTN).float() + (soft_BTN - soft_BTN.detach())  # forward: exactly 0 or 1
        keep_BTN1 = keep_BTN[..., None].to(x_BTNC.dtype)
        return keep_BTN1 * x_BTNC + (1 - keep_BTN1) * self.mask_token.to(x_BTNC.dtype)


def draw_mask(scores_BTN: Tensor, noise_BTN: Tensor, *, num_masked: int, num_pool: int) -> Tensor:
    """Draw, in every frame, `num_masked` of the `num_pool` tokens of lowest score.

    Args:
        scores_BTN: ties go to the lower index.
        noise_BTN: in [0, 1); the tokens of the pool with the lowest noise are masked.
        num_masked: M; every M-subset of the pool is equally likely under uniform noise.
        num_pool: at least M.

    Returns:
        mask_BTN: bool, exactly M of N.
    """
    # Stable, so that ties fall alike on every device.
    pool_BTP = scores_BTN.sort(dim=-1, stable=True).indices[..., :num_pool]
    drawn_BTM = noise_BTN.gather(-1, pool_BTP).sort(dim=-1, stable=True).indices[..., :num_masked]
    mask_BTN = torch.zeros_like(scores_BTN, dtype=torch.bool)
    return mask_BTN.scatter_(-1, pool_BTP.gather(-1, drawn_BTM), True)


def seeded_noise(seeds: Sequence[int], *, shape: tuple[int, ...]) -> Tensor:
    """Draw uniform noise by seed: `[len(seeds), *shape]` in [0, 1), float32 on the CPU.

    What a seed gives depends on nothing else, so a sample's mask is the same in whatever batch,
    process or resumed run it comes up.
    """
    # On the CPU: a CUDA generator gives other numbers for the same seed.
    return torch.stack(
        [torch.rand(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    )


def _normed(x: Tensor) -> Tensor:
    return functional.layer_norm(x.detach().float(), x.shape[-1:])


def _pool_by(query_KC: Tensor, x_BTNC: Tensor) -> Tensor:
    """Gather each frame's tokens by attention: [B, T, K, C]."""
    logits_BTKN = query_KC @ x_BTNC.transpose(-1, -2) / x_BTNC.shape[-1] ** 0.5
    pooled_BTKC: Tensor = logits_BTKN.softmax(-1) @ x_BTNC
    return pooled_BTKC


def _attend(guide_BTKC: Tensor, x_BTNC: Tensor) -> Tensor:
    """Spread one unit of score a frame over its tokens, by their likeness to the guides."""
    return (guide_BTKC @ x_BTNC.transpose(-1, -2)).softmax(-1).mean(2)


def _take_frames(value_BTN: Tensor, frame_BT: Tensor) -> Tensor:
    return value_BTN.gather(1, frame_BT[..., None].expand(-1, -1, value_BTN.shape[-1]))
