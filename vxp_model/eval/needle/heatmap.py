"""The heat map of a grid, as an image and as text.

Shape suffixes: D depths, L lengths.
"""

from __future__ import annotations

import logging
import math
import textwrap
from pathlib import Path
from typing import Any, Final

from vxp_model.eval.needle.results import Cells

_DARK: Final = 0.6
"""Below this value the colour map is dark, and what is written on it white."""
_LETTERS_PER_IN: Final = 9
"""Of the title."""
_CELL_IN: Final = (0.95, 0.6)
"""Of a cell, inches."""


def draw_heat_map(cells: Cells, path: Path, *, title: str) -> None:
    """Write lengths across, depths down, as a PNG; each cell's value stands in it.

    Args:
        cells: values in [0, 1].
        path: the file; its folder is made.
        title: what was measured, of which model.
    """
    num_depths, num_lengths = cells.mean_DL.shape
    figure = _figure(
        figsize=(max(4.5, 1.6 + _CELL_IN[0] * num_lengths), 1.9 + _CELL_IN[1] * num_depths),
        layout="constrained",
    )
    axes = figure.add_subplot()
    image = axes.imshow(cells.mean_DL, cmap="viridis", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(num_lengths), [f"{length:,}" for length in cells.lengths])
    axes.set_xlabel("frames of the haystack")
    if cells.depths:
        axes.set_yticks(range(num_depths), [f"{depth:.0%}" for depth in cells.depths])
        axes.set_ylabel("depth of the needle")
    else:
        axes.set_yticks([0], ["chain"])
    for depth, row in enumerate(cells.mean_DL.tolist()):
        for length, value in enumerate(row):
            if not math.isnan(value):
                colour = "white" if value < _DARK else "black"
                axes.text(length, depth, f"{value:.2f}", ha="center", va="center", color=colour)
    lines = textwrap.wrap(title, width=int(figure.get_figwidth() * _LETTERS_PER_IN))
    lines.append(f"mean over the cells {cells.grid_mean:.3f}")
    axes.set_title("\n".join(lines), fontsize="medium")
    figure.colorbar(image, ax=axes)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Without the library's version, so that the same values are the same bytes.
    figure.savefig(path, format="png", dpi=120, metadata={"Software": None})


def heat_table(cells: Cells) -> str:
    """Return the same as text, the mean over the cells in the last line."""
    lines = ["depth" + "".join(f"{length:>8,}" for length in cells.lengths)]
    names = [f"{depth:.0%}" for depth in cells.depths] or ["chain"]
    for name, row in zip(names, cells.mean_DL.tolist(), strict=True):
        values = ["-" if math.isnan(value) else f"{value:.2f}" for value in row]
        lines.append(f"{name:<5}" + "".join(f"{value:>8}" for value in values))
    lines.append(f"mean over the cells {cells.grid_mean:.3f}")
    return "\n".join(lines)


def _figure(**options: Any) -> Any:
    """Return an empty figure, without a screen."""
    # Where the home folder cannot be written to, matplotlib warns, and works in a temporary one.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(**options)
    FigureCanvasAgg(figure)
    return figure
