"""Weight-free encoder: how alike two images look at thumbnail size. Needs numpy only.

It knows nothing of content: the same scene from another angle is a different image to it. It
separates clips in which little changes from clips with cuts and motion, and says no more.

An image becomes a set of small unit vectors, one a grid cell, so that the cosine of two images
is the mean agreement of their cells: a cell that changed counts once, however much it changed, and
a flat image is as well defined as any other. Three grids:

* luma, 8 x 8 cells: the cell's level as an angle. Half the image's median level is taken off
  first, since a camera that adjusts its exposure is not a new scene.
* chroma, 4 x 4 cells: Cb and Cr as angles.
* gradient, 16 x 16 cells: direction of the cell's mean luma gradient; near-flat cells lean to a
  common third axis, so that noise does not turn them about.
"""

from __future__ import annotations

from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from vxp_data.encoders.base import EncoderSettings, EncoderSpec, check_frames, fingerprint

VERSION: Final = 1
"""Counts up with every change of the numbers; enters the fingerprint."""

FRAME_PX: Final = 64
LUMA_CELLS: Final = 8
CHROMA_CELLS: Final = 4
GRADIENT_CELLS: Final = 16
DIM: Final = 2 * LUMA_CELLS**2 + 4 * CHROMA_CELLS**2 + 3 * GRADIENT_CELLS**2  # 960

# Chosen on the 37 real clips of the development corpus, by mean cosine of 20 uniform frames: its
# six near-static clips rank 1, 2, 9, 12, 15 and 18 from the most redundant (0.89 to 0.999), the
# film with the most cuts 36 (0.52). manifests/runs/encoders-compared.json has all.
LUMA_TURNS: Final = 0.75
"""Turns of the circle from black to white; under 1, or black and white would be one angle."""
EXPOSURE_SHARE: Final = 0.5
"""Share of the image's median luma taken off, 0 to 1."""
CHROMA_WEIGHT: Final = 0.5
GRADIENT_WEIGHT: Final = 1.5
"""Weights are of the grid's vector beside the luma grid's, which has norm 1."""
FLAT_GRADIENT: Final = 0.04
"""Mean gradient (share of full range over two pixels) at which a cell leans halfway to flat."""


class ThumbnailEncoder:
    """Encoder 'thumbnail'; takes no settings. Exact: no sum depends on what else is embedded."""

    spec: Final = EncoderSpec(
        name="thumbnail",
        frame_px=FRAME_PX,
        dim=DIM,
        fingerprint=fingerprint({"encoder": "thumbnail", "version": VERSION}),
        in_decode_task=True,
    )

    @classmethod
    def prepare(cls, settings: EncoderSettings) -> None:
        """Pass: there are no weights."""

    @classmethod
    def describe(cls, settings: EncoderSettings) -> EncoderSpec:  # noqa: ARG003 - takes none
        """Return the spec: the same for all settings."""
        return cls.spec

    @classmethod
    def load(cls, settings: EncoderSettings) -> Self:  # noqa: ARG003 - takes none
        """Build the encoder: there is nothing to load."""
        return cls()

    def embed(self, frames_FHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed images, in order; about 0.6 ms each.

        Args:
            frames_FHWC: uint8 RGB [F, 64, 64, 3].

        Returns:
            emb_FD: float32 [F, 960], unit rows. The cosine of two of them is in [-1, 1]; unrelated
            images have about 0.5.

        Raises:
            ValueError: another shape or dtype.
        """
        check_frames(frames_FHWC, frame_px=FRAME_PX)
        rgb_FHWC = frames_FHWC.astype(np.int32)  # uint8 sums and differences would wrap around
        red_FHW, green_FHW, blue_FHW = (rgb_FHWC[..., channel] for channel in range(3))
        # BT.601 with 16 fractional bits: whole numbers make every sum below exact.
        luma_FHW = 19595 * red_FHW + 38470 * green_FHW + 7471 * blue_FHW
        cb_FHW = -11059 * red_FHW - 21709 * green_FHW + 32768 * blue_FHW
        cr_FHW = 32768 * red_FHW - 27439 * green_FHW - 5329 * blue_FHW

        level_FN = _cell_means(luma_FHW, LUMA_CELLS)
        level_FN -= EXPOSURE_SHARE * np.median(level_FN, axis=1, keepdims=True)
        chroma_FN = np.concatenate(
            [_cell_means(cb_FHW, CHROMA_CELLS), _cell_means(cr_FHW, CHROMA_CELLS)], axis=1
        )
        emb_FD = np.concatenate(
            [
                _on_circle(level_FN, turns=LUMA_TURNS),
                CHROMA_WEIGHT * _on_circle(chroma_FN, turns=1.0),
                GRADIENT_WEIGHT * _gradient_directions(luma_FHW),
            ],
            axis=1,
        )
        emb_FD /= np.linalg.norm(emb_FD, axis=1, keepdims=True)
        return emb_FD.astype(np.float32)


def _cell_means(plane_FHW: NDArray[np.int32], cells: int) -> NDArray[np.float64]:
    """Average a plane over a cells x cells grid: [F, cells * cells], full range = 1."""
    num_frames, side_px, _ = plane_FHW.shape
    cell_px = side_px // cells
    grid = plane_FHW.reshape(num_frames, cells, cell_px, cells, cell_px)
    sums_FN = grid.sum(axis=(2, 4), dtype=np.int64).reshape(num_frames, cells * cells)
    means_FN: NDArray[np.float64] = sums_FN / (cell_px * cell_px * 255.0 * 65536.0)
    return means_FN


def _on_circle(value_FN: NDArray[np.float64], *, turns: float) -> NDArray[np.float64]:
    """Put each value on the unit circle at `turns` turns per unit: unit rows [F, 2N]."""
    angle_FN = value_FN * (2.0 * np.pi * turns)
    points_FD: NDArray[np.float64] = np.concatenate([np.cos(angle_FN), np.sin(angle_FN)], axis=1)
    points_FD /= np.sqrt(value_FN.shape[1])
    return points_FD


def _gradient_directions(luma_FHW: NDArray[np.int32]) -> NDArray[np.float64]:
    """Return each cell's direction of luma gradient, third axis for flat: unit rows [F, 3N]."""
    down_FHW, right_FHW = np.zeros_like(luma_FHW), np.zeros_like(luma_FHW)
    down_FHW[:, 1:-1] = luma_FHW[:, 2:] - luma_FHW[:, :-2]
    right_FHW[:, :, 1:-1] = luma_FHW[:, :, 2:] - luma_FHW[:, :, :-2]
    down_FN = _cell_means(down_FHW, GRADIENT_CELLS)
    right_FN = _cell_means(right_FHW, GRADIENT_CELLS)
    flat_FN = np.full_like(down_FN, FLAT_GRADIENT)
    norm_FN = np.sqrt(down_FN * down_FN + right_FN * right_FN + flat_FN * flat_FN)
    axes = [down_FN / norm_FN, right_FN / norm_FN, flat_FN / norm_FN]
    return np.concatenate(axes, axis=1) / GRADIENT_CELLS
