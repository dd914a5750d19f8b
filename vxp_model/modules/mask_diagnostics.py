"""What the masking is doing: a few numbers to watch while it learns.

Shape suffixes: B groups, T frames of a group, N tokens of a frame, C channels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vxp_model.modules.masking import Masked


@torch.no_grad()
def mask_diagnostics(
    masked: Masked,
    *,
    change_BTN: Tensor,
    error_BTN: Tensor,
    moves_BT: Tensor,
    valid_BT: Tensor,
    pool: float,
) -> dict[str, Tensor]:
    """Summarise one batch; no step waits for the device.

    Args:
        masked: scores and mask.
        change_BTN: each token's distance to the same grid position of the frame before.
        error_BTN: each token's mean squared error.
        moves_BT: bool, frames that have a frame before them; the two numbers about change are means
            over these. An image has none.
        valid_BT: bool, frames that count.
        pool: share of lowest scores that masked tokens are drawn from.

    Returns:
        numbers: float32 scalars, NaN where no frame of the batch can tell.
            score_change_corr: correlation of score and change; positive once the masking spares
                what moves.
            score_error_corr: correlation of score and error; positive once it spares what is hard
                to rebuild.
            score_entropy: of a frame's scores, as a share of the greatest possible: 1 when all
                scores are equal, as nearly at the start.
            pool_static_share: share of the pool that is among the half of its frame that changes
                least; 0.5 by chance.
            masked_share: masked tokens of all.
    """
    scores_BTN = masked.scores_BTN.detach()
    num_tokens = scores_BTN.shape[-1]
    moves_BT = moves_BT & valid_BT
    share_BTN = scores_BTN / 2
    entropy_BT = -torch.special.xlogy(share_BTN, share_BTN).sum(-1)
    entropy_BT = entropy_BT / torch.tensor(float(max(num_tokens, 2))).log()
    num_pool = max(1, round(pool * num_tokens))
    pool_BTP = scores_BTN.sort(dim=-1, stable=True).indices[..., :num_pool]
    rank_BTN = change_BTN.argsort(dim=-1, stable=True).argsort(dim=-1)
    static_BTN = (rank_BTN < num_tokens // 2).float()
    return {
        "score_change_corr": _mean(_correlation(scores_BTN, change_BTN), moves_BT),
        "score_error_corr": _mean(_correlation(scores_BTN, error_BTN), valid_BT),
        "score_entropy": _mean(entropy_BT, valid_BT),
        "pool_static_share": _mean(static_BTN.gather(-1, pool_BTP).mean(-1), moves_BT),
        "masked_share": _mean(masked.mask_BTN.float().mean(-1), valid_BT),
    }


def _correlation(a_BTN: Tensor, b_BTN: Tensor) -> Tensor:
    a_BTN = a_BTN.float() - a_BTN.float().mean(-1, keepdim=True)
    b_BTN = b_BTN.float() - b_BTN.float().mean(-1, keepdim=True)
    spread_BT = a_BTN.square().sum(-1).sqrt() * b_BTN.square().sum(-1).sqrt()
    return (a_BTN * b_BTN).sum(-1) / spread_BT


def _mean(value_BT: Tensor, counts_BT: Tensor) -> Tensor:
    """Average over the frames that count and have a value; NaN when there is none."""
    counts_BT = counts_BT & value_BT.isfinite()
    return torch.where(counts_BT, value_BT, 0).sum() / counts_BT.sum()
