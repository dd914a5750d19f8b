"""Semantic-Guided Masking: groups left whole, the stratified draw, a ratio that changes."""

from __future__ import annotations

from typing import Any

import pytest

from support.later import LATER
from vxp_model.errors import UserError

if LATER:
    import torch

    from support.tensors import random
    from vxp_model.modules.masking import SemanticGuidedMasking, seeded_noise, stratify
    from vxp_model.modules.shapes import SGMConfig

pytestmark = pytest.mark.usefixtures("one_thread")

WIDTH = 12


def masking(**settings: Any) -> SemanticGuidedMasking:
    torch.manual_seed(0)
    return SemanticGuidedMasking(
        SGMConfig(**({"unmasked_share": 0} | settings)), width=WIDTH
    ).train()


# --- groups that are left whole -----------------------------------------------


@pytest.mark.parametrize("mode", ["rank", "ste", "additive", "none"])
def test_a_whole_group_passes_as_in_eval_and_the_others_as_without_it(mode: str) -> None:
    module = masking(grad_mode=mode, ratio=0.5)
    x_BTNC, noise_BTN = random(3, 4, 16, WIDTH), seeded_noise([1, 2, 3], shape=(4, 16))
    plain = module(x_BTNC, noise_BTN=noise_BTN)
    some = module(x_BTNC, noise_BTN=noise_BTN, whole_B=torch.tensor([False, True, False]))
    assert some.mask_BTN.sum((1, 2)).tolist() == [32, 0, 32]
    assert torch.equal(some.x_BTNC[1], x_BTNC[1])
    assert torch.equal(some.x_BTNC[::2], plain.x_BTNC[::2])
    assert torch.equal(some.mask_BTN[::2], plain.mask_BTN[::2])


def test_groups_are_drawn_to_stay_whole_with_their_share_and_by_the_generator() -> None:
    module, x_BTNC = (
        masking(ratio=0.5, unmasked_share=0.25),
        random(1, 1, 8, WIDTH).expand(4000, 1, 8, WIDTH),
    )
    first, again = (
        module(x_BTNC, generator=torch.Generator().manual_seed(0)).mask_BTN for _ in range(2)
    )
    assert torch.equal(first, again)
    hidden_B = first.sum((1, 2))
    assert set(hidden_B.tolist()) == {0, 4}
    # Of 4,000 draws with a chance of a quarter: five standard deviations are 137.
    assert abs(int((hidden_B == 0).sum()) - 1000) < 137
    assert not module.eval()(x_BTNC).mask_BTN.any()


def test_a_whole_group_adds_nothing_to_the_ranking_loss() -> None:
    module = masking(ratio=0.5)
    x_BTNC, valid_BT = random(2, 4, 16, WIDTH), torch.ones(2, 4, dtype=torch.bool)
    noise_BTN = seeded_noise([1, 2], shape=(4, 16))
    error_BTN = random(2, 4, 16).abs()
    alone = module(x_BTNC[:1], noise_BTN=noise_BTN[:1])
    both = module(x_BTNC, noise_BTN=noise_BTN, whole_B=torch.tensor([False, True]))
    wanted = module.rank_loss(alone, error_BTN[:1], valid_BT[:1]) / 2
    torch.testing.assert_close(module.rank_loss(both, error_BTN, valid_BT), wanted)


# --- the stratified draw ------------------------------------------------------


def test_of_a_places_frames_each_gets_another_stratum_of_its_own_order() -> None:
    noise_BTN = seeded_noise(range(20), shape=(4, 50))
    spread_BTN = stratify(noise_BTN)
    assert spread_BTN.shape == noise_BTN.shape
    for noise_T, spread_T in zip(
        noise_BTN.transpose(1, 2).flatten(0, 1).tolist(),
        spread_BTN.transpose(1, 2).flatten(0, 1).tolist(),
        strict=True,
    ):
        assert [int(4 * value) for value in spread_T] == [sorted(noise_T).index(v) for v in noise_T]


def test_in_one_frame_the_noise_is_as_uniform_as_before() -> None:
    spread_BTN = stratify(seeded_noise(range(200), shape=(4, 100)))
    for frame in range(4):
        counts = torch.histc(spread_BTN[:, frame], bins=20, min=0, max=1)
        chi2 = ((counts - 1000) ** 2 / 1000).sum()
        assert 5.4 < chi2 < 43.9  # 0.1 % on either side, at 19 degrees of freedom
    corr = torch.corrcoef(spread_BTN.permute(2, 0, 1).flatten(1))  # between places
    off = corr[~torch.eye(100, dtype=torch.bool)]
    assert off.abs().max() < 0.2  # 800 numbers each: six standard deviations


@pytest.mark.parametrize(("ratio", "few", "many"), [(0.5, 2, 2), (0.75, 3, 3), (0.6, 2, 3)])
def test_a_place_is_hidden_in_its_share_of_a_groups_frames(
    ratio: float, few: int, many: int
) -> None:
    """Exact counts in every frame; over the frames of a group, hardly a place off its share."""
    x_BTNC, noise_BTN = random(8, 4, 400, WIDTH), seeded_noise(range(8), shape=(4, 400))
    masks = {
        draw: masking(ratio=ratio, pool=1.0, draw=draw)(x_BTNC, noise_BTN=noise_BTN).mask_BTN
        for draw in ("uniform", "stratified")
    }
    share_off = {}
    for draw, mask_BTN in masks.items():
        assert (mask_BTN.sum(-1) == round(ratio * 400)).all()
        count_BN = mask_BTN.sum(1)
        share_off[draw] = float(((count_BN < few) | (count_BN > many)).float().mean())
    assert share_off["stratified"] < 0.12  # each frame's last few move the edge of a stratum
    assert share_off["uniform"] > 0.3


def test_a_stratified_mask_follows_from_the_groups_noise_alone_and_copies_share_it() -> None:
    module, x_BTNC = masking(draw="stratified"), random(3, 4, 16, WIDTH)
    noise_BTN = seeded_noise([7, 8, 9], shape=(4, 16))
    together = module(x_BTNC, noise_BTN=noise_BTN).mask_BTN
    assert torch.equal(together[2:], module(x_BTNC[2:], noise_BTN=noise_BTN[2:]).mask_BTN)
    same_BTNC = x_BTNC[:, :1].expand(3, 4, 16, WIDTH)
    copies = module(same_BTNC, noise_BTN=noise_BTN, copy_of_BT=torch.zeros(3, 4, dtype=torch.int64))
    assert (copies.mask_BTN == copies.mask_BTN[:, :1]).all()


# --- settings -----------------------------------------------------------------


def test_the_ratio_may_fall() -> None:
    config = SGMConfig(ratio=0.0, ratio_start=0.9, ratio_ramp=1.0)
    assert [config.ratio_at(at) for at in (0, 0.5, 1)] == pytest.approx([0.9, 0.45, 0.0])
    config = SGMConfig(ratio=0.5, ratio_start=0.9, ratio_ramp=0.5)
    assert [config.ratio_at(at) for at in (0, 0.25, 0.6)] == pytest.approx([0.9, 0.7, 0.5])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"ratio_start": 0.9}, "sgm.ratio_start and sgm.ratio_ramp go together: got 0.9 and 0.0"),
        ({"ratio_ramp": 0.5}, "go together: got None and 0.5. Set both, or neither"),
        ({"unmasked_share": 1.0}, r"sgm.unmasked_share must be in \[0, 1\), got 1.0"),
        ({"draw": "even"}, "sgm.draw must be one of uniform, stratified; got 'even'"),
    ],
)
def test_settings_that_make_no_sense_are_errors(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        SGMConfig(**wrong)
