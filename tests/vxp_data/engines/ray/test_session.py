"""The token of a local Ray: one for itself, and none left behind."""

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


@pytest.mark.parametrize("how", ["not there", "not known", "a file in its place", "writable"])
def test_a_local_ray_gets_a_token_of_its_own_where_there_is_none(how, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    homes = {"not there": "/proc/1/nowhere", "a file in its place": str(tmp_path / "file")}
    monkeypatch.setenv("HOME", homes.get(how, str(tmp_path)))
    if how == "not known":
        monkeypatch.setattr(Path, "expanduser", unknown)
    token = session.own_token()["RAY_AUTH_TOKEN"]
    assert re.fullmatch("[0-9a-f]{64}", token)
    assert session.own_token()["RAY_AUTH_TOKEN"] != token
    assert not (tmp_path / ".ray").exists()


def unknown(_):
    raise RuntimeError("Could not determine home directory.")


def test_ray_keeps_to_its_own_way_where_there_is_one(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert session.own_token() == {}
    monkeypatch.delenv("RAY_AUTH_MODE")
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("f" * 64)
    assert session.own_token() == {}
