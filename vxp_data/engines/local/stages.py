"""The engine's stages in the one form that worker processes run: tables in, tables out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa

from vxp_data.engines.base import Decode, Embed, MapTable
from vxp_data.engines.crash_ledger import Attempt

Later = Callable[[], list[pa.Table]]
"""Gives a task's only result, in a thread of its own: its worker takes the next task meanwhile."""
Results = Iterator[tuple[Any, list[pa.Table]] | Later]
"""Values and the tables that go with them."""
Stage = Callable[[Any, list[pa.Table], Attempt], Results]
"""Takes a task's value and tables."""


def decode_stage(decode: Decode) -> Stage:
    """Return a stage from files to clips or reports, a table each."""

    def run(_: Any, tables: list[pa.Table], attempt: Attempt) -> Results:
        for table in decode(tables[0], attempt):
            yield table["clip"].to_pylist(), [table]

    return run


def embed_stage(start_encoder: Callable[[], Embed]) -> Stage:
    """Load an encoder; return a stage from clips to their reports."""
    embed = start_encoder()

    def run(_: Any, tables: list[pa.Table], attempt: Attempt) -> Results:
        store = embed(pa.concat_tables(tables), attempt)
        yield lambda: [store()]

    return run


def call_stage(function: Callable[[Any], Any]) -> Stage:
    """Return a stage that calls a function with the task's value."""

    def run(value: Any, _: list[pa.Table], __: Attempt) -> Results:
        yield function(value), []

    return run


def table_stage(start: Callable[[], MapTable]) -> Stage:
    """Start what maps tables; return a stage that does."""
    map_table = start()

    def run(_: Any, tables: list[pa.Table], __: Attempt) -> Results:
        yield None, [map_table(tables[0])]

    return run
