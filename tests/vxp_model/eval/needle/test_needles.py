"""Drawn needles and chains."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from vxp_model.errors import UserError
from vxp_model.eval.needle.needles import CHAIN_IMAGES, SINGLE, draw_chain, draw_needle


@pytest.mark.parametrize("name", SINGLE)
def test_a_needle_asks_for_one_of_four_different_options(name):
    for seed in range(8):
        needle = draw_needle(name, seed=seed, side_px=96)
        (question,) = needle.questions
        assert needle.images[0].shape == (96, 96, 3)
        assert len(set(question.options)) == 4
        assert question.options["ABCD".index(question.gold)] == question.gold_text
        assert draw_needle(name, seed=seed, side_px=96).digest == needle.digest
    others = {draw_needle(name, seed=seed, side_px=96).digest for seed in range(8)}
    assert len(others) > 2


def test_every_letter_is_right_equally_often():
    golds = [draw_needle(n, seed=s, side_px=96).questions[0].gold for n in SINGLE for s in range(8)]
    assert [golds.count(letter) for letter in "ABCD"] == [10, 10, 10, 10]


def test_the_pixels_are_what_the_answer_says():
    for seed in range(6):
        sign = draw_needle("count", seed=seed, side_px=192)
        white = (sign.images[0][12:-12, 12:-12].min(-1) > 200).sum()
        one_dot = np.pi * (0.09 * 192) ** 2
        assert round(white / one_dot) == int(sign.questions[0].gold_text)


@pytest.mark.parametrize("num_images", CHAIN_IMAGES)
def test_a_chain_leads_from_the_named_sign_to_the_gold_and_not_in_the_videos_order(num_images):
    for seed in range(5):
        chain = draw_chain(num_images, seed=seed, side_px=192)
        assert len({image.tobytes() for image in chain.images}) == num_images
        assert sorted(chain.reading) == list(range(num_images))
        assert list(chain.reading) != list(range(num_images))
        sign, number = chain.questions
        assert f"{num_images - 1} times" in sign.text
        # Of consecutive signs as they are read, the lower line of one is the upper of the next.
        for this, following in pairwise(chain.reading):
            lower = line_of(chain.images[this], 0.78, 0.94)
            assert np.array_equal(lower, line_of(chain.images[following], 0.06, 0.23))
        last = chain.images[chain.reading[-1]]
        back = [
            place
            for place, index in enumerate(chain.reading)
            if np.array_equal(line_of(last, 0.78, 0.94), line_of(chain.images[index], 0.06, 0.23))
        ]
        assert len(back) == 1
        assert 0 < back[0] < num_images - 1
        assert sign.gold != number.gold


def line_of(image: np.ndarray, top: float, bottom: float) -> np.ndarray:
    """A line of writing, cut out and brought to one size."""
    from PIL import Image

    side = len(image)
    dark = image[round(side * top) : round(side * bottom), 12:-12].max(-1) < 128
    rows, columns = np.flatnonzero(dark.any(1)), np.flatnonzero(dark.any(0))
    cut = dark[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return np.asarray(Image.fromarray(cut).resize((90, 9), Image.Resampling.NEAREST))


def test_frames_too_small_to_be_read_are_refused():
    with pytest.raises(UserError, match=r"cannot be read in frames of 56 px.*film_px"):
        draw_needle("word", seed=0, side_px=56)
    with pytest.raises(UserError, match="cannot be read"):
        draw_chain(5, seed=0, side_px=56)
