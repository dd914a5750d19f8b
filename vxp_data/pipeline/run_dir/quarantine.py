"""What quarantine.parquet says."""

from __future__ import annotations

from pathlib import Path

from vxp_data.pipeline.run_dir.directory import open_run, read_batches


def first_messages(run: str | Path) -> dict[str, str]:
    """Return, for each reason, the message of the first row that was quarantined for it.

    Raises:
        UserError: the table cannot be read.
    """
    found: dict[str, str] = {}
    for batch in read_batches(open_run(run).quarantine, columns=["reason", "message"]):
        for reason, message in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            found.setdefault(reason, message)
    return found
