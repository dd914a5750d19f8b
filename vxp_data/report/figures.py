"""A matplotlib figure without a screen, and without a word about where its cache may lie."""

from __future__ import annotations

import logging
from typing import Any


def new_figure(**options: Any) -> Any:
    """Return an empty figure that can be saved as a PNG.

    Args:
        options: matplotlib's of a figure.
    """
    # Where the home folder cannot be written to, matplotlib warns, and works in a temporary one.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(**options)
    FigureCanvasAgg(figure)
    return figure
