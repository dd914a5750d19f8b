"""What the rows of a run ask, counted: before a decision and after.

Shapes: N rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vxp_data.core.question_words import OTHER, TYPES, row_needs_time, row_type
from vxp_data.core.text_rules import Turns, answer_words
from vxp_data.records import Task

WORD_QUANTILES: Final = (0.1, 0.5, 0.9)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionFacts:
    """What N rows ask, and how long their answers are."""

    needs_time_N: NDArray[np.float64]
    """1 or 0; NaN for captions, and for rows that ask nothing."""
    type_N: NDArray[np.object_]
    """A name in question_words.TYPES, or OTHER; '' for such rows."""
    answer_words_N: NDArray[np.float64]
    """NaN for rows without words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionShares:
    """What some of a subset's rows ask."""

    name: str
    """'in' for all that can be used; else what keeps them, as in `keep_curve.Kept`."""
    num_rows: int
    needs_time: float
    """Share of the questions; NaN where there are none."""
    types: Mapping[str, float]
    """By type, share of the questions, in the order of question_words.TYPES; none with 0."""
    answer_words: tuple[float, ...]
    """Quantiles at WORD_QUANTILES; empty without words."""


def question_facts(said: Sequence[Turns], tasks: Sequence[str]) -> QuestionFacts:
    """Tell of rows what they ask.

    Args:
        said: their questions and answers.
        tasks: theirs.
    """
    is_caption = [task == Task.CAPTION for task in tasks]
    asking: list[Turns] = [
        () if is_one else turns for turns, is_one in zip(said, is_caption, strict=True)
    ]
    words = [answer_words(turns) if turns else np.nan for turns in said]
    return QuestionFacts(
        needs_time_N=np.array([row_needs_time(turns) for turns in asking], dtype=np.float64),
        type_N=np.array([row_type(turns) for turns in asking], dtype=object),
        answer_words_N=np.array(words, dtype=np.float64),
    )


def question_shares(
    name: str, num_rows: int, facts: QuestionFacts, row_M: NDArray[np.intp]
) -> QuestionShares:
    """Count what some rows ask.

    Args:
        name: of the result.
        num_rows: of the result; more than are counted where only some are known.
        facts: of N rows.
        row_M: which of these are counted.
    """
    needs_M = facts.needs_time_N[row_M]
    needs_M = needs_M[~np.isnan(needs_M)]
    type_M = facts.type_N[row_M]
    counts = {kind: int((type_M == kind).sum()) for kind in (*TYPES, OTHER)}
    total = sum(counts.values())
    words_M = facts.answer_words_N[row_M]
    words_M = words_M[~np.isnan(words_M)]
    return QuestionShares(
        name=name,
        num_rows=num_rows,
        needs_time=float(needs_M.mean()) if len(needs_M) else float("nan"),
        types={kind: number / total for kind, number in counts.items() if number},
        answer_words=tuple(np.quantile(words_M, WORD_QUANTILES).tolist()) if len(words_M) else (),
    )
