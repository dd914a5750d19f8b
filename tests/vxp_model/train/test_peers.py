"""A process that fails or is gone ends the others, with its message; one that is slow does not."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from support.peer_process import HANG_S
from support.repo import ROOT

SOON_S = 20.0
GONE = "ended the training: it is gone without a word: killed"


def start(folder: Path, rank: int, size: int, action: str) -> subprocess.Popen[str]:
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    return subprocess.Popen(
        [sys.executable, "-m", "support.peer_process", str(folder), str(rank), str(size), action],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=os.environ | {"PYTHONPATH": paths, "MASTER_ADDR": "127.0.0.1"},
    )  # fmt: skip


def ends(folder: Path, actions: Sequence[str]) -> list[tuple[int, str]]:
    """Return how processes that do so end and what they say; all within 20 s."""
    processes = [start(folder, rank, len(actions), own) for rank, own in enumerate(actions)]
    try:
        began_s = time.monotonic()
        said = [process.communicate(timeout=HANG_S)[0] for process in processes]
        assert time.monotonic() - began_s < SOON_S
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, text) for process, text in zip(processes, said, strict=True)]


@pytest.mark.parametrize(
    ("actions", "rank", "code", "message"),
    [
        (["hang", "user_error"], 1, 2, "clip 'a' is broken."),
        (["user_error", "hang", "hang"], 0, 2, "clip 'a' is broken."),
        (["hang", "bug"], 1, 1, "ValueError: three"),
        (["hang", "killed", "hang"], 1, 1, "it is gone without a word: killed"),
        (["killed", "hang", "hang"], 0, 1, "it is gone without a word: killed"),
        (["broken exchange", "killed", "broken exchange"], 1, 1, "it is gone without a word"),
        (["broken exchange", "user_error"], 1, 2, "clip 'a' is broken."),
    ],
)
def test_the_others_end_with_the_message_of_who_failed(
    actions: list[str], rank: int, code: int, message: str, tmp_path: Path
) -> None:
    found = ends(tmp_path, actions)
    who = f"process {rank} ({socket.gethostname()}) ended the training: {message}"
    for other, (returned, said) in enumerate(found):
        if other == rank:
            assert returned == (-signal.SIGKILL if actions[rank] == "killed" else code)
            continue
        assert returned == code, said
        assert f"error: process {other}: {who}" in said
        assert "Connection closed" not in said
        assert "Traceback" not in said


def test_an_exchange_that_breaks_where_nobody_failed_is_told_as_it_is(tmp_path: Path) -> None:
    (first, said), (second, heard) = ends(tmp_path, ["broken exchange", "hang"])
    assert (first, second) == (1, 1)
    assert "RuntimeError: Connection closed by peer" in said
    assert "process 0" in heard
    assert "RuntimeError: Connection closed by peer" in heard


@pytest.mark.parametrize("action", ["done", "stop"])
def test_who_is_done_or_stops_when_asked_ends_nobody(action: str, tmp_path: Path) -> None:
    code = {"done": 0, "stop": 130}[action]
    found = ends(tmp_path, [action, "slow", "slow", action])
    assert [returned for returned, _ in found] == [code, 0, 0, code]
    assert not any("ended the training" in said for _, said in found)


def test_who_does_not_move_for_a_while_ends_nobody(tmp_path: Path) -> None:
    asleep = start(tmp_path, 1, 2, "stopped for a while")
    other = start(tmp_path, 0, 2, "hang")
    deadline_s = time.monotonic() + SOON_S
    while psutil.Process(asleep.pid).status() != psutil.STATUS_STOPPED:
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    with pytest.raises(subprocess.TimeoutExpired):
        other.wait(3)
    asleep.send_signal(signal.SIGCONT)
    assert asleep.communicate(timeout=SOON_S)[0] == ""
    assert asleep.returncode == 0
    other.kill()
    assert other.communicate()[0] == ""


def test_who_is_no_process_of_the_training_is_not_let_in(tmp_path: Path) -> None:
    first = start(tmp_path, 0, 2, "slow")
    second = start(tmp_path, 1, 2, "slow")
    deadline_s = time.monotonic() + SOON_S
    while not (address := next(tmp_path.glob("vxp_model*"), None)):
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
    port = json.loads(address.read_text())["port"]
    with socket.create_connection(("127.0.0.1", port), timeout=5) as stranger:
        stranger.sendall(b'{"token": "guessed", "rank": 1, "host": "h"}\n')
        assert stranger.recv(100) == b""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\n")
        assert stranger.recv(100) == b""
    said = [process.communicate(timeout=SOON_S)[0] for process in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0]
    assert said == ["", ""]
