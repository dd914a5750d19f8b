"""Semantic-Guided Masking: groups left whole, a ratio that falls."""

from __future__ import annotations

from typing import Any

import pytest

from support.later import LATER
from vxp_model.errors import UserError

if LATER:
    import torch

    from support.tensors import random
    from vxp_model.modules.masking import SemanticGuidedMasking, seeded_noise
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
    ],
)
def test_settings_that_make_no_sense_are_errors(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        SGMConfig(**wrong)
