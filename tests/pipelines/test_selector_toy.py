"""The toy of keys and values: only the token with the key that is asked for tells the answer."""

from __future__ import annotations

import colorsys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.typing import NDArray

if TYPE_CHECKING:
    from selector_toy_model import Toy

pytestmark = pytest.mark.usefixtures("one_thread")


def read_pair(frame_HWC: NDArray[np.uint8]) -> tuple[int, int, int]:
    """Tell key, value and quarter of a picture by looking at its pixels."""
    patches = frame_HWC.reshape(4, 14, 4, 14, 3).swapaxes(1, 2).reshape(16, 14, 14, 3).astype(int)
    colour_N = (patches.max(-1) - patches.min(-1)).mean((1, 2))
    coloured = np.flatnonzero(colour_N > 100)
    assert len(coloured) == 2
    down, right = coloured[0] // 4, coloured[0] % 4
    assert coloured[1] == coloured[0] + 5  # the patch below to the right
    hue = colorsys.rgb_to_hsv(*(patches[coloured[0]].mean((0, 1)) / 255))[0]
    value_HW = patches[down * 4 + right + 1, :, :, 0]
    if np.ptp(value_HW) == 0:
        value = int(value_HW[0, 0] == 255)
    else:
        value = 2 if np.ptp(value_HW, axis=0).max() == 0 else 3  # alike from row to row
    return round(hue * 8), value, int(down // 2 * 2 + right // 2)


def test_every_picture_shows_its_pair_in_its_quarter() -> None:
    from selector_toy_model import VARIANTS, pictures

    found = [read_pair(frame) for frame in pictures(np.random.default_rng(0))]
    wanted = [
        (key, value, quarter)
        for key in range(8) for value in range(4) for quarter in range(4) for _ in range(VARIANTS)
    ]  # fmt: skip
    assert found == wanted


def test_each_key_is_shown_once_and_the_answer_is_its_value() -> None:
    from selector_toy_model import KEYS, LETTERS, draw, pictures

    asked, shown = draw(np.random.default_rng(3), 50), pictures(np.random.default_rng(0))
    for b, answer in enumerate(asked.letters):
        pairs = [read_pair(shown[picture])[:2] for picture in asked.picture_BK[b]]
        assert sorted(key for key, _ in pairs) == list(range(len(KEYS)))
        assert answer == KEYS[asked.key_B[b]] + LETTERS[dict(pairs)[int(asked.key_B[b])]]


@pytest.fixture(scope="module")
def untrained() -> Toy:
    from selector_toy_model import Toy

    from vxp_model.modules.selector import SelectorConfig

    return Toy(0, SelectorConfig())


def test_a_chooser_decides_which_tokens_stay_and_the_own_one_is_put_back(untrained: Toy) -> None:
    import torch
    from selector_toy_model import Drawn, OtherQuestion, draw

    own = untrained.model.selector
    asked = draw(np.random.default_rng(1), 2)
    for chooser in (Drawn(own.config, 1), OtherQuestion(untrained, asked), None):
        assert 0 <= untrained.right(asked, 0.1, chooser) <= 2
        assert untrained.model.selector is own
    batch = untrained.inputs(asked, with_answers=False)
    kept = []
    for chooser in (own, OtherQuestion(untrained, asked), Drawn(own.config, 1)):
        untrained.model.selector = chooser  # type: ignore[assignment]
        with torch.no_grad():
            selections = untrained.model.sequence(**batch, keep_ratio=0.25).selections
        assert [selection.num_kept for selection in selections] == [8, 8]  # of 32
        kept.append(selections[0].keep_M)
    untrained.model.selector = own
    assert not any(torch.equal(kept[0], other) for other in kept[1:])


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_learned_selector_answers_where_chance_and_another_question_cannot() -> None:
    """Two CPU-minutes. At 10 % three of 32 tokens stay, and one of them holds the answer."""
    from selector_toy_model import Drawn, OtherQuestion, Toy, draw

    from vxp_model.modules.selector import SelectorConfig

    toy = Toy(0, SelectorConfig())
    toy.train(800, lambda _: None, selector_rate=0.2)
    asked = draw(np.random.default_rng(9), 200)
    rule = toy.model.selector.config
    assert toy.right(asked, 1.0) > 180
    ahead = {"random": 0.0, "other": 0.0}
    for kept in (0.5, 0.25, 0.1):
        learned = toy.right(asked, kept) / 200
        ahead["random"] += (learned - toy.right(asked, kept, Drawn(rule, 0)) / 200) / 3
        ahead["other"] += (learned - toy.right(asked, kept, OtherQuestion(toy, asked)) / 200) / 3
    assert ahead["random"] > 0.1
    assert ahead["other"] > 0.05
