"""What a sweep sums up: figures in their own units, also where a run has none."""

from __future__ import annotations

import json

import pytest

from support.eval_runs import SHAPES, SPANS, shape_questions, write_run
from vxp_model.eval.benchmarks.base import Question
from vxp_model.eval.score_run import score_run
from vxp_model.eval.sweep import table, write_sweep

pytestmark = pytest.mark.usefixtures("invented")


def row(**changes):
    given = {"value": 0.5, "low": 0.25, "high": 0.75, "interval": "wilson", "is_share": True}
    names = {"point": {"answer.keep_ratio": 0.5}, "benchmark": "b", "figure": "f"}
    return names | given | changes


def test_shares_ratings_and_what_is_not_known_read_as_they_do_elsewhere():
    nothing = {"value": None, "low": None, "high": None}
    lines = table([row(), row(value=7.0, low=6.0, high=8.0, is_share=False), row(**nothing)])
    cells = [line.split("  ") for line in lines.splitlines()]
    found = [[cell.strip() for cell in own if cell.strip()][-2:] for own in cells]
    assert found == [
        ["value", "95 % interval"],
        ["50.00 %", "25.0 to 75.0"],
        ["7.000", "6.000 to 8.000"],
        ["-", "-"],
    ]


def test_a_point_without_a_figure_and_a_benchmark_without_the_convention_do_no_harm(tmp_path):
    spans = [Question(question_id=str(at), video=f"{at}.mp4", text="When?", gold="") for at in "12"]
    points = []
    for ratio in (1.0, None):
        run = tmp_path / str(ratio)
        write_run(run, spans, lambda _: "0-5", benchmark=SPANS)
        write_run(run, shape_questions(2), lambda one: one.gold, benchmark=SHAPES)
        for compat in (None, "official"):
            list(score_run(run, lambda _: None, compat=compat))
        points.append(({"answer.keep_ratio": ratio}, run))
    write_sweep(tmp_path, points, [SHAPES, SPANS])
    rows = json.loads((tmp_path / "sweep.json").read_text())["rows"]
    assert [one["value"] for one in rows] == [1.0, None, 1.0, None]  # golds of SPANS are kept
    write_sweep(tmp_path, points, [SHAPES, SPANS], compat="official")
    rows = json.loads((tmp_path / "sweep.json").read_text())["rows"]
    assert [(one["benchmark"], one["figure"]) for one in rows] == [(SHAPES, "accuracy")] * 2
