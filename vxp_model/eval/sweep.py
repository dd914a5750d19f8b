"""What a sweep found: one table, one figure, one JSON file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from vxp_model.eval.scores import OWN
from vxp_model.eval.store import scores_name, write_json
from vxp_model.eval.text_tables import table as text_table

_Row = dict[str, Any]
SWEEP_NAME: Final = "sweep.json"
FIGURE_NAME: Final = "sweep.png"


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
    heads = [*(axis.rpartition(".")[2] for axis in axes), "benchmark", "figure", "value", "95 %"]
    lines = [heads]
    for row in rows:
        cells = [_text(row["point"][axis]) for axis in axes]
        low, high = (f"{_percent(row[end])}" for end in ("low", "high"))
        cells += [row["benchmark"], row["figure"], _percent(row["value"]), f"{low} to {high}"]
        lines.append([*cells])
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
                **{key: main[key] for key in ("value", "low", "high", "interval", "questions")},
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
        lines.setdefault(f"{row['benchmark']}{rest}", []).append(row)
    is_number = all(
        isinstance(row["point"][first], int | float) and row["point"][first] is not True
        for row in rows
    )
    for label, own in lines.items():
        x = [row["point"][first] if is_number else _text(row["point"][first]) for row in own]
        y = [row["value"] for row in own]
        known = [row["low"] is not None and row["high"] is not None for row in own]
        gaps = [
            [abs(row["value"] - row[end]) if ok else 0 for row, ok in zip(own, known, strict=True)]
            for end in ("low", "high")
        ]
        plot.errorbar(x, y, yerr=gaps, marker="o", capsize=3, label=label)
    plot.set_xlabel(first)
    plot.set_ylabel(rows[0]["figure"] + ", 95 % intervals")
    plot.grid(alpha=0.3)
    plot.legend()
    figure.savefig(path, dpi=120, metadata={"Software": None})


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _percent(value: Any) -> str:
    return "-" if not isinstance(value, int | float) else f"{100 * value:.1f}"
