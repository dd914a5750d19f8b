"""What the rows of a run ask, before a decision and after; of large subsets as many are drawn.

Shapes: N rows of a run, D of them drawn.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vxp_data.core.question_facts import (
    QuestionFacts,
    QuestionShares,
    question_facts,
    question_shares,
)
from vxp_data.pipeline.curate.candidates import by_task
from vxp_data.pipeline.curate.filter_rows import read_turns
from vxp_data.pipeline.inspect.plan_rows import PlanRows
from vxp_data.pipeline.run_dir.directory import RunDirectory

MOST_ROWS: Final = 10_000
"""Of a subset: reading the words of a million rows takes longer than all the rest of a plan, and
of so many a share is off by 0.005 at most, two times in three."""
_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What rows ask of which the words were read."""

    row_D: NDArray[np.intp]
    """Their indices among all, ascending."""
    facts: QuestionFacts
    is_whole: bool
    """All usable rows were read."""

    def of(self, row_M: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return which of the rows that were read are some rows: their places in `facts`."""
        return np.flatnonzero(np.isin(self.row_D, row_M))


def read_asked(run: RunDirectory, rows: PlanRows) -> Asked:
    """Read what a run's usable rows ask, of each subset MOST_ROWS at most.

    Raises:
        UserError: they cannot be read.
    """
    usable_M = np.flatnonzero(rows.usable_N)
    drawn = [_drawn(row_M) for row_M in by_task(rows.task_N, usable_M).values()]
    row_D = np.sort(np.concatenate([np.zeros(0, dtype=np.intp), *drawn]))
    wanted_N = np.zeros(len(rows.task_N), dtype=np.bool_)
    wanted_N[row_D] = True
    facts = question_facts(read_turns(run, wanted_N), rows.task_N[row_D].tolist())
    return Asked(row_D=row_D, facts=facts, is_whole=len(row_D) == len(usable_M))


def _drawn(row_M: NDArray[np.intp]) -> NDArray[np.intp]:
    """Choose rows spread evenly, but in no step that a manifest may have, too."""
    if len(row_M) <= MOST_ROWS:
        return row_M
    place_M = np.arange(len(row_M), dtype=np.uint64) * _GOLDEN  # modulo 2**64
    chosen: NDArray[np.intp] = row_M[np.argpartition(place_M, MOST_ROWS)[:MOST_ROWS]]
    return chosen


def asked_table(
    asked: Asked, rows: PlanRows, kept_by: Mapping[str, NDArray[np.intp]]
) -> dict[str, tuple[QuestionShares, ...]]:
    """Count, by task, what is asked by all usable rows, and by those that decisions keep.

    Args:
        asked: what was read.
        rows: of the run.
        kept_by: by decision, the rows that it keeps.
    """
    is_in = {"in": rows.usable_N}
    for name, row_M in kept_by.items():
        is_in[name] = np.zeros(len(rows.task_N), dtype=np.bool_)
        is_in[name][row_M] = True
    task_D = rows.task_N[asked.row_D]
    found = {}
    number_of = {name: Counter(rows.task_N[mine_N].tolist()) for name, mine_N in is_in.items()}
    for task in sorted(number_of["in"]):
        found[task] = tuple(
            question_shares(
                name,
                number_of[name][task],
                asked.facts,
                np.flatnonzero(mine_N[asked.row_D] & (task_D == task)),
            )
            for name, mine_N in is_in.items()
        )
    return found
