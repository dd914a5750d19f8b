"""What a decoding child cannot do: reach a network, another process, or write a file.

Each mechanism is tried alone, since a machine may have only one of them.
"""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from vxp_data.decoders import isolation
from vxp_data.decoders.child_process import child_isolation
from vxp_data.decoders.isolation import MECHANISMS, isolate
from vxp_data.decoders.sandbox import Sandbox


def connect(address: tuple[str, int] | str) -> str:
    """Connect to a socket; give 'connected' or the error's name."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    try:
        with socket.socket(family) as client:
            client.settimeout(5)
            client.connect(address)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "connected"


def send_datagram(port: int) -> str:
    try:
        with socket.socket(type=socket.SOCK_DGRAM) as client:
            client.sendto(b"x", ("127.0.0.1", port))
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "sent"


def write_file(path: str) -> str:
    try:
        Path(path).write_bytes(b"x")
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "written"


def remove_file(path: str) -> str:
    try:
        Path(path).unlink()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "removed"


def scratch_folder() -> str:
    import tempfile

    return tempfile.gettempdir()


def run_program(program: str) -> str:
    try:
        subprocess.run([program], check=True)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "ran"


def open_memory(pid: int) -> str:
    try:
        with Path(f"/proc/{pid}/mem").open("rb"):
            pass
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "opened"


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


@pytest.fixture(scope="module", params=[(), *((name,) for name in MECHANISMS)], ids=str)
def child(request: pytest.FixtureRequest) -> Iterator[tuple[tuple[str, ...], Sandbox]]:
    sandbox = Sandbox(1 << 28, mechanisms=request.param)
    holds = sandbox.call(child_isolation, timeout_s=60).value
    if request.param and holds.refused:
        sandbox.close()
        pytest.skip(f"not on this machine: {holds.refused[0]}")
    yield request.param or tuple(MECHANISMS), sandbox
    sandbox.close()


def test_a_child_reaches_no_local_tcp_socket_by_any_mechanism(child, port):
    assert connect(("127.0.0.1", port)) == "connected"  # the same call, outside
    _, sandbox = child
    assert sandbox.call(child_isolation, timeout_s=60).value.network
    got = sandbox.call(connect, ("127.0.0.1", port), timeout_s=60).value
    assert got in ("ENETUNREACH", "EACCES")


def test_a_child_sends_no_datagram(child, port):
    holding, sandbox = child
    if holding == ("landlock",):
        pytest.skip("Landlock knows TCP only")
    assert send_datagram(port) == "sent"
    assert sandbox.call(send_datagram, port, timeout_s=60).value in ("ENETUNREACH", "EACCES")


def test_a_child_reaches_no_socket_file(child, tmp_path):
    holding, sandbox = child
    if "seccomp" not in holding:
        pytest.skip("a socket file is no network: the filter of calls is what refuses it")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        server.listen()
        assert connect(str(tmp_path / "socket")) == "connected"
        assert sandbox.call(connect, str(tmp_path / "socket"), timeout_s=60).value == "EACCES"


def test_a_child_writes_and_removes_files_in_its_scratch_folder_only(child, tmp_path):
    holding, sandbox = child
    if "landlock" not in holding:
        pytest.skip("Landlock is what refuses it")
    (tmp_path / "there").touch()
    for name in ("there", "new"):
        assert sandbox.call(write_file, str(tmp_path / name), timeout_s=60).value == "EACCES"
    assert sandbox.call(remove_file, str(tmp_path / "there"), timeout_s=60).value == "EACCES"
    mine = str(Path(sandbox.call(scratch_folder, timeout_s=60).value) / f"test-{os.getpid()}")
    assert sandbox.call(write_file, mine, timeout_s=60).value == "written"
    assert sandbox.call(remove_file, mine, timeout_s=60).value == "removed"
    assert sandbox.call(write_file, "/dev/null", timeout_s=60).value == "written"


def test_a_child_runs_no_program(child):
    holding, sandbox = child
    if not {"landlock", "seccomp"} & set(holding):
        pytest.skip("a namespace does not refuse it")
    assert run_program("/bin/true") == "ran"
    assert sandbox.call(run_program, "/bin/true", timeout_s=60).value == "EACCES"


def test_a_child_does_not_reach_into_its_parent(child):
    holding, sandbox = child
    if holding == ("seccomp",):
        pytest.skip("opening a file is no call that a filter can judge")
    assert open_memory(os.getpid()) == "opened"
    assert sandbox.call(open_memory, os.getpid(), timeout_s=60).value in ("EACCES", "EPERM")


def test_with_all_mechanisms_nothing_is_refused_here_or_it_is_said():
    sandbox = Sandbox(1 << 28)
    holds = sandbox.call(child_isolation, timeout_s=60).value
    sandbox.close()
    assert len(holds.network) + len(holds.refused) >= len(MECHANISMS)
    assert str(holds).startswith("no network (")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_a_user_without_rights_gives_them_up_as_well(port):
    code = (
        "import encodings.idna, os, socket\n"  # before: nobody reads root's files
        "from vxp_data.decoders.isolation import isolate\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "print(isolate())\n"
        f"try: socket.create_connection(('127.0.0.1', {port}))\n"
        "except OSError as error: print(error.strerror)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    holds, got = done.stdout.splitlines()
    assert holds.startswith("no network (")
    assert got in ("Network is unreachable", "Permission denied")


def test_what_the_kernel_does_not_grant_is_said_and_the_rest_still_holds(monkeypatch):
    def refuse(_: Path | None) -> tuple[bool, bool]:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    mechanisms = {
        "network namespace": refuse,
        "landlock": refuse,
        "seccomp": lambda _: (True, False),
    }
    monkeypatch.setattr(isolation, "MECHANISMS", mechanisms)
    held = isolate()
    assert str(held) == "no network (seccomp); writing files"
    refused = "Operation not permitted"
    assert held.refused == (f"network namespace: {refused}", f"landlock: {refused}")
    monkeypatch.setattr(isolation, "MECHANISMS", {"landlock": refuse})
    assert str(isolate()) == "network; writing files"
