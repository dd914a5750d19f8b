"""The rows that a run's datasets are cut to, from its settings and what its mixture states."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vxp_data.core.budgets import Target
from vxp_data.core.dataset_rows import (
    DatasetRows,
    RowsRule,
    cut_to_rows,
    is_cut_by_rows,
    wanted_rows,
)
from vxp_data.core.decisions import Decisions, SampleColumns
from vxp_data.core.similarity import Measure
from vxp_data.manifests.samples import Dataset
from vxp_data.settings.curation import MixtureConfig, check_mixture

Targets = tuple[Mapping[str, Target], Target]
"""How much to keep: by task, and of every other task."""


def rows_rule(mixture: MixtureConfig, datasets: Sequence[Dataset], targets: Targets) -> RowsRule:
    """Return how many rows of each dataset of a run stay; of none, where all are to stay.

    Raises:
        UserError: rows are asked for and none are stated, or are given for an unknown dataset; or
            see `check_mixture`.
    """
    by_task, default = targets
    cuts_by_rows = any(map(is_cut_by_rows, (default, *by_task.values())))
    check_mixture(mixture, cuts_by_rows=cuts_by_rows)
    wanted: dict[str, int] = {}
    if mixture.rows == "stated" or cuts_by_rows:
        stated = {dataset.name: dataset.rows for dataset in datasets}
        wanted = wanted_rows(stated, mixture.datasets, mixture.scale)
    names = [dataset.name for dataset in datasets]
    return RowsRule(datasets=names, wanted=wanted, by=mixture.by, seed=mixture.seed)


def usable_rows(rule: RowsRule, samples: pa.Table) -> tuple[DatasetRows, ...]:
    """Count the rows of each dataset that may stay as far as their manifests tell.

    Args:
        rule: what is wanted.
        samples: dataset and reason of all rows.
    """
    all_rows = Counter(samples["dataset"].to_pylist())
    usable = Counter(samples.filter(pc.equal(samples["reason"], ""))["dataset"].to_pylist())
    return tuple(
        DatasetRows(
            dataset=name, wanted=(wanted := rule.wanted.get(name)), num_in=all_rows[name],
            found=usable[name], kept=usable[name] if wanted is None else min(wanted, usable[name]),
        )
        for name in rule.datasets
    )  # fmt: skip


def cut_datasets(
    samples: SampleColumns,
    decisions: Decisions,
    rule: RowsRule,
    measures: Mapping[str, Measure],
    targets: Targets,
) -> tuple[Decisions, tuple[DatasetRows, ...]]:
    """Take out what datasets have beyond their rows; see `core.dataset_rows.cut_to_rows`.

    Args:
        samples: the rows, with their datasets.
        decisions: about them, by everything else.
        rule: what is wanted.
        measures: by task, whose the scores are.
        targets: how much of each task is kept.
    """
    by_task, default = targets
    tasks = set(np.asarray(samples.task, np.object_).tolist())
    cut_tasks = {str(task): is_cut_by_rows(by_task.get(task, default)) for task in tasks}
    return cut_to_rows(samples, decisions, rule, measures, cut_tasks)
