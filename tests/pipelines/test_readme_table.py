"""The tables of docs/ that are made of records and registries say what these say."""

from __future__ import annotations

import benchmark_table
import filter_table
import pytest
import readme_table

from vxp_data.registry import FILTERS
from vxp_model.registry import BENCHMARKS


def record(**changed: object) -> dict[str, object]:
    machine = {"cpu": "CPU", "cores": 2, "load_average_1_min": 0.5}
    return {
        "name": "new",
        "command": "python pipelines/bench/new.py --note it was | busy",
        "machine": machine,
        "figures": {"rows": 3, "good": True, "words": "x", "seconds": 1.5},
        **changed,
    }


def test_the_page_agrees_with_the_records() -> None:
    written = readme_table.written(readme_table.PAGE.read_text(encoding="utf-8"))
    made = readme_table.table(readme_table.RUNS)
    assert len(written) > 10
    stale = [line for line in written if line not in made]
    assert not stale, "run `make readme-table`:\n" + "\n".join(stale)


def test_the_page_agrees_with_the_registry_of_filters() -> None:
    page = filter_table.PAGE.read_text(encoding="utf-8")
    written = readme_table.written(page, filter_table.BEGIN)
    assert written == filter_table.table(), "run `make readme-table`"
    named = {line.split("`")[1] for line in written[2:]}
    assert named == set(FILTERS.names())


def test_the_page_agrees_with_the_registry_of_benchmarks() -> None:
    page = benchmark_table.PAGE.read_text(encoding="utf-8")
    written = readme_table.written(page, benchmark_table.BEGIN)
    assert written == benchmark_table.table(), "run `make readme-table`"
    named = {line.split("`")[1] for line in written[2:]}
    assert named == set(BENCHMARKS.names())


def test_a_record_gives_a_row() -> None:
    assert readme_table.row(record()) == (
        "| [new](../manifests/runs/new.json) | `python pipelines/bench/new.py` | "
        "2 x CPU, load 0.5 | not noted | rows 3, seconds 1.5 |"
    )


def test_its_numbers_are_the_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readme_table, "NUMBERS", {"new": "{rows:,} rows, {deep[x]} deep"})
    row = readme_table.row(record(figures={"rows": 4000, "deep": {"x": 7}}, wall_s=130.0))
    assert row.endswith("| 2 min | 4,000 rows, 7 deep |")


def test_a_gpu_is_named() -> None:
    facts = {"cpu": "CPU", "cores": 16, "load_average_1_min": 1.0, "gpu": ["H100"]}
    assert readme_table.machine(facts) == "H100, 16 x CPU, load 1.0"


def test_the_table_is_replaced_in_its_place() -> None:
    text = f"a\n{readme_table.BEGIN}\nold\n{readme_table.END}\nb\n"
    new = readme_table.with_table(text, ["| x |"])
    assert readme_table.written(new) == ["| x |"]
    assert new.startswith("a\n")
    assert new.endswith(f"{readme_table.END}\nb\n")
    with pytest.raises(ValueError, match="no place"):
        readme_table.with_table("nothing", [])
