"""The part of `verify` about embeddings: unit rows, scores that follow from them, a true index."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vxp_data.core.similarity import NORM_TOLERANCE, Measure, score_videos
from vxp_data.errors import UserError
from vxp_data.pipeline.run_dir.directory import RunDirectory
from vxp_data.pipeline.run_dir.embedding_column import embedding_matrix
from vxp_data.pipeline.run_dir.part_index import INDEX_SCHEMA, part_rows, read_part_index
from vxp_data.pipeline.run_dir.part_table import read_groups
from vxp_data.pipeline.verify.clip_names import clip_keys, clip_name
from vxp_data.pipeline.verify.row_scores import SCORE_TOLERANCE
from vxp_data.records import ClipKey
from vxp_data.registry import MEASURES
from vxp_data.schemas import CURRENT_COLUMNS, EMBEDDING_SCHEMA
from vxp_data.storage.folder import File

AddProblem = Callable[[str], None]


@dataclass(slots=True, kw_only=True)
class _Expected:
    """What media.parquet and scores.parquet say of the clips."""

    made_by: tuple[str, str]
    """Fingerprints of the encoder and of the sampler."""
    dim: int
    row_of: Mapping[ClipKey, int]
    versions: list[str]
    measures: list[Measure]
    scores: Mapping[str, NDArray[np.float64]]
    open_rows: set[int]
    """Of clips that did not fail, and whose embeddings have not been seen."""
    num_embeddings: int = 0


def check_parts(
    run: RunDirectory,
    clips: pa.Table,
    scores: pa.Table,
    record: Mapping[str, Any],
    add: AddProblem,
) -> tuple[int, int]:
    """Read every part; norms are 1, and the scores are those of the embeddings.

    Returns:
        How many parts and embeddings there are.
    """
    keys = clip_keys(clips)
    # Scores of other clips, which was said, are not to be compared with these; and a package that
    # was installed since the run may have brought a measure that nobody has scored by.
    names = MEASURES.names() if keys == clip_keys(scores) else []
    names = [name for name in names if name in scores.column_names]
    if (decided_by := record["config"]["measure"]) not in scores.column_names:
        add(f"scores.parquet: has no column {decided_by!r}, by which the run was decided")
    reasons = clips["reason"].to_pylist()
    expected = _Expected(
        made_by=(record["encoder"]["fingerprint"], record["sampler"]),
        dim=record["encoder"]["dim"],
        row_of={key: index for index, key in enumerate(keys)},
        versions=clips["file_version"].to_pylist(),
        measures=[MEASURES.load(name) for name in names],
        scores={name: scores[name].to_numpy() for name in names},
        open_rows={index for index, reason in enumerate(reasons) if not reason},
    )
    files, found = run.part_files(), {}
    for file in files:
        try:
            groups = [
                _checked(file, part, expected, add)
                for _, part in read_groups([file], EMBEDDING_SCHEMA.names)
            ]
            found[file.name] = part_rows(file.name, pa.concat_tables(groups))
        except UserError as error:
            add(str(error))
    for index in sorted(expected.open_rows):
        add(f"embeddings: {clip_name(keys[index])} has none")
    _check_index(run, found, add)
    return len(files), expected.num_embeddings


def _checked(file: File, part: pa.Table, expected: _Expected, add: AddProblem) -> pa.Table:
    """Check the clips of a piece of a part; return what the index says of it."""
    for i, row in enumerate(part.drop_columns("embedding").to_pylist()):
        if row["reason"]:
            continue
        expected.num_embeddings += 1
        is_ours = (row["encoder"], row["sampler"]) == expected.made_by
        try:
            emb_FD = embedding_matrix(part["embedding"][i], len(row["frame_index"]))
            problem = _problem(emb_FD, row, expected.dim if is_ours else emb_FD.shape[1])
        except ValueError as error:
            problem = str(error)
        if problem:
            add(f"{file}: {row['uri']}: {problem}")
            continue
        index = expected.row_of.get((row["uri"], row["clip_start_s"], row["clip_end_s"]))
        if index not in expected.open_rows or not is_ours:
            continue
        if row["file_version"] == expected.versions[index]:
            expected.open_rows.remove(index)
            _check_scores(row["uri"], index, emb_FD, expected, add)
    return part.select(CURRENT_COLUMNS)


def _check_scores(
    uri: str, index: int, emb_FD: NDArray[np.float16], expected: _Expected, add: AddProblem
) -> None:
    for name, column in score_videos([emb_FD], expected.measures).items():
        there = expected.scores[name][index]
        if not abs(column[0] - there) <= SCORE_TOLERANCE:
            add(
                f"scores.parquet: {uri}: {name} is {there!r}, its embeddings give {column[0]!r}. "
                "Where the measure has changed, it needs another version (`Measure.version`)"
            )


def _problem(emb_FD: NDArray[np.float16], row: dict[str, Any], dim: int) -> str:
    """Return what is wrong with a clip's embeddings; '' where nothing is."""
    if emb_FD.shape[1] != dim:
        return f"embeddings of width {emb_FD.shape[1]}, the run's encoder gives {dim}"
    norm_F = np.linalg.norm(emb_FD.astype(np.float64), axis=1)
    worst = int(np.argmax(np.where(np.isfinite(norm_F), np.abs(norm_F - 1), np.inf)))
    if abs(norm_F[worst] - 1) <= NORM_TOLERANCE:
        return ""
    return f"the embedding of frame {row['frame_index'][worst]} has norm {norm_F[worst]:.4g}, not 1"


def _check_index(run: RunDirectory, found: Mapping[str, pa.Table], add: AddProblem) -> None:
    """Compare what the index says with what the parts hold, of those that could be read."""
    try:
        told = pa.concat_tables([INDEX_SCHEMA.empty_table(), *read_part_index(run)])
    except UserError as error:
        add(str(error))
        return
    same = [*CURRENT_COLUMNS, "part", "row"]
    wanted = pa.concat_tables([INDEX_SCHEMA.empty_table(), *found.values()])
    told, wanted = (_with_names(table).select(same) for table in (told, wanted))
    told = told.filter(pc.is_in(told["part"], value_set=pa.array(sorted(found), pa.string())))
    told = told.sort_by([("part", "ascending"), ("row", "ascending")])
    if told.equals(wanted):
        return
    for name in found:
        of_part, rows = (table.filter(pc.equal(table["part"], name)) for table in (told, wanted))
        if not of_part.equals(rows):
            add(
                f"{run.part_index}: what it says of {name} is not what that holds. Remove the "
                "folder: the next `vxp-data prune` writes it anew"
            )


def _with_names(table: pa.Table) -> pa.Table:
    """Write the parts' names out."""
    index = table.schema.get_field_index("part")
    return table.set_column(index, "part", table["part"].cast(pa.string()))
