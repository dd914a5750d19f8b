"""The heat map, as an image and as text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from vxp_model.eval.needle.heatmap import draw_heat_map, heat_table
from vxp_model.eval.needle.results import Cells

CELLS = Cells(
    lengths=(64, 128, 8192),
    depths=(0.0, 0.5),
    mean_DL=np.array([[1.0, 0.0, 0.5], [1.0, np.nan, 0.25]]),
)


def test_the_image_has_a_cell_for_each_value_and_the_same_bytes_again(tmp_path: Path):
    path = tmp_path / "deep" / "heat.png"
    draw_heat_map(CELLS, path, title="tiny, single: the letter")
    image = Image.open(path).convert("RGB")
    assert image.width >= 500
    assert image.height >= 300
    colours = {colour for count, colour in image.getcolors(1 << 24) if count > 1000}
    for end in ((68, 1, 84), (253, 231, 37)):  # of viridis: 0 and 1
        assert any(max(abs(a - b) for a, b in zip(end, c, strict=True)) <= 1 for c in colours)
    once = path.read_bytes()
    draw_heat_map(CELLS, path, title="tiny, single: the letter")
    assert path.read_bytes() == once


def test_a_chain_has_one_row(tmp_path: Path):
    chain = Cells(lengths=(64,), depths=(), mean_DL=np.array([[0.5]]))
    draw_heat_map(chain, tmp_path / "heat.png", title="tiny, chains")
    assert (tmp_path / "heat.png").stat().st_size > 1000
    assert heat_table(chain).splitlines()[1].split() == ["chain", "0.50"]


def test_the_table_says_every_cell_and_the_mean_over_them():
    assert heat_table(CELLS).splitlines() == [
        "depth      64     128   8,192",
        "0%       1.00    0.00    0.50",
        "50%      1.00       -    0.25",
        "mean over the cells 0.550",
    ]
