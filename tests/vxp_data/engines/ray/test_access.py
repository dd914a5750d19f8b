"""Joining clusters of `ray start`: one that wants a token, one that does not, and what is none."""

from __future__ import annotations

import http.server
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.later import LATER
from support.ray_heads import environment, free_port, head
from vxp_data.errors import UserError

if LATER:
    from vxp_data.engines.ray.access import access_to

TOKEN = "0123456789abcdef" * 4
SHOWN = {"RAY_AUTH_MODE": "token"}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the address of a cluster that wants TOKEN."""
    home = tmp_path_factory.mktemp("guarded")
    env = environment(home, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=TOKEN)
    with head(env, "--include-dashboard=false") as address:
        yield address


@pytest.fixture(scope="module")
def unguarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the address of a cluster that wants no token."""
    with head(environment(tmp_path_factory.mktemp("open")), "--include-dashboard=false") as address:
        yield address


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a home without a token, in an environment without settings of Ray's."""
    for name in ("MODE", "TOKEN", "TOKEN_PATH"):
        monkeypatch.delenv(f"RAY_AUTH_{name}", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def put_token(file: Path, token: str = TOKEN) -> str:
    file.parent.mkdir(exist_ok=True)
    file.write_text(token)
    return str(file)


def test_the_token_that_is_found_is_shown_to_a_cluster_that_wants_one(
    guarded: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_token(home / ".ray" / "auth_token", f"{TOKEN}\n")  # as an editor leaves it
    assert access_to(guarded) == SHOWN
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    assert access_to(guarded) == SHOWN


def test_a_variable_goes_before_a_file_that_is_named_and_that_before_the_usual_one(
    guarded: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_token(home / ".ray" / "auth_token", "e" * 64)
    with pytest.raises(UserError, match=r"another token than the one of ~/\.ray/auth_token\. Set"):
        access_to(guarded)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", put_token(home / "token"))
    assert access_to(guarded) == SHOWN
    put_token(home / "token", "f" * 64)
    with pytest.raises(UserError, match=r"than the one of .*/token \(RAY_AUTH_TOKEN_PATH\)"):
        access_to(guarded)
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    assert access_to(guarded) == SHOWN


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, r"wants a token, and there is none here: .*~/\.ray/auth_token does not exist"),
        ({"RAY_AUTH_MODE": "token"}, "wants a token, and there is none here"),
        (
            {"RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN": TOKEN},
            "RAY_AUTH_MODE is 'disabled' here",
        ),
        ({"RAY_AUTH_TOKEN": "f" * 64}, "another token than the one of RAY_AUTH_TOKEN"),
        ({"RAY_AUTH_TOKEN_PATH": "/nowhere"}, "names /nowhere, which cannot be read or is empty"),
    ],
)
def test_who_is_refused_is_told_whether_mode_or_token_is_wrong_and_at_once(
    settings: dict[str, str], message: str, guarded: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    begun_s = time.monotonic()
    with pytest.raises(UserError, match=message):
        access_to(guarded)
    assert time.monotonic() - begun_s < 2


def test_a_cluster_without_a_token_takes_everybody(
    unguarded: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert access_to(unguarded) == {}
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    with pytest.raises(UserError, match=r"wants none\. Unset RAY_AUTH_MODE"):
        access_to(unguarded)
    put_token(home / ".ray" / "auth_token")
    assert access_to(unguarded) == {}


def test_a_wrong_address_is_told_by_what_is_there() -> None:
    nothing = f"127.0.0.1:{free_port()}"
    with pytest.raises(UserError, match=f"no Ray cluster at '{nothing}': nothing answers at"):
        access_to(nothing)
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever).start()
        with pytest.raises(UserError, match="is not the head of a Ray cluster"):
            access_to(f"127.0.0.1:{server.server_port}")
        server.shutdown()


def test_auto_means_the_head_that_is_named_or_was_started_here_last(
    guarded: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(home))
    assert access_to("auto") == {}  # Ray says that there is none
    (home / "ray").mkdir()
    (home / "ray" / "ray_current_cluster").write_text(guarded)
    with pytest.raises(UserError, match="'auto' wants a token"):
        access_to("auto")
    (home / "ray" / "ray_current_cluster").write_text(f"127.0.0.1:{free_port()}")
    assert access_to("auto") == {}  # it has ended; Ray looks for others
    monkeypatch.setenv("RAY_ADDRESS", guarded)
    with pytest.raises(UserError, match="'auto' wants a token"):
        access_to("auto")


JOIN = """
import os, sys
import ray
from vxp_data.engines.ray.session import ray_session
from vxp_data.settings.cluster import ClusterConfig
def answer():
    return "works"
for address in sys.argv[1:]:
    with ray_session(ClusterConfig(address=address), 0):
        print(ray.get(ray.remote(answer).remote()), os.environ.get("RAY_AUTH_MODE"))
"""


def test_one_process_joins_one_cluster_after_the_other_and_keeps_its_settings(
    guarded: str, unguarded: str, home: Path
) -> None:
    put_token(home / ".ray" / "auth_token")
    command = [sys.executable, "-c", JOIN, unguarded, guarded, unguarded, guarded]
    done = subprocess.run(
        command, env=environment(home), capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["works None"] * 4
