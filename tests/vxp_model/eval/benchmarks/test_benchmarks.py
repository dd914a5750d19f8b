"""Benchmarks: what every entry of the registry keeps, shown with one that a package offers."""

import json

import pytest

from support.benchmark_contract import check_benchmark
from support.benchmark_files import WRITERS
from support.third_party import install_third_party
from vxp_data.errors import UserError
from vxp_model.eval.benchmarks.base import Prompt
from vxp_model.registry import BENCHMARKS


def write_colours(root):
    rows = [
        {"video": "a.mp4", "options": ["red", "blue"], "answer": "blue"},
        {"video": "b/c.mp4", "options": ["red", "blue", "green"], "answer": "red"},
    ]
    (root / "colours.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


EXAMPLES = {"colours": write_colours, **WRITERS}
"""What writes a few invented questions in a benchmark's own layout; a new one needs an entry."""


@pytest.fixture
def third_party(tmp_path, monkeypatch):
    install_third_party(tmp_path / "installed", monkeypatch)


@pytest.mark.usefixtures("third_party")
def test_every_benchmark_keeps_what_the_protocol_says(tmp_path):
    assert "colours" in BENCHMARKS.names()
    for name in BENCHMARKS.names():
        root = tmp_path / name
        root.mkdir()
        EXAMPLES[name](root)
        benchmark = BENCHMARKS.load(name)()
        assert benchmark.name == name
        check_benchmark(benchmark, root)


@pytest.mark.usefixtures("third_party")
def test_an_unknown_benchmark_is_answered_with_the_nearest():
    with pytest.raises(UserError, match=r"unknown benchmark 'colors'. Did you mean 'colours'"):
        BENCHMARKS.require("colors")


def with_other(method, function):
    """Return the benchmark `colours` with one method of another kind."""
    benchmark = BENCHMARKS.load("colours")
    return type("Other", (benchmark,), {method: function})()


@pytest.mark.usefixtures("third_party")
@pytest.mark.parametrize(
    ("method", "function"),
    [
        ("questions", lambda *_: iter(())),
        ("prompt", lambda *_: Prompt(text="What?")),
        ("parse", lambda *_: "A"),  # every reply is an answer
        ("parse", lambda *given: given[-1][0]),  # raises where there is none
        ("score", lambda *_: 1.0),
        ("score", lambda _, question, parsed: 100.0 * (parsed == question.gold)),
        ("summarise", lambda *_: []),
    ],
)
def test_the_contract_refuses_a_benchmark_whose(tmp_path, method, function):
    write_colours(tmp_path)
    with pytest.raises((AssertionError, IndexError)):
        check_benchmark(with_other(method, function), tmp_path)
