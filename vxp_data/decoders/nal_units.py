"""The units of H.264 and HEVC packets, and the numbers in their headers (ITU-T H.264, 7.3, 9.1)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

HEAD_BYTES: Final = 4096
"""What is looked at of a unit: more than any header takes; a damaged one may have megabytes."""
_START_CODE: Final = b"\0\0\1"
_LONGEST_CODE: Final = 32


def plain(payload: bytes) -> bytes:
    """Return a unit's payload without the bytes that keep start codes out of it."""
    return payload.replace(b"\0\0\3", b"\0\0")


class Bits:
    """Reads the bits of a NAL unit's plain payload; an IndexError where it ends."""

    def __init__(self, plain: bytes) -> None:
        self._value = int.from_bytes(plain, "big")
        self._left = 8 * len(plain)

    def u(self, width: int) -> int:
        """Read an unsigned number of so many bits."""
        self._left -= width
        if self._left < 0:
            raise IndexError
        return self._value >> self._left & (1 << width) - 1

    def ue(self) -> int:
        """Read an unsigned Exp-Golomb number."""
        zeros = 0
        while not self.u(1):
            zeros += 1
            if zeros > _LONGEST_CODE:
                raise IndexError
        return (1 << zeros) - 1 + self.u(zeros)

    def se(self) -> int:
        """Read a signed Exp-Golomb number."""
        code = self.ue()
        return (code + 1) // 2 if code % 2 else -(code // 2)


def units(packet: bytes | memoryview, length_bytes: int) -> Iterator[bytes]:
    """Return the beginning of each NAL unit of a packet, `HEAD_BYTES` of it at most.

    Args:
        packet: of a stream, or parameter sets.
        length_bytes: how many bytes hold each unit's length; 0 where start codes part them.
    """
    return _with_lengths(packet, length_bytes) if length_bytes else _with_start_codes(packet)


def _with_lengths(packet: bytes | memoryview, length_bytes: int) -> Iterator[bytes]:
    start = length_bytes
    while start < len(packet):
        num_bytes = int.from_bytes(packet[start - length_bytes : start], "big")
        if num_bytes == 0:  # images that were not fetched are zeros
            return
        yield bytes(packet[start : start + min(num_bytes, HEAD_BYTES)])
        start += num_bytes + length_bytes


def _with_start_codes(packet: bytes | memoryview) -> Iterator[bytes]:
    data = bytes(packet)
    start = data.find(_START_CODE) + len(_START_CODE)
    while len(_START_CODE) <= start < len(data):
        # No further: the end of a slice may be far, and nobody asks for it.
        stop = data.find(_START_CODE, start, start + HEAD_BYTES)
        yield data[start : stop if stop >= 0 else start + HEAD_BYTES]
        start = data.find(_START_CODE, start) + len(_START_CODE)
