"""A local Ray on a machine without a home folder to write to."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from support.later import LATER

if LATER:
    from vxp_data.engines.ray import session


@pytest.fixture(autouse=True)
def _nothing_said(monkeypatch):
    for name in ("MODE", "TOKEN", "TOKEN_PATH"):
        monkeypatch.delenv(f"RAY_AUTH_{name}", raising=False)


@pytest.mark.parametrize("how", ["not there", "not known", "a file in its place"])
def test_ray_gets_a_token_of_its_own_where_it_cannot_store_one(how, tmp_path, monkeypatch):
    if how == "not known":
        monkeypatch.setattr(Path, "home", unknown)
    else:
        (tmp_path / "file").touch()
        home = "/proc/1/nowhere" if how == "not there" else str(tmp_path / "file")
        monkeypatch.setenv("HOME", home)
    token = session.own_token()["RAY_AUTH_TOKEN"]
    assert re.fullmatch("[0-9a-f]{64}", token)
    assert session.own_token()["RAY_AUTH_TOKEN"] != token


def unknown():
    raise RuntimeError("Could not determine home directory.")


def test_ray_keeps_to_its_own_way_where_it_can(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert session.own_token() == {}
    monkeypatch.setenv("HOME", "/proc/1/nowhere")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert session.own_token() == {}
