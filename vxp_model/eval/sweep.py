"""What a sweep found: one table, one figure, one JSON file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from vxp_model.eval.score_tables import interval_text, value_text
from vxp_model.eval.scores import OWN
from vxp_model.eval.statistics import Interval
from vxp_model.eval.store import scores_name, write_json
from vxp_model.eval.text_tables import table as text_table

_Row = dict[str, Any]
SWEEP_NAME: Final = "sweep.json"
FIGURE_NAME: Final = "sweep.png"
_ENDS: Final = ("low", "high")
_OF_FIGURE: Final = ("value", "low", "high", "interval", "is_share", "questions")


def write_sweep(
    out: Path,
    points: Sequence[tuple[Mapping[str, Any], Path]],
    names: Sequence[str],
    *,
    compat: str | None = None,
) -> str:
    """Write sweep.json and sweep.png.

    Args:
        out: folder of the sweep.
        points: values of the swept settings, and the run that had them.
        names: of the benchmarks.
        compat: convention of the figures; benchmarks that were not scored by it are left out.

    Returns:
        The table of it, for a terminal.
    """
    file = scores_name(None if compat == OWN else compat)
    rows = [row for values, run in points for row in _rows(values, run, names, file)]
    write_json(out / SWEEP_NAME, {"axes": list(points[0][0]), "rows": rows})
    _draw(rows, list(points[0][0]), out / FIGURE_NAME)
    return f"{table(rows)}\nfigure in {out / FIGURE_NAME}"


def table(rows: Sequence[_Row]) -> str:
    """Draw the rows of a sweep: a line for each point and benchmark."""
    axes = list(rows[0]["point"])
    heads = [axis.rpartition(".")[2] for axis in axes]
    lines = [[*heads, "benchmark", "figure", "value", "95 % interval"]]
    for row in rows:
        cells = [_text(row["point"][axis]) for axis in axes]
        value, low, high = (_number(row[key]) for key in ("value", "low", "high"))
        said = value_text(value, is_share=row["is_share"])
        inside = interval_text(Interval(low, high, row["interval"]), is_share=row["is_share"])
        lines.append([*cells, row["benchmark"], row["figure"], said, inside])
    return "\n".join(text_table(lines))


def _rows(values: Mapping[str, Any], run: Path, names: Sequence[str], file: str) -> list[_Row]:
    """Return the figure that each benchmark of a run is known by."""
    found = []
    for name in names:
        path = run / name / file
        if not path.is_file():
            continue
        scores = json.loads(path.read_text(encoding="utf-8"))
        main = scores["figures"][0]
        found.append(
            {
                "point": dict(values),
                "benchmark": name,
                "figure": main["name"],
                **{key: main[key] for key in _OF_FIGURE},
            }
        )
    return found


def _draw(rows: Sequence[_Row], axes: Sequence[str], path: Path) -> None:
    """Plot the figures over the first axis, a line for each benchmark and other value."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    plot = figure.add_subplot()
    first, *others = axes
    lines: dict[str, list[_Row]] = {}
    for row in rows:
        rest = "".join(f", {key.rpartition('.')[2]} {_text(row['point'][key])}" for key in others)
        lines.setdefault(f"{row['benchmark']}, {row['figure']}{rest}", []).append(row)
    is_number = all(
        isinstance(row["point"][first], int | float) and row["point"][first] is not True
        for row in rows
    )
    for label, own in lines.items():
        x = [row["point"][first] if is_number else _text(row["point"][first]) for row in own]
        y = [_number(row["value"]) for row in own]
        ends = [[abs(_number(row[end]) - _number(row["value"])) for row in own] for end in _ENDS]
        gaps = [[gap if math.isfinite(gap) else 0.0 for gap in side] for side in ends]
        plot.errorbar(x, y, yerr=gaps, marker="o", capsize=3, label=label)
    plot.set_ylim(bottom=max(0.0, plot.get_ylim()[0]))
    plot.set_xlabel(first)
    plot.set_ylabel("value, 95 % intervals")
    plot.grid(alpha=0.3)
    plot.legend()
    figure.savefig(path, dpi=120, metadata={"Software": None})


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _number(value: Any) -> float:
    """Return a number of scores.json, in which None is none and 'inf' infinity."""
    return math.nan if value is None else float(value)
