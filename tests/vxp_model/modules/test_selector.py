"""The query-aware selector: scores, budgets, gradients."""

from __future__ import annotations

import resource
from dataclasses import replace

import pytest

from support.later import LATER
from vxp_model.errors import UserError

if LATER:
    import torch

    from support.tensors import random
    from vxp_model.modules.selector import (
        QueryAwareSelector,
        SelectorConfig,
        TokenLayout,
        keep_within,
    )

pytestmark = pytest.mark.usefixtures("one_thread")


def keep_best(scores_M: torch.Tensor, num_kept: int) -> torch.Tensor:
    groups = layout(1, per_group=len(scores_M))
    return keep_within(scores_M, groups, budget=10**6, keep_time="with_tokens", most=num_kept)


def layout(num_groups: int, *, per_group: int = 4, time_tokens: int = 3) -> TokenLayout:
    return TokenLayout(
        group_M=torch.arange(num_groups).repeat_interleave(per_group),
        time_tokens_G=torch.full((num_groups,), time_tokens),
    )


def cost(keep_M: torch.Tensor, groups: TokenLayout, keep_time: str) -> int:
    """Positions, counted from what is kept."""
    shown = groups.group_M[keep_M].unique() if keep_time == "with_tokens" else slice(None)
    return int(keep_M.sum()) + int(groups.time_tokens_G[shown].sum())


def test_the_best_are_kept_in_order_and_ties_go_to_the_lower_index() -> None:
    scores_M = torch.tensor([0.1, 0.9, 0.5, 0.9, 0.5])
    assert keep_best(scores_M, 2).tolist() == [False, True, False, True, False]
    assert keep_best(scores_M, 3).tolist() == [False, True, True, True, False]
    assert keep_best(torch.zeros(4), 2).tolist() == [True, True, False, False]


@pytest.mark.parametrize("keep_time", ["with_tokens", "all"])
@pytest.mark.parametrize("seed", range(4))
def test_a_budget_is_never_exceeded_and_the_next_token_by_rank_would_not_fit(
    keep_time: str, seed: int
) -> None:
    groups = layout(6)
    scores_M = random(24, seed=seed).round(decimals=1)  # with ties
    order = sorted(range(24), key=lambda m: (-float(scores_M[m]), m))
    for budget in range(18 if keep_time == "all" else 0, 50):
        keep_M = keep_within(scores_M, groups, budget=budget, keep_time=keep_time)
        num_kept = int(keep_M.sum())
        assert set(torch.nonzero(keep_M)[:, 0].tolist()) == set(order[:num_kept])
        assert cost(keep_M, groups, keep_time) <= budget
        if num_kept < 24:
            keep_M[order[num_kept]] = True
            assert cost(keep_M, groups, keep_time) > budget


def test_all_time_text_that_does_not_fit_alone_is_an_error() -> None:
    keep_within(torch.zeros(24), layout(6), budget=18, keep_time="all")
    with pytest.raises(UserError, match="6 groups takes 18 positions, and 17 are left"):
        keep_within(torch.zeros(24), layout(6), budget=17, keep_time="all")


def test_no_more_than_asked_for_are_kept_though_they_would_fit() -> None:
    keep_M = keep_within(random(24), layout(6), budget=100, keep_time="with_tokens", most=5)
    assert int(keep_M.sum()) == 5


@pytest.mark.parametrize("aggregate", ["mean", "max", "logsumexp"])
def test_scores_are_what_a_loop_gives(aggregate: str) -> None:
    selector = QueryAwareSelector(8, SelectorConfig(aggregate=aggregate))
    query_LD, visual_MD = random(3, 8), random(5, 8, seed=2)
    encoded_LD = selector.out(torch.nn.functional.gelu(selector.up(query_LD)))
    for score, visual_D in zip(selector(query_LD, visual_MD), visual_MD, strict=True):
        normed_D = (visual_D - visual_D.mean()) / (visual_D.var(correction=0) + 1e-5).sqrt()
        products_L = torch.stack([q_D @ normed_D / 8**0.5 for q_D in encoded_LD])
        wanted = {
            "mean": products_L.mean(),
            "max": products_L.max(),
            "logsumexp": products_L.logsumexp(0),
        }[aggregate]
        torch.testing.assert_close(score, wanted, rtol=1e-4, atol=1e-5)


def test_no_question_spreads_what_is_kept_evenly() -> None:
    selector = QueryAwareSelector(8, SelectorConfig())
    scores_M = selector(torch.zeros(0, 8), torch.zeros(1000, 8))
    for num_kept in (10, 100, 500):
        kept = torch.nonzero(keep_best(scores_M, num_kept))[:, 0]
        gaps = torch.diff(kept, prepend=torch.tensor([0]), append=torch.tensor([999]))
        assert int(gaps.max()) <= 3 * 1000 / num_kept


def test_no_visual_tokens_have_no_scores() -> None:
    selector = QueryAwareSelector(8, SelectorConfig())
    assert selector(random(3, 8), torch.zeros(0, 8)).shape == (0,)


def test_the_gate_changes_no_value_and_reaches_the_mlp() -> None:
    selector = QueryAwareSelector(8, SelectorConfig())
    visual_MD = random(12, 8, seed=2).requires_grad_()
    scores_M = selector(random(3, 8), visual_MD)
    keep_M = keep_best(scores_M, 9)
    kept_KD = selector.gate(visual_MD, scores_M, keep_M)
    assert torch.equal(kept_KD, visual_MD[keep_M])
    kept_KD.square().sum().backward()
    for parameter in selector.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()
    assert selector.up.weight.grad.abs().max() > 0
    assert visual_MD.grad is not None
    torch.testing.assert_close(visual_MD.grad[keep_M], 2 * visual_MD.detach()[keep_M])


def test_equal_scores_give_finite_gradients() -> None:
    selector = QueryAwareSelector(8, SelectorConfig())
    visual_MD = random(1, 8).expand(12, 8)
    scores_M = selector(random(3, 8), visual_MD)
    selector.gate(visual_MD, scores_M, keep_best(scores_M, 9)).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in selector.parameters())


def test_planted_relevance_is_learned() -> None:
    """Tokens along one direction matter, the rest is noise: the selector comes to keep them."""
    torch.manual_seed(0)
    selector = QueryAwareSelector(16, SelectorConfig())
    optimizer = torch.optim.Adam(selector.parameters(), lr=1e-2)
    direction_D = random(16, seed=9)
    query_LD = random(2, 16, seed=8)

    def sample(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        visual_MD = random(40, 16, seed=seed)
        relevant_M = torch.arange(40) % 5 == seed % 5
        visual_MD[relevant_M] += direction_D
        return visual_MD, relevant_M

    for step in range(60):
        visual_MD, relevant_M = sample(step)
        scores_M = selector(query_LD, visual_MD)
        keep_M = keep_best(scores_M, 28)
        kept_KD = selector.gate(visual_MD, scores_M, keep_M)
        useful_K = torch.where(relevant_M[keep_M], 1.0, -0.25)
        loss = -(kept_KD.norm(dim=-1) * useful_K).sum()  # a relevant token lowers it
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    visual_MD, relevant_M = sample(1000)
    kept = keep_best(selector(query_LD, visual_MD), 8)
    assert int((kept & relevant_M).sum()) >= 7


def test_the_share_dropped_in_training_is_seeded_and_in_its_range() -> None:
    config = SelectorConfig()
    kept = [config.num_kept(1000, seed) for seed in range(200)]
    assert kept == [config.num_kept(1000, seed) for seed in range(200)]
    assert 700 <= min(kept) < 720
    assert 930 < max(kept) <= 950
    assert SelectorConfig(drop_min=0.87, drop_max=0.87).num_kept(1000, 3) == 130
    assert SelectorConfig(drop_min=0, drop_max=0).num_kept(1000, 3) == 1000


@pytest.mark.parametrize(
    "wrong",
    [{"aggregate": "sum"}, {"keep_time": "some"}, {"drop_min": 0.5}, {"drop_max": 1.0}],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UserError, match=rf"selector\..*{next(iter(wrong))}"):
        replace(SelectorConfig(), **wrong)


def test_scoring_8192_frames_takes_less_than_200_mb() -> None:
    selector = QueryAwareSelector(64, SelectorConfig()).eval()
    visual_MD = torch.zeros(294_912, 64, dtype=torch.bfloat16)
    groups = layout(2048, per_group=144, time_tokens=10)
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with torch.no_grad():
        scores_M = selector(random(200, 64), visual_MD)
    keep_M = keep_within(scores_M, groups, budget=32_000, keep_time="with_tokens")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 100_000
    assert cost(keep_M, groups, "with_tokens") <= 32_000
