"""Scores that a user brings: read from a file, kept in the run, found again for its rows.

Shapes: N samples.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.json as pa_json
import pyarrow.parquet as pq
from numpy.typing import NDArray

from vxp_data.errors import UserError, unknown_name
from vxp_data.pipeline.run_dir.directory import RunDirectory, read_table, write_table
from vxp_data.schemas import SAMPLE_CLIP_KEY
from vxp_data.settings.curation import ScoresConfig

ID: Final = "sample_id"
_SAYS_NAME: Final = "scorer"
_SAYS_VERSION: Final = "scorer_version"
_NO_SCORES: Final = (ID, _SAYS_NAME, _SAYS_VERSION, *SAMPLE_CLIP_KEY)
"""Columns that are none, also where they hold numbers: what `score-template` writes has some."""
_SHORT_DIGEST: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreFile:
    """A file of scores, as the user names it."""

    path: str
    column: str | None = None
    """None: the only one of numbers."""
    scorer: str | None = None
    """'NAME@VERSION' of what made them; None: as the file says, else its own name and digest."""
    missing: str | None = None
    """'keep' or 'drop'; None: every row must have a score."""


def read_score_file(run: RunDirectory, given: ScoreFile) -> tuple[ScoresConfig, pa.Table]:
    """Read a file of scores; nothing is written.

    Args:
        run: the run whose rows are scored.
        given: Parquet, CSV, or JSON Lines with the column sample_id and one or more of numbers.

    Returns:
        What is recorded of it, and its ids and numbers, to be kept by `store_scores`.

    Raises:
        UserError: it cannot be read, an id is there twice, or no column can be told to be the one.
    """
    table, digest = _read(given.path)
    if ID not in table.column_names:
        raise UserError(
            f"--scores {given.path}: has no column {ID!r}, its columns are "
            f"{', '.join(table.column_names) or 'none'}. `vxp-data score-template RUN` writes the "
            "ids of the rows to be scored."
        )
    ids = table[ID].cast(pa.string())
    _check_ids(ids, given.path)
    numbers = [f.name for f in table.schema if f.name not in _NO_SCORES and _is_number(f.type)]
    column = _column(given, numbers)
    _check_finite(table[column], ids, given.path, column)
    known = pc.is_in(ids, read_table(run.samples, columns=[ID])[ID].combine_chunks())
    name, version = _scorer(given, table, digest)
    config = ScoresConfig.model_validate(
        {
            "sha256": digest,
            "name": name,
            "version": version,
            "column": column,
            "missing": given.missing or "refuse",
            "num_unknown": len(ids) - (pc.sum(known).as_py() or 0),
        }
    )
    kept = pa.table({ID: ids, **{n: table[n].cast(pa.float64()) for n in numbers}})
    return config, kept.replace_schema_metadata({"name": name, "version": version})


def store_scores(run: RunDirectory, config: ScoresConfig, table: pa.Table) -> None:
    """Keep a file's scores in the run, under the digest of the file."""
    write_table(run.outside_scores(config.sha256), table)


def stored_scores(run: RunDirectory, config: ScoresConfig) -> pa.Table:
    """Read the scores that a run keeps.

    Raises:
        UserError: they are not there, or cannot be read.
    """
    return read_table(run.outside_scores(config.sha256), columns=[ID, config.column])


def scores_of_rows(
    table: pa.Table, config: ScoresConfig, sample_ids: pa.ChunkedArray
) -> NDArray[np.float64]:
    """Return the score of each row, NaN where there is none.

    Args:
        table: ids and scores.
        config: says which column counts.
        sample_ids: of the rows.
    """
    index = pc.index_in(sample_ids, table[ID].combine_chunks())
    score_N: NDArray[np.float64] = (
        pc.fill_null(table[config.column].take(index), np.nan).cast(pa.float64()).to_numpy()
    )
    return score_N


def _read(path: str) -> tuple[pa.Table, str]:
    readers: dict[str, Callable[[pa.BufferReader], pa.Table]] = {
        ".parquet": pq.read_table,
        ".csv": lambda source: pa_csv.read_csv(
            source, convert_options=pa_csv.ConvertOptions(column_types={ID: pa.string()})
        ),
        ".jsonl": pa_json.read_json,
        ".ndjson": pa_json.read_json,
    }
    suffix = Path(path).suffix.lower()
    if suffix not in readers:
        raise UserError(f"--scores {path}: wanted a file that ends in {', '.join(readers)}.")
    try:
        data = Path(path).read_bytes()
        table = readers[suffix](pa.BufferReader(data))
    except (OSError, pa.ArrowException) as error:
        raise UserError(
            f"--scores {path}: cannot be read: {getattr(error, 'strerror', None) or error}."
        ) from error
    return table, hashlib.sha256(data).hexdigest()


def _check_ids(ids: pa.ChunkedArray, path: str) -> None:
    if ids.null_count:
        raise UserError(f"--scores {path}: {ids.null_count} rows have no {ID}.")
    counts = pc.value_counts(ids)
    doubled = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
    if len(doubled):
        raise UserError(
            f"--scores {path}: {doubled[0].as_py()!r} is there more than once (so are "
            f"{len(doubled) - 1} other ids). Which of its scores counts? Leave one a row."
        )


def _column(given: ScoreFile, numbers: Sequence[str]) -> str:
    if given.column is not None:
        if given.column not in numbers:
            raise unknown_name(f"column of numbers in {given.path}", given.column, numbers)
        return given.column
    if len(numbers) != 1:
        raise UserError(
            f"--scores {given.path}: wanted one column of numbers, got "
            f"{', '.join(numbers) or 'none'}."
            + (
                " Say which: --scores-column NAME."
                if numbers
                else " If this is what score-template wrote, fill its column score first."
            )
        )
    return numbers[0]


def _check_finite(column: pa.ChunkedArray, ids: pa.ChunkedArray, path: str, name: str) -> None:
    score_N = pc.fill_null(column.cast(pa.float64()), np.nan).to_numpy()
    if (infinite_N := np.isinf(score_N)).any():
        at = int(infinite_N.argmax())
        raise UserError(
            f"--scores {path}: {name} of {ids[at].as_py()!r} is {score_N[at]}, wanted a number. "
            "A row without a score has nothing there, or NaN."
        )


def _is_number(kind: Any) -> bool:
    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    )


def _scorer(given: ScoreFile, table: pa.Table, digest: str) -> tuple[str, str]:
    """Return name and version: the user's, or the file's own."""
    name, version = Path(given.path).stem, digest[:_SHORT_DIGEST]
    said = dict.fromkeys((_SAYS_NAME, _SAYS_VERSION), "")
    for column in said:
        if column in table.column_names:
            values = pc.unique(table[column].cast(pa.string())).drop_null().to_pylist()
            if len(values) > 1:
                raise UserError(
                    f"--scores {given.path}: {column} is {values[0]!r} and {values[1]!r}; wanted "
                    "the scores of one."
                )
            said[column] = values[0] if values else ""
    name, version = said[_SAYS_NAME] or name, said[_SAYS_VERSION] or version
    if given.scorer is not None:
        name, _, version_given = given.scorer.partition("@")
        version = version_given or version
    return name, version
