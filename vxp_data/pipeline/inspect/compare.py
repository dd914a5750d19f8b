"""`vxp-data compare`: what changed between two decisions, by subset and reason. Writes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vxp_data.conversation import conversation_from_json, question_answer_pairs
from vxp_data.core.run_changes import ABSENT, Change, Compared, Example, Side
from vxp_data.pipeline.inspect.plan_rows import PlanRows, read_plan_rows
from vxp_data.pipeline.run_dir.directory import RunDirectory, read_table
from vxp_data.pipeline.run_dir.summary import only_number
from vxp_data.settings.prune import PruneConfig

_DECIDED: Final = ("task", "decision", "reason", "score", "threshold")


def compare_runs(run_a: RunDirectory, run_b: RunDirectory, *, num_examples: int) -> Compared:
    """Compare the decisions of two finished runs, row by row, by sample_id.

    Args:
        run_a: the earlier one, say.
        run_b: the later one; the same rows, or some of them, or more.
        num_examples: of each change, at most.

    Raises:
        UserError: one is no finished run.
    """
    config_a, config_b = (
        PruneConfig.model_validate(run.read_run()["config"]) for run in (run_a, run_b)
    )
    rows_a, rows_b = read_plan_rows(run_a, config_a), read_plan_rows(run_b, config_b)
    both = _joined(_decisions(run_a), _decisions(run_b))
    same = pc.and_(
        pc.equal(both["decision_a"], both["decision_b"]),
        pc.equal(both["reason_a"], both["reason_b"]),
    )
    changed = both.filter(pc.invert(same))
    tasks = sorted({*rows_a.task_N.tolist(), *rows_b.task_N.tolist()})
    return Compared(
        measure_a=rows_a.decided_by(),
        measure_b=rows_b.decided_by(),
        num_same=both.num_rows - changed.num_rows,
        num_changed=changed.num_rows,
        subsets={task: (_side(rows_a, task), _side(rows_b, task)) for task in tasks},
        costs_a=_kept_costs(rows_a),
        costs_b=_kept_costs(rows_b),
        changes=tuple(_changes(changed, run_a, run_b, num_examples)),
    )


def _decisions(run: RunDirectory) -> pa.Table:
    table = read_table(run.decisions, columns=["sample_id", *_DECIDED])
    return table.append_column("index", pa.array(np.arange(table.num_rows)))


def _joined(a: pa.Table, b: pa.Table) -> pa.Table:
    """Join the rows of both side by side, in A's order, then those that B alone has."""
    both = a.join(b, "sample_id", join_type="full outer", left_suffix="_a", right_suffix="_b")
    both = both.sort_by([("index_a", "ascending"), ("index_b", "ascending")])  # nulls come last
    for side in "ab":
        for name, absent in (("decision", ABSENT), ("reason", "")):
            at = both.schema.get_field_index(f"{name}_{side}")
            both = both.set_column(at, f"{name}_{side}", pc.fill_null(both.column(at), absent))
    return both


def _side(rows: PlanRows, task: str) -> Side:
    mine_N = rows.task_N == task
    threshold = only_number(rows.threshold_N[mine_N])
    return Side(
        rows=int(mine_N.sum()),
        kept=int((mine_N & rows.kept_N).sum()),
        threshold=threshold if np.isfinite(threshold) else None,
    )


def _kept_costs(rows: PlanRows) -> dict[str, float]:
    kept_M = np.flatnonzero(rows.kept_N)
    return {unit: rows.costs.total(kept_M, unit) for unit in rows.costs.units()}


def _changes(
    changed: pa.Table, run_a: RunDirectory, run_b: RunDirectory, num_examples: int
) -> Iterator[Change]:
    keys = ["task", "decision_a", "reason_a", "decision_b", "reason_b"]
    task = pc.coalesce(changed["task_b"], changed["task_a"])
    changed = changed.append_column("task", task)
    indices: dict[tuple[str, ...], list[int]] = {}
    for index, key in enumerate(zip(*(changed[k].to_pylist() for k in keys), strict=True)):
        indices.setdefault(key, []).append(index)
    ordered = sorted(indices.items(), key=lambda item: (item[0][0], -len(item[1]), item[0]))
    shown_indices = [index for _, found in ordered for index in found[:num_examples]]
    shown = changed.take(pa.array(shown_indices, pa.int64()))
    words = _words(run_a, shown["sample_id"]) | _words(run_b, shown["sample_id"])
    rows = iter(shown.to_pylist())
    for (name, outcome_a, reason_a, outcome_b, reason_b), found in ordered:
        yield Change(
            task=name,
            outcome_a=outcome_a,
            reason_a=reason_a,
            outcome_b=outcome_b,
            reason_b=reason_b,
            num_rows=len(found),
            examples=tuple(_example(next(rows), words) for _ in found[:num_examples]),
        )


def _example(row: Mapping[str, Any], words: Mapping[str, tuple[str, str]]) -> Example:
    media_uri, question = words[row["sample_id"]]
    return Example(
        sample_id=row["sample_id"],
        score_a=_number(row["score_a"]),
        score_b=_number(row["score_b"]),
        media_uri=media_uri,
        question=question,
    )


def _words(run: RunDirectory, sample_ids: pa.ChunkedArray) -> dict[str, tuple[str, str]]:
    """Read the media and first question of a few samples."""
    columns = ["sample_id", "media_uri", "turns"]
    wanted = pc.field("sample_id").isin(sample_ids.combine_chunks())
    rows = read_table(run.samples, columns=columns, filters=wanted).to_pylist()
    return {row["sample_id"]: (row["media_uri"], first_question(row["turns"])) for row in rows}


def first_question(turns: str) -> str:
    """Return the question of a row's first turn; see records.Sample.turns."""
    pairs = question_answer_pairs(conversation_from_json(turns))
    return pairs[0][0] if pairs else ""


def _number(value: float | None) -> float | None:
    return None if value is None or np.isnan(value) else value
