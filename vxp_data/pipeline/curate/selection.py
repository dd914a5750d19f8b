"""By what each subset of a run is cut: the measure, a selector, or the user's scores.

Shapes: N samples of a run, M of them candidates.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vxp_data.core.decisions import SampleColumns, rows_to_cut
from vxp_data.core.per_cost import per_cost, per_cost_scale, quality
from vxp_data.core.selectors.base import Selector, digest, load_selector, select
from vxp_data.core.similarity import Measure, outside_scale
from vxp_data.core.thresholds import keep_order
from vxp_data.errors import UserError
from vxp_data.pipeline.curate.candidates import CandidateReader, RunRows, by_task
from vxp_data.pipeline.curate.outside_scores import scores_of_rows, stored_scores
from vxp_data.pipeline.run_dir.clip_facts import ClipFacts, few_texts
from vxp_data.pipeline.run_dir.directory import RunDirectory, read_table
from vxp_data.records import Reason
from vxp_data.registry import MEASURES
from vxp_data.schemas import SELECTION_SCHEMA
from vxp_data.settings.curation import NO_SELECTOR, ScoresConfig, SelectionConfig
from vxp_data.settings.prune import PruneConfig

_ABOUT: Final = b"selection"


@dataclass(frozen=True, slots=True, kw_only=True)
class DecidedBy:
    """By what the rows of each subset are put in order."""

    measure: Measure
    """In which clips are scored; by which `intra` goes."""
    select: Mapping[str, str]
    """Names of selectors by task, and 'default'."""
    selection: SelectionConfig
    scores: ScoresConfig

    @classmethod
    def of(cls, config: PruneConfig) -> Self:
        """Read it from a run's settings."""
        return cls(
            measure=MEASURES.load(config.measure),
            select=config.select,
            selection=config.selection,
            scores=config.scores,
        )

    def selector(self, task: str) -> Selector | None:
        """Return the selector of a subset; None where scores decide."""
        name = self.select.get(task, self.select.get("default", NO_SELECTOR))
        return None if name == NO_SELECTOR else load_selector(name)

    @property
    def per_cost(self) -> bool:
        """Whether rows are taken by what they bring for what they cost."""
        return self.selection.per == "cost"

    def scale(self, task: str) -> Measure:
        """Return whose the scores are by which a subset is cut."""
        own = self.own_scale(task)
        return per_cost_scale(own) if self.per_cost else own

    def own_scale(self, task: str) -> Measure:
        """Return whose the scores of a subset are, whatever its rows cost."""
        if (selector := self.selector(task)) is not None:
            return outside_scale(selector.measure)
        return outside_scale(self.scores.measure) if self.scores.sha256 else self.measure

    def scales(self, task_N: NDArray[np.object_]) -> dict[str, Measure]:
        """Return whose the scores are by which each subset is cut, by the subsets' names."""
        return {str(task): self.scale(str(task)) for task in sorted(set(task_N.tolist()))}

    def text(self, task_N: NDArray[np.object_]) -> str:
        """Name what decides about some rows, for messages."""
        names = (scale.name for scale in self.scales(task_N).values())
        return ", ".join(dict.fromkeys(names)) or self.measure.name


@dataclass(frozen=True, slots=True, kw_only=True)
class OutsideScores:
    """The user's scores of N rows, and what becomes of rows without one."""

    score_N: NDArray[np.float64]
    """NaN where there is none."""
    dropped: NDArray[np.object_]
    held: NDArray[np.object_]
    """Reasons, '' for the others."""


def read_outside(
    run: RunDirectory,
    decided_by: DecidedBy,
    samples: pa.Table,
    cut_N: NDArray[np.bool_],
    brought: pa.Table | None = None,
) -> OutsideScores:
    """Find the user's scores of a run's rows, where there are any.

    Args:
        run: with the scores.
        decided_by: says which, and what becomes of rows without one.
        samples: sample_id, task and modality of all rows.
        cut_N: rows about which a threshold is to decide.
        brought: the scores, where they are not in the run.

    Raises:
        UserError: one of those has no score, and that was not foreseen.
    """
    num_rows, config = len(samples), decided_by.scores
    nothing = np.full(num_rows, "", dtype=object)
    if not config.sha256:
        nan_N = np.full(num_rows, np.nan)
        return OutsideScores(score_N=nan_N, dropped=nothing, held=nothing)
    table = stored_scores(run, config) if brought is None else brought
    score_N = scores_of_rows(table, config, samples["sample_id"])
    by_scores = {t: _goes_by_scores(decided_by, t) for t in pc.unique(samples["task"]).to_pylist()}
    asked_N = np.array([by_scores[t] for t in samples["task"].to_pylist()], dtype=np.bool_)
    lost_N = cut_N & asked_N & np.isnan(score_N)
    if lost_N.any() and config.missing == "refuse":
        first = samples["sample_id"][int(lost_N.argmax())].as_py()
        raise UserError(
            f"{config.measure}: {int(lost_N.sum())} of {int((cut_N & asked_N).sum())} rows have no "
            f"score, such as {first!r}. Score them too (`vxp-data score-template RUN` lists all), "
            "or say what becomes of them: --missing keep, or --missing drop."
        )
    keeps = config.missing == "keep"
    return OutsideScores(
        score_N=score_N,
        dropped=np.where(lost_N & (not keeps), Reason.UNSCORED.value, nothing),
        held=np.where(lost_N & keeps, Reason.KEPT_UNSCORED.value, nothing),
    )


def _goes_by_scores(decided_by: DecidedBy, task: str) -> bool:
    selector = decided_by.selector(task)
    return selector is None or "scores" in selector.needs


@dataclass(frozen=True, slots=True, kw_only=True)
class Selected:
    """The scores by which N rows are cut, and the order that selectors gave."""

    score_N: NDArray[np.float64]
    """Of each row by its subset's own scale; NaN where nothing is known."""
    table: pa.Table | None
    """SELECTION_SCHEMA; None where no subset has a selector."""


def select_rows(rows: RunRows, decided_by: DecidedBy, cut_N: NDArray[np.bool_]) -> Selected:
    """Score the rows of each subset by what it goes by.

    Args:
        rows: of the run.
        decided_by: the selector of each subset, or its scores.
        cut_N: rows about which a threshold is to decide: what selectors see.

    Raises:
        UserError: a selector needs what the run has not, or does not keep its promise.
    """
    task_N = few_texts(rows.samples["task"])
    score_N = scores_by_measure(rows, decided_by, task_N)
    groups: dict[tuple[str, str], list[NDArray[np.intp]]] = {}
    for task, row_M in by_task(task_N, np.flatnonzero(cut_N)).items():
        selector = decided_by.selector(task)
        if selector is not None:
            together = "" if decided_by.selection.across == "all" else task
            groups.setdefault((selector.name, together), []).append(row_M)
    if not any(decided_by.selector(task) for task in set(task_N.tolist())):
        return Selected(score_N=score_N, table=None)
    selectors = {name: load_selector(name) for name, _ in groups}
    needs = frozenset[Any]().union(*(selector.needs for selector in selectors.values()))
    reader = CandidateReader(rows, needs, decided_by.selection.seed)
    digests: dict[str, str] = {}
    tables = [SELECTION_SCHEMA.empty_table()]
    for (name, together), row_lists in sorted(groups.items()):
        selector = selectors[name]
        with_means = "means" in selector.needs
        row_M, candidates = reader.read(np.concatenate(row_lists), with_means=with_means)
        score_N[row_M] = score_M = select(selector, candidates)
        digests[f"{together or 'all'}: {selector.measure}"] = digest(selector, candidates)
        order_M = keep_order(-score_M, candidates.sample_id_N.tolist())
        columns = {
            "sample_id": candidates.sample_id_N[order_M],
            "task": task_N[row_M][order_M],
            "selector": pa.repeat(selector.measure, len(order_M)),
            "score": score_M[order_M],
            "position": np.arange(len(order_M)),
        }
        tables.append(pa.table(columns, schema=SELECTION_SCHEMA))
    about = {"across": decided_by.selection.across, "seed": decided_by.selection.seed,
             "inputs": digests}  # fmt: skip
    told = {_ABOUT: json.dumps(about, sort_keys=True)}
    return Selected(score_N=score_N, table=pa.concat_tables(tables).replace_schema_metadata(told))


def scores_by_measure(
    rows: RunRows, decided_by: DecidedBy, task_N: NDArray[np.object_]
) -> NDArray[np.float64]:
    """Return the scores of rows whose subset has no selector; NaN for the others."""
    has_selector = {t: decided_by.selector(t) is not None for t in set(task_N.tolist())}
    selected_N = np.array([has_selector[task] for task in task_N.tolist()], dtype=np.bool_)
    own_N = rows.outside_N if decided_by.scores.sha256 else rows.facts.score_N
    return np.where(selected_N, np.nan, own_N)


def stored_selection(run: RunDirectory, samples: pa.Table) -> tuple[NDArray[np.float64], pa.Table]:
    """Read the order that selectors gave a run's rows.

    Returns:
        The score of each row, NaN where no selector saw it; and selection.parquet.

    Raises:
        UserError: it cannot be read.
    """
    table = read_table(run.selection)
    index = pc.index_in(samples["sample_id"], table["sample_id"].combine_chunks())
    score_N = pc.fill_null(table["score"].take(index), np.nan).to_numpy()
    return score_N, table


def inputs_of(table: pa.Table) -> dict[str, Any]:
    """Return what selection.parquet says of itself: across, seed, and digests of the inputs."""
    told: dict[str, Any] = json.loads((table.schema.metadata or {}).get(_ABOUT, b"{}"))
    return told


@dataclass(frozen=True, slots=True, kw_only=True)
class InOrder:
    """A run's rows, ready to be decided, and the order that selectors gave."""

    columns: SampleColumns
    """With the scores by which they are cut."""
    selection: pa.Table | None
    """SELECTION_SCHEMA; None where no subset has a selector."""
    quality_N: NDArray[np.float64]
    """Of rows about which a threshold decides; see core.per_cost. NaN for the others."""


def put_in_order(
    run: RunDirectory,
    samples: pa.Table,
    facts: ClipFacts,
    dropped: NDArray[np.object_],
    decided_by: DecidedBy,
    *,
    encoder: str,
    sampler: str,
    tokens_N: NDArray[np.float64],
    stored: bool = False,
    brought: pa.Table | None = None,
) -> InOrder:
    """Score all rows of a run by what their subset goes by.

    Args:
        run: with embeddings and scores.
        samples: of `RunRows`, with their datasets.
        facts: about their clips, with scores by `decided_by.measure`.
        dropped: reasons of rows that filters and duplicates have taken out, '' for the others.
        decided_by: what each subset goes by.
        encoder: fingerprint of the embeddings.
        sampler: fingerprint of their frame sampling.
        tokens_N: what each row costs, for an order per cost.
        stored: believe selection.parquet instead of selecting anew.
        brought: the user's scores where they are not in the run; see `read_score_file`.

    Raises:
        UserError: rows have no score, or a selector cannot do its work.
    """
    columns = SampleColumns(
        sample_id=samples["sample_id"].to_numpy(),
        task=few_texts(samples["task"]),
        modality=few_texts(samples["modality"]),
        reason=few_texts(samples["reason"]),
        media_reason=few_texts(facts.reason),
        score=facts.score_N,
        dropped=dropped,
        dataset=few_texts(samples["dataset"]),
    )
    outside = read_outside(run, decided_by, samples, rows_to_cut(columns), brought)
    columns = replace(
        columns, dropped=np.where(outside.dropped == "", dropped, outside.dropped),
        held=outside.held,
    )  # fmt: skip
    rows = RunRows(
        run=run,
        samples=samples,
        facts=facts,
        redundancy_N=decided_by.measure.redundancy(facts.score_N),
        outside_N=outside.score_N,
        encoder=encoder,
        sampler=sampler,
    )
    if stored:
        selected = _from_file(rows, decided_by)
    else:
        selected = select_rows(rows, decided_by, rows_to_cut(columns))
    score_N, quality_N = selected.score_N.copy(), np.full(len(samples), np.nan)
    task_N = few_texts(samples["task"])
    for task, row_M in by_task(task_N, np.flatnonzero(rows_to_cut(columns))).items():
        redundancy_M = decided_by.own_scale(task).redundancy(score_N[row_M])
        quality_N[row_M] = quality_M = quality(redundancy_M)
        if decided_by.per_cost:
            score_N[row_M] = per_cost(quality_M, tokens_N[row_M])
    return InOrder(
        columns=replace(columns, score=score_N), selection=selected.table, quality_N=quality_N
    )


def _from_file(rows: RunRows, decided_by: DecidedBy) -> Selected:
    score_N = scores_by_measure(rows, decided_by, few_texts(rows.samples["task"]))
    if not rows.run.selection.is_file():
        return Selected(score_N=score_N, table=None)
    stored_N, table = stored_selection(rows.run, rows.samples)
    return Selected(score_N=np.where(np.isnan(score_N), stored_N, score_N), table=table)
