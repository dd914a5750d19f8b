"""How a part lies in its file: small columns packed, vectors and images plain.

Vectors are noise to a compressor: packed with zstd they take as much room, and are read at a fifth
of the speed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from vxp_data.pipeline.run_dir.directory import make_folder
from vxp_data.storage.folder import File

PLAIN_COLUMNS: Final = ("mean", "embedding", "beside", "sheet")
"""Those that are not compressed."""
_PAGE_BYTES: Final = 1 << 20


def write_part(file: File, table: pa.Table) -> None:
    """Write one of a run's many parts, whole, in one row group."""
    write_groups(file, table.schema, [table])


def write_groups(file: File, schema: pa.Schema, groups: Iterable[pa.Table]) -> None:
    """Write a part, whole, with a row group a table.

    Its values come once, or few times: dictionaries of them, and the least and greatest of them,
    would hold a contact sheet four times.
    """
    make_folder(file)
    options: dict[str, Any] = {
        "compression": {path: "zstd" for path in _packed(schema)},
        "use_dictionary": False,
        "write_statistics": False,
        "data_page_size": _PAGE_BYTES,
    }
    with (
        file.folder.write_path(file.name) as path,
        pq.ParquetWriter(path, schema, **options) as writer,
    ):
        for table in groups:
            writer.write_table(table, row_group_size=max(1, len(table)))


def _packed(schema: pa.Schema) -> list[str]:
    """Return the paths of the columns that are compressed, as Parquet names them."""
    return [
        f"{field.name}.list.element" if pa.types.is_list(field.type) else field.name
        for field in schema
        if field.name not in PLAIN_COLUMNS
    ]
