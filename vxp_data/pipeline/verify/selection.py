"""The part of `verify` about selectors and outside scores: who was put in order, and by what."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vxp_data.core.decisions import SampleColumns, rows_to_cut
from vxp_data.core.thresholds import keep_order
from vxp_data.errors import UserError
from vxp_data.pipeline.curate.exclude import Excluded
from vxp_data.pipeline.curate.selection import DecidedBy, put_in_order
from vxp_data.pipeline.run_dir.clip_facts import ClipFacts
from vxp_data.pipeline.run_dir.directory import RunDirectory, read_table
from vxp_data.schemas import SELECTION_SCHEMA


@dataclass(frozen=True, slots=True, kw_only=True)
class DecidedAgain:
    """By what a run of N rows was decided."""

    record: Mapping[str, Any]
    """Its run.json."""
    decided_by: DecidedBy
    tokens_N: NDArray[np.float64]
    """What each row costs."""


def check_selection(
    run: RunDirectory,
    excluded: Excluded,
    facts: ClipFacts,
    by: DecidedAgain,
    add: Callable[[str], None],
    *,
    anew: bool,
) -> SampleColumns | None:
    """Check selection.parquet: its rows are the candidates, in the order of its scores.

    Args:
        run: its directory.
        excluded: what filters and duplicates made of its rows.
        facts: about their clips.
        by: by what the run was decided.
        add: takes a problem.
        anew: select anew too, and compare order and inputs.

    Returns:
        The rows with the scores by which they are cut; None where those cannot be told.
    """
    decided_by = by.decided_by
    order = functools.partial(
        put_in_order, run, excluded.samples, facts, excluded.dropped, decided_by,
        encoder=by.record["encoder"]["fingerprint"], sampler=by.record["sampler"],
        tokens_N=by.tokens_N,
    )  # fmt: skip
    try:
        found = order(stored=True)
        wanted = order() if anew else None
    except UserError as error:
        add(str(error))
        return None
    tasks = set(excluded.samples["task"].to_pylist())
    with_selector = {task for task in tasks if decided_by.selector(task) is not None}
    if bool(with_selector) != run.selection.is_file():
        add(f"selection.parquet: {'missing' if with_selector else 'no subset has a selector'}")
        return None
    if not with_selector:
        return found.columns
    table = read_table(run.selection)
    if not table.schema.equals(SELECTION_SCHEMA):
        add("selection.parquet: its columns are others than ours")
        return None
    cut_N = rows_to_cut(found.columns)
    candidates = {
        str(sample_id)
        for sample_id, task, is_cut in zip(
            found.columns.sample_id, found.columns.task, cut_N.tolist(), strict=True
        )
        if is_cut and task in with_selector
    }
    ids = table["sample_id"].to_pylist()
    if len(set(ids)) != len(ids) or set(ids) != candidates:
        add("selection.parquet: its rows are not those about which selectors decide")
        return None
    _check_order(table, add)
    if wanted is not None and wanted.selection is not None:
        _compare(table, wanted.selection, add)
    return found.columns


def _check_order(table: pa.Table, add: Callable[[str], None]) -> None:
    """Check that rows stand in the order of their scores, ties by id, numbered from 0."""
    position_M = table["position"].to_numpy()
    starts = np.union1d([0], np.flatnonzero(position_M == 0))
    for start, end in zip(starts, [*starts[1:], len(table)], strict=True):
        group = table.slice(start, end - start)
        order = keep_order(-group["score"].to_numpy(), group["sample_id"].to_pylist())
        numbered = (position_M[start:end] == np.arange(end - start)).all()
        if not numbered or (order != np.arange(len(group))).any():
            add("selection.parquet: rows do not stand in the order of their scores")
            return


def _compare(table: pa.Table, wanted: pa.Table, add: Callable[[str], None]) -> None:
    if table.schema.metadata != wanted.schema.metadata:
        add("selection.parquet: was made of other inputs than the run has now")
    if table != wanted:
        add("selection.parquet: selecting anew gives another order")
