"""Semantic-Guided Masking."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import get_args

import pytest

from support.later import LATER
from vxp_model.errors import UserError

if LATER:
    import torch
    from torch import nn

    from support.tensors import random
    from vxp_model.modules.mask_diagnostics import mask_diagnostics
    from vxp_model.modules.masking import Masked, SemanticGuidedMasking, draw_mask, seeded_noise
    from vxp_model.modules.shapes import GradMode, SGMConfig

pytestmark = pytest.mark.usefixtures("one_thread")

WIDTH = 12


def masking(*, query_std: float = 0.2, **settings: object) -> SemanticGuidedMasking:
    """A module with queries large enough to tell tokens apart."""
    config = SGMConfig(**({"ratio": 0.5, "unmasked_share": 0} | settings))  # type: ignore[arg-type]
    module = SemanticGuidedMasking(config, width=WIDTH)
    with torch.no_grad():
        module.temp_query.copy_(random(*module.temp_query.shape, seed=2) * query_std)
        module.spatio_query.copy_(random(*module.spatio_query.shape, seed=3) * query_std)
        module.mask_token.copy_(random(WIDTH, seed=4))
    return module.train()


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- scores -------------------------------------------------------------------


def scores_by_hand(
    module: SemanticGuidedMasking, x_TNC: torch.Tensor, prev_NC: torch.Tensor | None
) -> torch.Tensor:
    """The formulas, frame by frame and query by query, in float64."""

    def normed(x: torch.Tensor) -> torch.Tensor:
        x = x.double()
        centred = x - x.mean(-1, keepdim=True)
        return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()

    frames = [normed(x) for x in x_TNC]
    before = [frames[0] if prev_NC is None else normed(prev_NC), *frames[:-1]]
    temp, spatio = module.temp_query.detach().double(), module.spatio_query.detach().double()
    rows = []
    for h, p in zip(frames, before, strict=True):
        row = torch.zeros(len(h), dtype=torch.float64)
        for k in range(len(temp)):
            attention = (p @ temp[k] / math.sqrt(WIDTH)).softmax(0)
            row += (h @ (temp[k] * (attention @ p))).softmax(0) / len(temp)
            row += (h @ (spatio[k] * h.mean(0))).softmax(0) / len(temp)
        rows.append(row)
    return torch.stack(rows)


@pytest.mark.parametrize("with_prev", [False, True])
def test_scores_follow_the_formulas(with_prev: bool) -> None:
    module = masking(query_std=0.5)
    x_BTNC, prev_BNC = random(2, 4, 9, WIDTH), random(2, 9, WIDTH, seed=5)
    got = module.scores(x_BTNC, prev_BNC=prev_BNC if with_prev else None)
    for group in range(2):
        prev_NC = prev_BNC[group] if with_prev else None
        wanted = scores_by_hand(module, x_BTNC[group], prev_NC)
        torch.testing.assert_close(got[group].double(), wanted, atol=1e-6, rtol=1e-4)
        assert wanted.std() > 0.01  # they do differ


def test_scores_are_positive_and_sum_to_two_in_every_frame() -> None:
    scores_BTN = masking(query_std=3.0).scores(random(3, 4, 576, WIDTH) * 50)
    assert scores_BTN.min() >= 0
    assert (scores_BTN.sum(-1) - 2).abs().max() < 1e-5


def test_scores_are_computed_in_fp32_also_from_bf16() -> None:
    x_BTNC = random(2, 4, 9, WIDTH).bfloat16()
    module = masking()
    wanted = module.scores(x_BTNC.float())
    with torch.autocast("cpu", torch.bfloat16):
        inside = module.scores(x_BTNC)
    assert inside.dtype == wanted.dtype == torch.float32
    assert torch.equal(inside, wanted)
    assert module.bfloat16().scores(x_BTNC).dtype == torch.float32


# --- masks --------------------------------------------------------------------


@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.74, 0.9])
@pytest.mark.parametrize("num_tokens", [16, 25, 576])
def test_every_frame_hides_exactly_its_share_and_never_a_top_token(
    ratio: float, num_tokens: int
) -> None:
    masked = masking(ratio=ratio)(random(2, 4, num_tokens, WIDTH), generator=seeded())
    num_masked = round(ratio * num_tokens)
    num_pool = max(num_masked, round(0.75 * num_tokens))
    assert (masked.mask_BTN.sum(-1) == num_masked).all()
    top = masked.scores_BTN.sort(dim=-1, descending=True).indices[..., : num_tokens - num_pool]
    assert not masked.mask_BTN.gather(-1, top).any()


def test_within_the_pool_every_token_is_as_likely() -> None:
    scores_BTN = random(1, 1, 20).expand(4000, 1, 20)
    noise_BTN = torch.rand(4000, 1, 20, generator=seeded())
    hits_N = draw_mask(scores_BTN, noise_BTN, num_masked=6, num_pool=15).sum((0, 1)).double()
    pool_N = scores_BTN[0, 0].argsort()[:15]
    assert hits_N.sum() == hits_N[pool_N].sum() == 24_000
    expected = 24_000 / 15
    # Without replacement the sum is scaled by (P - 1) / (P - M) to be chi-square with 14 degrees.
    chi2 = ((hits_N[pool_N] - expected) ** 2 / expected).sum() * 14 / 9
    assert 4.1 < chi2 < 31.3  # 0.5 % on either side


def test_ties_go_to_the_lower_index() -> None:
    noise_BTN = torch.rand(1, 1, 8, generator=seeded())
    mask_BTN = draw_mask(torch.ones(1, 1, 8), noise_BTN, num_masked=3, num_pool=3)
    assert mask_BTN[0, 0].tolist() == [True] * 3 + [False] * 5


def test_the_same_generator_gives_the_same_mask_and_another_does_not() -> None:
    module, x_BTNC = masking(), random(2, 4, 64, WIDTH)
    first, again, other = (module(x_BTNC, generator=seeded(seed)).mask_BTN for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_seeded_noise_makes_a_mask_independent_of_the_batch() -> None:
    module, x_BTNC = masking(), random(3, 4, 64, WIDTH)
    together = module(x_BTNC, noise_BTN=seeded_noise([7, 8, 9], shape=(4, 64))).mask_BTN
    alone = module(x_BTNC[2:], noise_BTN=seeded_noise([9], shape=(4, 64))).mask_BTN
    assert torch.equal(together[2:], alone)
    assert not torch.equal(together[0], together[1])


def test_copies_of_a_frame_share_its_mask() -> None:
    x_BTNC = random(2, 1, 64, WIDTH).expand(2, 4, 64, WIDTH)
    copy_of_BT = torch.tensor([[0, 0, 0, 0], [0, 1, 1, 1]])
    module = masking()
    masked = module(
        x_BTNC, prev_BNC=random(2, 64, WIDTH, seed=6), copy_of_BT=copy_of_BT, generator=seeded()
    )
    mask_BTN = masked.mask_BTN
    assert (mask_BTN[0] == mask_BTN[0, :1]).all()
    assert (mask_BTN[1, 1:] == mask_BTN[1, 1:2]).all()
    assert not torch.equal(mask_BTN[1, 0], mask_BTN[1, 1])
    assert not torch.equal(*module(x_BTNC, generator=seeded()).mask_BTN[0, :2])  # unless told


def test_a_single_frame_is_masked_too() -> None:
    masked = masking()(random(2, 1, 16, WIDTH), generator=seeded())
    assert masked.mask_BTN.sum(-1).tolist() == [[8], [8]]


def test_without_training_or_ratio_nothing_changes() -> None:
    x_BTNC = random(2, 4, 16, WIDTH)
    for masked in (
        masking().eval()(x_BTNC),
        masking(ratio=0.0)(x_BTNC),
        masking()(x_BTNC, ratio=0),
    ):
        assert masked.x_BTNC is x_BTNC
        assert not masked.mask_BTN.any()


def test_the_ratio_goes_straight_from_start_to_end() -> None:
    config = SGMConfig(ratio=0.6, ratio_start=0.2, ratio_ramp=0.5)
    assert [config.ratio_at(at) for at in (0, 0.25, 0.5, 1)] == pytest.approx([0.2, 0.4, 0.6, 0.6])
    assert SGMConfig().ratio_at(0) == SGMConfig().ratio_at(1) == SGMConfig().ratio


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"ratio": 1.0}, r"sgm.ratio must be in \[0, 1\), got 1.0"),
        ({"pool": 0.0}, "sgm.pool"),
        ({"num_queries": 0}, "sgm.num_queries"),
        ({"grad_mode": "st"}, "must be one of ste, rank.*got 'st'"),
        ({"ratio_start": -0.1}, "sgm.ratio_start"),
    ],
)
def test_a_setting_out_of_range_is_an_error(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        SGMConfig(**wrong)  # type: ignore[arg-type]


# --- gradients ----------------------------------------------------------------


def step(mode: str) -> tuple[SemanticGuidedMasking, Masked]:
    """One backward pass through a network that mixes tokens."""
    module = masking(grad_mode=mode)
    x_BTNC = random(2, 4, 16, WIDTH)
    masked = module(x_BTNC, generator=seeded())
    rebuilt_BTNC = masked.x_BTNC + masked.x_BTNC.mean(2, keepdim=True).tanh()
    error_BTN = (rebuilt_BTNC - x_BTNC).square().mean(-1)
    loss = error_BTN.mean()
    if module.config.ranks:
        loss = loss + 0.1 * module.rank_loss(masked, error_BTN, torch.ones(2, 4, dtype=torch.bool))
    loss.backward()
    return module, masked


def test_both_query_sets_and_the_mask_token_learn_in_every_mode() -> None:
    for mode in get_args(GradMode):
        module, _ = step(mode)
        assert module.mask_token.grad.abs().sum() > 0, mode
        for query in (module.temp_query, module.spatio_query):
            if mode == "none":
                assert query.grad is None
            else:
                assert query.grad.isfinite().all(), mode
                assert (query.grad.abs().sum(-1) > 0).all(), mode


def test_no_gradient_reaches_the_tokens_through_their_scores() -> None:
    module = masking(grad_mode="rank")
    x_BTNC = random(2, 4, 16, WIDTH).requires_grad_()
    scores_BTN = module.scores(x_BTNC, prev_BNC=x_BTNC[:, 0])
    scores_BTN.square().sum().backward()
    assert x_BTNC.grad is None
    assert module.temp_query.grad.abs().sum() > 0


def test_the_gate_leaves_the_forward_pass_as_it_is() -> None:
    hard, soft = step("none")[1], step("ste")[1]
    assert torch.equal(hard.mask_BTN, soft.mask_BTN)
    assert torch.equal(hard.x_BTNC, soft.x_BTNC)
    module = masking(grad_mode="none")
    hidden = module.hide(random(2, 4, 16, WIDTH), hard.mask_BTN)
    assert torch.equal(hidden, hard.x_BTNC)
    assert torch.equal(hidden[hard.mask_BTN], module.mask_token.expand(64, WIDTH))


def test_the_gate_is_a_sigmoid_around_the_edge_of_the_pool() -> None:
    module = masking(grad_mode="ste")
    scores_BTN = torch.rand(1, 2, 16, generator=seeded())
    scores_BTN *= 2 / scores_BTN.sum(-1, keepdim=True)
    mask_BTN, x_BTNC = random(1, 2, 16) < 0, random(1, 2, 16, WIDTH)
    got = scores_BTN.clone().requires_grad_()
    module.mask_tokens(x_BTNC, mask_BTN, got, num_pool=12).sum().backward()
    wanted = scores_BTN.clone().requires_grad_()
    z_BTN = (wanted - wanted.mean(-1, keepdim=True)) / wanted.std(-1, keepdim=True, correction=0)
    edge_BT1 = z_BTN.detach().topk(5, dim=-1).values[..., -1:]  # twelfth lowest of sixteen
    worth_BTN = (x_BTNC - module.mask_token.detach()).sum(-1)
    (((z_BTN - edge_BT1) / 0.5).sigmoid() * worth_BTN).sum().backward()
    # The scores' sum is fixed: what both have in common along it does not matter.
    centred = got.grad - got.grad.mean(-1, keepdim=True)
    torch.testing.assert_close(centred, wanted.grad, atol=1e-4, rtol=1e-3)


def test_added_scores_change_the_tokens_that_stay_by_at_most_one() -> None:
    masked = step("additive")[1]
    added = (masked.x_BTNC - random(2, 4, 16, WIDTH))[~masked.mask_BTN]
    assert added.min() >= -1e-6
    assert added.max() <= 1 + 1e-6
    assert added.std(-1).max() < 1e-5  # the same in every channel


def test_scores_that_are_all_equal_give_finite_gradients() -> None:
    module = masking(grad_mode="ste+rank")
    x_BTNC = torch.ones(1, 4, 16, WIDTH)
    masked = module(x_BTNC, generator=seeded())
    rank = module.rank_loss(masked, torch.ones(1, 4, 16), torch.ones(1, 4, dtype=torch.bool))
    (masked.x_BTNC.sum() + rank).backward()
    assert module.temp_query.grad.isfinite().all()
    assert rank.isfinite()


def test_the_rank_loss_is_cross_entropy_over_the_masked_tokens_of_valid_frames() -> None:
    module = masking(grad_mode="rank")
    scores = torch.tensor([[[0.2, 0.5, 0.3, 1.0], [0.1, 0.2, 0.3, 1.4]]])
    mask = torch.tensor([[[True, True, False, True], [True, True, True, True]]])
    masked = Masked(x_BTNC=torch.zeros(1, 2, 4, 1), mask_BTN=mask, scores_BTN=scores)
    error = torch.tensor([[[1.0, 2.0, 99.0, 6.0], [1.0, 2.0, 3.0, 4.0]]])
    loss = module.rank_loss(masked, error, torch.tensor([[True, False]]))
    z = [(e - 3) / math.sqrt((4 + 1 + 9) / 3) for e in (1, 2, 6)]
    total = sum(map(math.exp, z))
    wanted = -sum(
        math.exp(a) / total * math.log(s / 1.7) for a, s in zip(z, (0.2, 0.5, 1.0), strict=True)
    )
    assert loss.item() == pytest.approx(wanted, rel=1e-5)
    nothing = replace(masked, mask_BTN=torch.zeros_like(mask))
    assert module.rank_loss(nothing, error, torch.tensor([[True, True]])).item() == 0


# --- what it learns -----------------------------------------------------------


def still_with_a_moving_patch(
    num_clips: int, generator: torch.Generator, *, colour_C: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Clips of 4 frames of 5 x 5 tokens: one background token everywhere but on a 2 x 2 patch.

    Returns:
        x_BTNC and foreground_BTN.
    """
    background = torch.randn(num_clips, 1, 1, WIDTH, generator=generator)
    background = background if colour_C is None else colour_C.expand_as(background)
    corner = torch.randint(0, 4, (num_clips, 4, 2), generator=generator)
    y, x = torch.arange(5)[:, None], torch.arange(5)[None, :]
    offset_y, offset_x = (y - corner[..., 0, None, None]), (x - corner[..., 1, None, None])
    foreground = ((offset_y >= 0) & (offset_y < 2) & (offset_x >= 0) & (offset_x < 2)).flatten(2)
    patch = torch.randn(num_clips, 4, 1, WIDTH, generator=generator)
    return torch.where(foreground[..., None], patch, background), foreground


def share_above_background(scores_BTN: torch.Tensor, foreground_BTN: torch.Tensor) -> float:
    """The AUC: over all frames, the share of (foreground, background) pairs in that order."""
    wins = [
        (scores[front][:, None] > scores[~front][None]).float().mean()
        for scores, front in zip(
            scores_BTN.flatten(0, 1), foreground_BTN.flatten(0, 1), strict=True
        )
    ]
    return torch.stack(wins).mean().item()


@pytest.mark.parametrize("mode", ["ste", "rank", "ste+rank"])
def test_tokens_that_need_not_be_seen_come_to_score_low(mode: str) -> None:
    # The background is one colour, and the mask token knows it: only the patch is worth seeing.
    torch.manual_seed(0)
    config = SGMConfig(ratio=0.5, unmasked_share=0, grad_mode=mode)  # type: ignore[arg-type]
    module = SemanticGuidedMasking(config, width=WIDTH).train()
    generator, colour_C = seeded(), random(WIDTH, seed=7)
    with torch.no_grad():
        module.mask_token.copy_(colour_C)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.02)
    all_valid = torch.ones(16, 4, dtype=torch.bool)
    for _ in range(150):
        x_BTNC, _ = still_with_a_moving_patch(16, generator, colour_C=colour_C)
        masked = module(x_BTNC, generator=generator)
        error_BTN = (masked.x_BTNC - x_BTNC).square().mean(-1)
        loss = error_BTN.mean()
        if module.config.ranks:
            loss = loss + 0.1 * module.rank_loss(masked, error_BTN, all_valid)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    x_BTNC, foreground_BTN = still_with_a_moving_patch(16, generator, colour_C=colour_C)
    with torch.no_grad():
        auc = share_above_background(module.scores(x_BTNC), foreground_BTN)
    assert auc > 0.8


# --- diagnostics --------------------------------------------------------------


def test_diagnostics_tell_what_is_spared() -> None:
    change = torch.tensor([[[0.0, 0.0, 5.0, 6.0], [1.0, 1.0, 1.0, 1.0]]])
    scores = torch.tensor([[[0.1, 0.2, 0.8, 0.9], [0.5, 0.5, 0.5, 0.5]]])
    masked = Masked(
        x_BTNC=torch.zeros(1, 2, 4, 1),
        mask_BTN=torch.tensor([[[True, True, False, False]] * 2]),
        scores_BTN=scores,
    )
    moves = torch.tensor([[True, True]])
    numbers = mask_diagnostics(
        masked,
        change_BTN=change,
        error_BTN=-scores,
        moves_BT=moves,
        valid_BT=torch.tensor([[True, False]]),
        pool=0.5,
    )
    pair = torch.stack([scores[0, 0], change[0, 0]])
    assert numbers["score_change_corr"].item() == pytest.approx(pair.corrcoef()[0, 1].item())
    assert numbers["score_error_corr"].item() == pytest.approx(-1)
    shares = (scores[0, 0] / 2).tolist()
    entropy = -sum(s * math.log(s) for s in shares) / math.log(4)
    assert numbers["score_entropy"].item() == pytest.approx(entropy, rel=1e-5)
    assert numbers["pool_static_share"].item() == 1
    assert numbers["masked_share"].item() == 0.5


def test_diagnostics_leave_out_frames_that_do_not_count_or_cannot_tell() -> None:
    alike, rising, falling = [1.0] * 4, [0.1, 0.2, 0.8, 0.9], [0.9, 0.8, 0.2, 0.1]
    masked = Masked(
        x_BTNC=torch.zeros(1, 3, 4, 1),
        mask_BTN=torch.zeros(1, 3, 4, dtype=torch.bool),
        scores_BTN=torch.tensor([[rising, rising, falling]]),
    )
    numbers = mask_diagnostics(
        masked,
        change_BTN=torch.tensor([[rising, alike, rising]]),
        error_BTN=torch.tensor([[rising, alike, rising]]),
        moves_BT=torch.ones(1, 3, dtype=torch.bool),
        valid_BT=torch.tensor([[True, True, False]]),
        pool=0.5,
    )
    for name in ("score_change_corr", "score_error_corr", "pool_static_share"):
        assert numbers[name].item() == pytest.approx(1), name


def test_diagnostics_without_a_moving_frame_are_not_numbers() -> None:
    masked = masking()(random(1, 4, 16, WIDTH), generator=seeded())
    numbers = mask_diagnostics(
        masked,
        change_BTN=torch.zeros(1, 4, 16),
        error_BTN=random(1, 4, 16).abs(),
        moves_BT=torch.zeros(1, 4, dtype=torch.bool),
        valid_BT=torch.ones(1, 4, dtype=torch.bool),
        pool=0.75,
    )
    assert numbers["score_change_corr"].isnan()
    assert numbers["pool_static_share"].isnan()
    assert numbers["score_error_corr"].isfinite()


def test_parameters() -> None:
    def count(module: nn.Module) -> int:
        return sum(p.numel() for p in module.parameters())

    assert count(SemanticGuidedMasking(SGMConfig(), width=1152)) == 10_368
