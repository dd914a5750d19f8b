"""Tables that travel between processes in anonymous shared memory.

Whoever holds the descriptor can read the table; nothing is left behind, whoever dies.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import reduction
from multiprocessing.connection import Connection
from typing import Any, Final, TypeAlias

import pyarrow as pa

_LEAST_BYTES: Final = 1 << 16
"""Smaller tables travel in the message itself."""


@dataclass(slots=True)
class SharedTable:
    """A table in shared memory, which lives as long as its descriptor is open somewhere."""

    fd: int
    num_bytes: int

    def read(self) -> pa.Table:
        """Return the table without a copy; the memory stays as long as the table does."""
        view = mmap.mmap(self.fd, self.num_bytes, prot=mmap.PROT_READ)
        with pa.ipc.open_stream(pa.py_buffer(view)) as stream:
            return stream.read_all()

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.fd)


Parcel: TypeAlias = "pa.Table | SharedTable"
"""A table on its way."""


def send_message(
    connection: Connection, pid: int, message: Any, tables: Sequence[Parcel] = ()
) -> None:
    """Send a message, and tables with it.

    Args:
        connection: one end of a duplex pipe.
        pid: of the process at the other end.
        message: can be pickled.
        tables: stay the sender's.
    """
    shared = [_shared(table) for table in tables]
    small = [None if there else table for there, table in zip(shared, tables, strict=True)]
    connection.send((message, small, [there and there.num_bytes for there in shared]))
    for given, there in zip(tables, shared, strict=True):
        if there is not None:
            reduction.send_handle(connection, there.fd, pid)
            if there is not given:
                there.close()


def receive_message(connection: Connection) -> tuple[Any, list[Parcel]]:
    """Return the next message and its tables.

    Raises:
        EOFError: the other end is closed.
        OSError: the other end is closed in the middle of a message.
    """
    message, small, sizes = connection.recv()
    tables: list[Parcel] = []
    for table, num_bytes in zip(small, sizes, strict=True):
        if num_bytes is None:
            tables.append(table)
        else:
            tables.append(SharedTable(reduction.recv_handle(connection), num_bytes))
    return message, tables


def whole(parcel: Parcel) -> pa.Table:
    """Return a table that has come, and close what it came in."""
    if not isinstance(parcel, SharedTable):
        return parcel
    table = parcel.read()
    parcel.close()
    return table


def _shared(table: Parcel) -> SharedTable | None:
    """Put a table into shared memory, unless it is small."""
    if isinstance(table, SharedTable):
        return table
    if table.nbytes < _LEAST_BYTES:
        return None
    fd = os.memfd_create("vxp-table")
    with (
        os.fdopen(fd, "wb", closefd=False) as file,
        pa.ipc.new_stream(file, table.schema) as stream,
    ):
        stream.write_table(table)
        stream.close()
        num_bytes = file.tell()
    return SharedTable(fd, num_bytes)
