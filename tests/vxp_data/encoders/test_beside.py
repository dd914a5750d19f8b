"""`thumbnail`'s vectors of frames that another encoder takes: against plain fractions."""

from fractions import Fraction

import numpy as np
import pytest

from vxp_data.encoders.beside import BESIDE_DIM, embed_beside, packed, shrink, unpacked
from vxp_data.encoders.thumbnail import ThumbnailEncoder


def mean_by_area(image_HW, side_px):
    """Each pixel of the result is the mean of what it covers: rounded, halves upwards."""
    from_px = len(image_HW)
    edges = [Fraction(i * from_px, side_px) for i in range(side_px + 1)]

    def share(pixel, result):
        low, high = max(edges[result], pixel), min(edges[result + 1], pixel + 1)
        return max(Fraction(0), Fraction(high) - Fraction(low)) * Fraction(side_px, from_px)

    weights = [[share(p, r) for p in range(from_px)] for r in range(side_px)]
    out = np.empty((side_px, side_px), np.uint8)
    for down in range(side_px):
        for across in range(side_px):
            total = sum(
                int(image_HW[y, x]) * weights[down][y] * weights[across][x]
                for y in range(from_px)
                if weights[down][y]
                for x in range(from_px)
                if weights[across][x]
            )
            out[down, across] = int(total + Fraction(1, 2))
    return out


@pytest.mark.parametrize(("from_px", "side_px"), [(7, 4), (14, 4), (6, 4), (3, 5), (8, 8), (11, 3)])
def test_shrinking_is_the_mean_over_the_area_exactly(from_px, side_px):
    rng = np.random.default_rng(from_px)
    frames_FHWC = rng.integers(0, 256, (2, from_px, from_px, 3), np.uint8)
    small_FHWC = shrink(frames_FHWC, side_px)
    for frame in range(2):
        for channel in range(3):
            wanted = mean_by_area(frames_FHWC[frame, :, :, channel], side_px)
            assert (small_FHWC[frame, :, :, channel] == wanted).all()


def summed_up_to(values, side_px):
    """Sums of a column's first i * from_px / side_px values, times side_px: whole numbers."""
    from_px = len(values)
    before = np.concatenate([np.zeros_like(values[:1]), np.cumsum(values, axis=0)])
    whole, part = np.divmod(np.arange(side_px + 1) * from_px, side_px)
    next_value = np.concatenate([values, np.zeros_like(values[:1])])[whole]
    return side_px * before[whole] + part.reshape(-1, *[1] * (values.ndim - 1)) * next_value


def test_large_images_are_as_exact_as_small_ones():
    """1,001 pixels have no divisor in common with 64: the sums pass what float32 holds."""
    frames_FHWC = np.random.default_rng(4).integers(0, 256, (1, 1001, 1001, 3), np.uint8)
    rows = np.diff(summed_up_to(frames_FHWC[0].astype(np.int64), 64), axis=0)
    cells = np.diff(summed_up_to(rows.swapaxes(0, 1), 64), axis=0).swapaxes(0, 1)
    wanted = (2 * cells + 1001**2) // (2 * 1001**2)
    assert (shrink(frames_FHWC, 64)[0] == wanted).all()


def test_frames_of_its_own_size_give_its_own_vectors():
    frames_FHWC = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)
    assert (embed_beside(frames_FHWC) == ThumbnailEncoder().embed(frames_FHWC)).all()


def test_stored_vectors_come_back_nearly_as_they_were():
    frames_FHWC = np.random.default_rng(2).integers(0, 256, (4, 224, 224, 3), np.uint8)
    frames_FHWC[1] = 0
    frames_FHWC[2, :, :112] = (255, 0, 0)
    vectors = embed_beside(frames_FHWC)
    back = unpacked(packed(vectors).tobytes(), 4)
    assert np.abs(back - vectors).max() < 0.6 / 1270  # nothing is clipped
    assert np.abs(back.astype(float) @ back.T.astype(float) - vectors @ vectors.T).max() < 0.01
    with pytest.raises(ValueError, match="3 frames"):
        unpacked(packed(vectors).tobytes(), 3)


def test_a_frames_vector_is_the_same_whatever_else_is_there():
    frames_FHWC = np.random.default_rng(1).integers(0, 256, (5, 224, 224, 3), np.uint8)
    together = embed_beside(frames_FHWC)
    assert together.shape == (5, BESIDE_DIM)
    assert np.abs(np.linalg.norm(together, axis=1) - 1).max() < 1e-5
    for frame in range(5):
        assert (embed_beside(frames_FHWC[frame : frame + 1])[0] == together[frame]).all()
