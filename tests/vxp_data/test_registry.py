"""Registries: a name finds its thing, ours or an installed package's, and a wrong one is told."""

import pytest

import vxp_data.registry
import vxp_model.registry
from support.distributions import install, offer
from vxp_data.errors import UserError
from vxp_data.registry import MEASURES, Registry

TABLES = [
    (module.__name__.removesuffix(".registry"), name, table)
    for module in (vxp_data.registry, vxp_model.registry)
    for name, table in vars(module).items()
    if isinstance(table, Registry)
]


def test_the_group_of_a_table_is_its_package_and_its_name():
    assert len(TABLES) == 13
    for package, name, table in TABLES:
        assert table.group == f"{package}.{name.lower()}"


@pytest.mark.parametrize(
    ("package", "name", "table"), TABLES, ids=[f"{package}.{name}" for package, name, _ in TABLES]
)
def test_an_entry_point_adds_to_every_table(tmp_path, monkeypatch, package, name, table):
    before = table.names()
    (tmp_path / "others.py").write_text("THING = 'of others'\n")
    group = f"[{package}.{name.lower()}]\nnew_one = others:THING\n"
    offer(monkeypatch, install(tmp_path, "others", group))
    assert table.names() == [*before, "new_one"]
    assert table.load("new_one") == "of others"


def test_a_name_of_ours_is_not_taken_over(tmp_path, monkeypatch):
    ours = MEASURES.load("centroid")
    (tmp_path / "others.py").write_text("THING = 'of others'\n")
    offer(monkeypatch, install(tmp_path, "o", "[vxp_data.measures]\ncentroid = others:THING\n"))
    assert MEASURES.names().count("centroid") == 1
    assert MEASURES.load("centroid") is ours


def test_a_package_that_an_entry_needs_is_named(tmp_path, monkeypatch):
    (tmp_path / "needing.py").write_text("import nobody_has_this\n")
    offer(monkeypatch, install(tmp_path, "n", "[vxp_data.measures]\nnew_one = needing:THING\n"))
    with pytest.raises(UserError, match=r"'new_one' needs the Python package 'nobody_has_this'"):
        MEASURES.load("new_one")
