"""`vxp-data report`: gather what the report shows of a finished run. Decodes no video.

Counts and distributions are of all rows. Rows that are shown with their frames are chosen by their
place beside the threshold and at the ends; other examples are drawn with a fixed seed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vxp_data.core.cost_model import drawn_frames
from vxp_data.core.frame_plan_counts import DURATION_EDGES_S, PlanCounts, frames_bins
from vxp_data.core.keep_curve import keep_curve
from vxp_data.core.question_facts import question_shares
from vxp_data.core.question_words import OTHER, TYPES
from vxp_data.core.run_report import (
    Bars,
    Card,
    Histogram,
    QuarantineReport,
    RunReport,
    SubsetReport,
)
from vxp_data.core.seeds import hash64
from vxp_data.core.selectors.ranks import rank_correlation
from vxp_data.pipeline.inspect.asked import Asked, read_asked
from vxp_data.pipeline.inspect.plan_rows import PlanRows, keep_orders, read_plan_rows
from vxp_data.pipeline.inspect.report_cards import CardSource, read_duplicate_groups
from vxp_data.pipeline.run_dir.directory import RunDirectory, read_table
from vxp_data.records import Outcome
from vxp_data.settings.prune import PruneConfig

_BINS: Final = 40
_CARDS: Final = 8
"""Rows shown in a list."""
_SUBSETS_WITH_CARDS: Final = 8
"""The largest; of more subsets only numbers are shown, so that the page stays small."""
_EXAMPLES: Final = 4
"""Of each reason for quarantine."""
_MAX_GROUPS: Final = 12
"""Of duplicates."""
_FIXED_FPS: Final = 1.0
"""The rate that variable sampling is shown beside; the paper's Figure 3."""
_POINTS: Final = 100
_WORD_LIMITS: Final = (0, 1, 5, 10, 20, 50, 100, 200)
"""Most words of an answer in each bin."""


def report_run(run: RunDirectory, name: str) -> RunReport:
    """Gather the report of a finished run.

    Args:
        run: the run.
        name: what the report calls it.

    Raises:
        UserError: there is no finished run.
    """
    record = run.read_run()
    config = PruneConfig.model_validate(record["config"])
    rows = read_plan_rows(run, config)
    orders = keep_orders(rows)
    asked = read_asked(run, rows)
    frames_N = _planned(rows, config, fixed=False)
    fixed_N = _planned(rows, config, fixed=True)
    by_rows = sorted(orders, key=lambda task: (-len(orders[task]), task))
    with_cards = set(by_rows[:_SUBSETS_WITH_CARDS])
    cards = CardSource(run, rows)
    chosen = {task: _chosen(rows, orders[task]) for task in sorted(with_cards)}
    groups = read_duplicate_groups(run, limit=_MAX_GROUPS)
    cards.load([r for lists in chosen.values() for row_L in lists.values() for r in row_L], groups)
    subsets = {subset["task"]: subset for subset in record["decided"]["subsets"]}
    return RunReport(
        name=name,
        ended_at=record["ended_at"],
        measure=rows.decided_by(),
        encoder=str(record["encoder"]["name"]),
        decided=record["decided"],
        subsets=tuple(
            _subset(
                counts,
                rows,
                orders.get(task, np.zeros(0, dtype=np.intp)),
                (frames_N, fixed_N),
                asked,
                config,
                {k: tuple(map(cards.card, row_L)) for k, row_L in chosen.get(task, {}).items()},
            )
            for task, counts in subsets.items()
        ),
        num_with_cards=len(with_cards),
        costs=_costs(rows),
        has_sheets=cards.has_sheets,
        duplicates=cards.groups(groups),
        num_duplicate_groups=groups.num_groups,
        quarantine=_quarantine(run),
        timings=record["timings"],
        versions=record["versions"],
        settings=_settings(config, record.get("config_origin", {})),
    )


def _subset(
    counts: Mapping[str, Any],
    rows: PlanRows,
    order_M: NDArray[np.intp],
    frames: tuple[NDArray[np.float64], NDArray[np.float64]],
    asked: Asked,
    config: PruneConfig,
    cards: Mapping[str, tuple[Card, ...]],
) -> SubsetReport:
    task = counts["task"]
    kept_M = order_M[rows.kept_N[order_M]]
    outcomes = {
        Outcome.KEEP.value: counts["kept"],
        Outcome.PRUNE.value: counts["pruned"],
        Outcome.DUPLICATE.value: counts["duplicates"],
        Outcome.QUARANTINE.value: counts["quarantined"],
    }
    threshold = counts["threshold"]
    read = {"before": asked.of(order_M), "after": asked.of(kept_M)}
    return SubsetReport(
        task=task,
        counts=outcomes,
        videos=counts["videos"],
        hours=counts["hours"],
        hours_kept=counts["hours_kept"],
        inexact=counts.get("inexact", 0),  # runs of before it was counted have none
        target=config.thresholds.get(task, config.thresholds["default"]),
        threshold=float("nan") if threshold is None else threshold,
        scores=_histogram(rows, order_M) if len(order_M) else None,
        curve=keep_curve(order_M, rows.score_N, rows.costs, num_points=_POINTS),
        durations=_durations(rows, {"before": order_M, "after": kept_M}),
        duration_correlation=_with_duration(rows, order_M),
        question_types=_types(asked, read),
        needs_time={
            name: question_shares(name, len(row_R), asked.facts, row_R).needs_time
            for name, row_R in read.items()
        },
        answer_words=_answers(asked, read),
        frames=_frames(
            {"before": frames[0][order_M], "after": frames[0][kept_M]}, config.sampling.max_frames
        ),
        sampling=_frames(
            {
                f"fixed, {_FIXED_FPS:g} fps": frames[1][kept_M],
                config.sampling.policy: frames[0][kept_M],
            },
            config.sampling.max_frames,
        ),
        cards=cards,
    )


def _histogram(rows: PlanRows, order_M: NDArray[np.intp]) -> Histogram:
    score_M = rows.score_N[order_M]
    low, high = float(score_M.min()), float(score_M.max())
    edges = np.linspace(low, high if high > low else low + 1e-6, _BINS + 1)
    kept_M = rows.kept_N[order_M]
    kept_B, dropped_B = (
        np.histogram(score_M[mask_M], bins=edges)[0] for mask_M in (kept_M, ~kept_M)
    )
    return Histogram(edges=edges, kept_B=kept_B, dropped_B=dropped_B)


def _with_duration(rows: PlanRows, order_M: NDArray[np.intp]) -> float:
    if not len(order_M):
        return float("nan")
    return rank_correlation(rows.score_N[order_M], rows.costs.duration_s_N[order_M])


def _durations(rows: PlanRows, row_M_of: Mapping[str, NDArray[np.intp]]) -> Bars:
    edges = np.array(DURATION_EDGES_S)
    series = {}
    for name, row_M in row_M_of.items():
        bin_M = np.searchsorted(edges[1:], rows.costs.duration_s_N[row_M], side="left")
        series[name] = tuple(np.bincount(bin_M, minlength=len(edges) - 1).tolist())
    labels = [f"{low:g}\N{EN DASH}{high:g} s" for low, high in pairwise(DURATION_EDGES_S[:-1])]
    return _without_empty_ends([*labels, f"> {edges[-2]:g} s"], series)


def _types(asked: Asked, read: Mapping[str, NDArray[np.intp]]) -> Bars:
    type_D = asked.facts.type_N
    labels = [kind for kind in (*TYPES, OTHER) if (type_D[read["before"]] == kind).any()]
    series = {
        name: tuple(int((type_D[row_R] == kind).sum()) for kind in labels)
        for name, row_R in read.items()
    }
    return Bars(labels=tuple(labels), series=series)


def _answers(asked: Asked, read: Mapping[str, NDArray[np.intp]]) -> Bars:
    series = {}
    for name, row_R in read.items():
        words_R = asked.facts.answer_words_N[row_R]
        bin_R = np.searchsorted(_WORD_LIMITS, words_R[~np.isnan(words_R)], side="left")
        series[name] = tuple(np.bincount(bin_R, minlength=len(_WORD_LIMITS) + 1).tolist())
    spans = pairwise(_WORD_LIMITS)
    labels = [
        str(high) if high - low == 1 else f"{low + 1}\N{EN DASH}{high}" for low, high in spans
    ]
    return _without_empty_ends(["0", *labels, f"> {_WORD_LIMITS[-1]}"], series)


def _frames(frames_of: Mapping[str, NDArray[np.float64]], max_frames: int) -> Bars:
    counts = PlanCounts(
        duration_s_R=np.zeros(0),
        frames_R_of={name: frames.astype(np.int64) for name, frames in frames_of.items()},
        max_frames=max(2, max_frames),
    )
    bins = frames_bins(counts)
    labels = [f"{b.low}" if b.low == b.high else f"{b.low}\N{EN DASH}{b.high}" for b in bins]
    series = {name: tuple(b.num_rows_of[name] for b in bins) for name in frames_of}
    return _without_empty_ends(labels, series)


def _without_empty_ends(labels: Sequence[str], series: Mapping[str, Sequence[int]]) -> Bars:
    used = [i for i in range(len(labels)) if any(values[i] for values in series.values())]
    span = slice(used[0], used[-1] + 1) if used else slice(0, 0)
    return Bars(
        labels=tuple(labels[span]),
        series={name: tuple(values[span]) for name, values in series.items()},
    )


def _planned(rows: PlanRows, config: PruneConfig, *, fixed: bool) -> NDArray[np.float64]:
    """Count the frames of each row's plan in epoch 0."""
    rule = config.sampling
    if fixed:
        rule = dataclasses.replace(rule, policy="fixed_fps", fps=min(_FIXED_FPS, rule.max_fps))
    frames_N = np.zeros(len(rows.task_N))
    row_M = np.flatnonzero(rows.cut_N)
    frames_N[row_M] = drawn_frames(
        rule,
        rows.sample_id_N[row_M].tolist(),
        rows.costs.duration_s_N[row_M],
        rows.frames_there_N[row_M],
        epoch=0,
    )
    return frames_N


def _chosen(rows: PlanRows, order_M: NDArray[np.intp]) -> dict[str, list[int]]:
    """Choose the rows to show: at either side of the threshold and at either end."""
    kept_M, dropped_M = order_M[rows.kept_N[order_M]], order_M[~rows.kept_N[order_M]]
    return {
        "just_kept": _one_a_file(rows, kept_M[::-1]),
        "just_dropped": _one_a_file(rows, dropped_M),
        "least": _one_a_file(rows, order_M),
        "most": _one_a_file(rows, order_M[::-1]),
    }


def _one_a_file(rows: PlanRows, row_M: NDArray[np.intp]) -> list[int]:
    chosen: dict[int, int] = {}
    for row in row_M.tolist():
        chosen.setdefault(int(rows.costs.file_N[row]), row)
        if len(chosen) == _CARDS:
            break
    return list(chosen.values())


def _costs(rows: PlanRows) -> dict[str, tuple[float, float]]:
    usable_M, kept_M = np.flatnonzero(rows.cut_N | rows.always_N), np.flatnonzero(rows.kept_N)
    return {
        unit: (rows.costs.total(usable_M, unit), rows.costs.total(kept_M, unit))
        for unit in rows.costs.units()
    }


def _quarantine(run: RunDirectory) -> tuple[QuarantineReport, ...]:
    table = read_table(run.quarantine, columns=["sample_id", "media_uri", "reason", "message"])
    reports = []
    for reason in sorted(pc.unique(table["reason"]).to_pylist()):
        mine: pa.Table = table.filter(pc.equal(table["reason"], reason))
        ids = mine["sample_id"].to_pylist()
        drawn = sorted(range(len(ids)), key=lambda i: hash64("report", 0, ids[i]))[:_EXAMPLES]
        rows = mine.take(pa.array(sorted(drawn), pa.int64())).to_pylist()
        examples = tuple(
            (row["sample_id"], file_name(row["media_uri"]), row["message"]) for row in rows
        )
        reports.append(QuarantineReport(reason=reason, num_rows=len(ids), examples=examples))
    return tuple(sorted(reports, key=lambda report: (-report.num_rows, report.reason)))


def _settings(config: PruneConfig, origins: Mapping[str, str]) -> tuple[tuple[str, str, str], ...]:
    from vxp_data.settings.prune import load_config

    loaded = load_config(None, (), run_settings=config.model_dump(mode="json"))
    return tuple(
        (o.key, "" if o.value is None else str(o.value), origins.get(o.key, ""))
        for o in loaded.origins
    )


def file_name(uri: str) -> str:
    """Return a file's name without its folder."""
    return uri.rstrip("/").rpartition("/")[2]
