"""Take rights from this process that no decoder needs: network, other processes, writing files.

Each mechanism is tried, and what the kernel grants adds up; `Isolation` says what holds. Only the
standard library is imported here: a user namespace can be entered only by a process with one
thread, and importing numpy starts more.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_CLONE_NEWUSER: Final = 0x10000000
_CLONE_NEWNET: Final = 0x40000000

_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_SET_SECCOMP: Final = 22
_SECCOMP_MODE_FILTER: Final = 2
_SECCOMP_ALLOW: Final = 0x7FFF0000
_SECCOMP_ERRNO: Final = 0x00050000
_BPF_LOAD_WORD: Final = 0x20
_BPF_JUMP_EQUAL: Final = 0x15
_BPF_JUMP_GREATER_EQUAL: Final = 0x35
_BPF_RETURN: Final = 0x06
_X32_SYSCALLS: Final = 0x40000000

_CAPABILITY_VERSION_3: Final = 0x20080522
_KEPT_CAPABILITIES: Final = 1 << 2
"""CAP_DAC_READ_SEARCH: root's children read what root reads, whoever owns it."""

_LANDLOCK_CREATE: Final = 444
_LANDLOCK_ADD_RULE: Final = 445
_LANDLOCK_RESTRICT: Final = 446
_LANDLOCK_VERSION: Final = 1
_LANDLOCK_PATH_BENEATH: Final = 1
_LANDLOCK_WRITE_FILE: Final = 1 << 1
_LANDLOCK_NO_WRITING: Final = 1 | _LANDLOCK_WRITE_FILE | sum(1 << bit for bit in range(4, 13))
"""Of ABI 1: execute, write, remove and make files, folders, links, devices, sockets, pipes."""
_LANDLOCK_REFER: Final = 1 << 13
_LANDLOCK_TRUNCATE: Final = 1 << 14
_LANDLOCK_TCP: Final = 0b11
_LANDLOCK_SCOPES: Final = 0b11
"""No abstract Unix sockets and no signals of processes outside."""
_LANDLOCK_SCRATCH: Final = _LANDLOCK_WRITE_FILE | sum(1 << bit for bit in (4, 5, 7, 8))
"""Write, remove and make files and folders."""
_WRITABLE_DEVICES: Final = ("null", "nvidia*", "nvidia-caps/*", "dri/*")
"""Below /dev: decoders on a GPU talk to its driver through these."""

# Calls that open sockets, reach into other processes, or lead out of the above; x86-64, then Arm64.
_REFUSED_CALLS: Final = {
    "x86_64": (0xC000003E, (41, 42, 49, 101, 310, 311, 308, 272, 165, 321, 298, 59, 322, 425, 438)),
    "aarch64": (
        0xC00000B7,
        (198, 203, 200, 117, 270, 271, 268, 97, 40, 280, 241, 221, 281, 425, 438),
    ),
}
"""AUDIT_ARCH, and: socket, connect, bind, ptrace, process_vm_readv, process_vm_writev, setns,
unshare, mount, bpf, perf_event_open, execve, execveat, io_uring_setup, pidfd_getfd."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Isolation:
    """What a child process has given up, and by which mechanism."""

    network: tuple[str, ...]
    """Mechanisms that keep it off the network; none: it has its parent's rights."""
    files: tuple[str, ...]
    """Mechanisms that keep it from writing files, but for the scratch folder's."""
    refused: tuple[str, ...]
    """Mechanisms that are not to be had here, each with the kernel's words."""

    def __str__(self) -> str:
        """Return what was given up as one line."""
        network = f"no network ({', '.join(self.network)})" if self.network else "network"
        files = f"no writing of files ({', '.join(self.files)})" if self.files else "writing files"
        return f"{network}; {files}"


def isolate(mechanisms: Sequence[str] = (), *, scratch: Path | None = None) -> Isolation:
    """Give up network, other processes and writing files, for this process and for good.

    Files, pipes and memory that are open already stay usable.

    Args:
        mechanisms: names in MECHANISMS; () for all. Tests take them one by one.
        scratch: a folder below which files may be written; None for no such folder.
    """
    network: list[str] = []
    files: list[str] = []
    refused: list[str] = []
    for name in mechanisms or MECHANISMS:
        try:
            has_network, has_files = MECHANISMS[name](scratch)
        except OSError as error:
            refused.append(f"{name}: {error.strerror or error}")
            continue
        if has_network:
            network.append(name)
        if has_files:
            files.append(name)
    return Isolation(network=tuple(network), files=tuple(files), refused=tuple(refused))


def _enter_network_namespace(_: Path | None) -> tuple[bool, bool]:
    """Enter a network without interfaces; as root, without a user namespace, to stay root.

    Raises:
        OSError: neither is allowed (often in containers), or the process has several threads.
    """
    libc = _libc()
    if libc.unshare(_CLONE_NEWNET) != 0:
        _check(libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET))
    _drop_capabilities(libc)
    return True, False


def _drop_capabilities(libc: Any) -> None:
    """Keep one capability at most: with CAP_SYS_ADMIN one could enter the old network again."""
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    held = ctypes.create_string_buffer(24)  # effective, permitted, inheritable; low words, high
    _check(libc.capget(header, held))
    _, permitted, *_ = struct.unpack("=6I", held)
    kept = permitted & _KEPT_CAPABILITIES
    _check(libc.capset(header, struct.pack("=6I", kept, kept, 0, 0, 0, 0)))


def _restrict_by_landlock(scratch: Path | None) -> tuple[bool, bool]:
    """Refuse to write but to a GPU's devices and in `scratch`; refuse TCP (ABI 4, Linux 6.7).

    Raises:
        OSError: the kernel has no Landlock, or it is switched off.
    """
    libc = _libc()
    abi = _check(libc.syscall(_LANDLOCK_CREATE, None, ctypes.c_size_t(0), _LANDLOCK_VERSION))
    writing = _LANDLOCK_NO_WRITING
    writing |= (_LANDLOCK_REFER if abi >= 2 else 0) | (_LANDLOCK_TRUNCATE if abi >= 3 else 0)
    attributes = struct.pack("=QQQ", writing, _LANDLOCK_TCP, _LANDLOCK_SCOPES)
    num_bytes = 24 if abi >= 6 else 16 if abi >= 4 else 8
    ruleset = _check(
        libc.syscall(_LANDLOCK_CREATE, attributes[:num_bytes], ctypes.c_size_t(num_bytes), 0)
    )
    try:
        for pattern in _WRITABLE_DEVICES:
            for device in Path("/dev").glob(pattern):
                if not device.is_dir():
                    _allow(libc, ruleset, device, _LANDLOCK_WRITE_FILE)
        if scratch is not None:
            truncate = _LANDLOCK_TRUNCATE if abi >= 3 else 0
            _allow(libc, ruleset, scratch, _LANDLOCK_SCRATCH | truncate)
        _check(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        _check(libc.syscall(_LANDLOCK_RESTRICT, ruleset, 0))
    finally:
        os.close(ruleset)
    return abi >= 4, True


def _allow(libc: Any, ruleset: int, path: Path, rights: int) -> None:
    path_fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        rule = struct.pack("=Qi", rights, path_fd)
        _check(libc.syscall(_LANDLOCK_ADD_RULE, ruleset, _LANDLOCK_PATH_BENEATH, rule, 0))
    finally:
        os.close(path_fd)


def _filter_calls(_: Path | None) -> tuple[bool, bool]:
    """Make the kernel refuse (EACCES) to open sockets, trace processes or run programs.

    Raises:
        OSError: another processor than x86-64 and Arm64, or a kernel without seccomp.
    """
    if platform.machine() not in _REFUSED_CALLS:
        raise OSError(errno.ENOSYS, f"not written for {platform.machine()}")
    architecture, calls = _REFUSED_CALLS[platform.machine()]
    refuse = _SECCOMP_ERRNO | errno.EACCES
    last = len(calls) + 1  # instructions from the first comparison to the final two
    program = [
        (_BPF_LOAD_WORD, 0, 0, 4),  # seccomp_data.arch
        (_BPF_JUMP_EQUAL, 0, last + 2, architecture),  # another: 32-bit calls have other numbers
        (_BPF_LOAD_WORD, 0, 0, 0),  # seccomp_data.nr
        (_BPF_JUMP_GREATER_EQUAL, last, 0, _X32_SYSCALLS),
        *((_BPF_JUMP_EQUAL, last - 1 - i, 0, call) for i, call in enumerate(calls)),
        (_BPF_RETURN, 0, 0, _SECCOMP_ALLOW),
        (_BPF_RETURN, 0, 0, refuse),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in program))
    # struct sock_fprog: a length and a pointer, as the machine aligns them
    filter_of = struct.pack("@HP", len(program), ctypes.addressof(code))
    libc = _libc()
    _check(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    _check(libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, filter_of, 0, 0))
    return True, False


MECHANISMS: Final[dict[str, Callable[[Path | None], tuple[bool, bool]]]] = {
    "network namespace": _enter_network_namespace,
    "landlock": _restrict_by_landlock,
    "seccomp": _filter_calls,
}
"""In the order in which they must come: each forbids what those before it need."""


def _libc() -> Any:
    if sys.platform != "linux":
        raise OSError(errno.ENOSYS, f"not written for {sys.platform}")
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
