"""Rules of questions: what is asked, by itself and beside what other rows ask.

Shapes: N rows of a run, in order.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from vxp_data.core import text_rules
from vxp_data.core.filter_rules.texts import by_text
from vxp_data.core.filters import FilterRule, RowFacts
from vxp_data.core.question_words import NO_TYPE, OTHER, row_needs_time, row_type
from vxp_data.core.seeds import hash64
from vxp_data.records import Reason, Task


def _repeats(facts: RowFacts) -> NDArray[np.float64]:
    """Count the rows about the same clips that ask the same and come before, by sample id."""
    places: dict[str, list[int]] = {}  # a row with several media has one for each
    for place, sample_id in enumerate(facts.sample_id):
        places.setdefault(sample_id, []).append(place)
    seen: dict[tuple[tuple[int, ...], tuple[str, ...]], int] = {}
    value_N = np.full(len(facts.sample_id), np.nan)
    for _, own in sorted(places.items()):
        about, said = tuple(facts.index_N[own].tolist()), facts.exchanges[own[0]]
        if min(about) < 0 or not said:
            continue
        is_caption = facts.task[own[0]] == Task.CAPTION.value  # many prompts, one question
        asked = tuple(text_rules.plain(a if is_caption else q) for q, a in said)
        times = seen.get((about, asked), 0)
        value_N[own], seen[about, asked] = times, times + 1
    return value_N


def _needs_time(facts: RowFacts) -> NDArray[np.float64]:
    is_caption_N = np.array([task == Task.CAPTION for task in facts.task], np.bool_)
    return np.where(is_caption_N, np.nan, by_text(row_needs_time)(facts))


def _type_share(facts: RowFacts) -> NDArray[np.float64]:
    """Return what share of its task's questions a row's type has, with the row as its last.

    Rows of a type are drawn in an order of their own. Where each type has at most r rows, the
    largest has the share r / sum(min(n, r) for n rows of each type), which no larger r makes less:
    so all rows up to a value are a set in which no type has a larger share than that.
    """
    value_N = np.full(len(facts.sample_id), np.nan)
    rows: dict[str, dict[str, list[int]]] = {}  # by task and type
    row_of: dict[str, int] = {}  # of a row with several media the first place
    for row, (sample_id, task) in enumerate(zip(facts.sample_id, facts.task, strict=True)):
        if task == Task.CAPTION or row_of.setdefault(sample_id, row) != row:
            continue
        if (kind := row_type(facts.exchanges[row])) not in (NO_TYPE, OTHER):
            rows.setdefault(task, {}).setdefault(kind, []).append(row)
    for types in rows.values():
        sizes = np.array([len(mine) for mine in types.values()])
        rank_R = np.arange(1, sizes.max() + 1)
        left_R = np.minimum(sizes[:, None], rank_R).sum(axis=0)
        share_R = np.where(rank_R <= sizes.min(), 0.0, rank_R / left_R)
        for mine in types.values():
            drawn = sorted(mine, key=lambda row: _draw(facts.sample_id[row]))
            value_N[drawn] = share_R[: len(drawn)]
    return np.array([value_N[row_of[name]] if name in row_of else np.nan
                     for name in facts.sample_id], dtype=np.float64)  # fmt: skip


def _draw(sample_id: str) -> tuple[int, str]:
    return hash64("question_type", sample_id), sample_id


OPTIONS: Final = FilterRule(
    name="options", version=1, unit="options", low=0.0, high=np.inf,
    below=Reason.NO_OPTIONS, above=None, needs="text",
    of_rows=by_text(text_rules.fewest_options, Task.MULTIPLE_CHOICE),
)  # fmt: skip
"""Options of a multiple-choice row's question; of several questions, of the one with fewest."""

WRONG_LETTERS: Final = FilterRule(
    name="wrong_letters", version=1, unit="answers", low=0.0, high=np.inf,
    below=None, above=Reason.ANSWER_NOT_AN_OPTION, needs="text",
    of_rows=by_text(text_rules.wrong_letters, Task.MULTIPLE_CHOICE),
)  # fmt: skip
"""Answers that name a letter without an option, or another option's words."""

LEAKED_ANSWERS: Final = FilterRule(
    name="leaked_answers", version=1, unit="questions", low=0.0, high=np.inf,
    below=None, above=Reason.ANSWER_IN_QUESTION, needs="text",
    of_rows=by_text(text_rules.leaked_answers),
)  # fmt: skip
"""Questions that tell their answer: 'Answer: B'."""

REPEATS: Final = FilterRule(
    name="repeats", version=2, unit="rows", low=0.0, high=np.inf,
    below=None, above=Reason.REPEATED_QUESTION, needs="text", of_rows=_repeats,
    of_what_stays=True,
)  # fmt: skip
"""Rows about the same clip (of several media: the same ones in the same order) that ask the same
(captions: say the same), have a lesser id, and stay after the other filters."""

NEEDS_TIME: Final = FilterRule(
    name="needs_time", version=1, unit="0 or 1", low=0.0, high=1.0,
    below=Reason.NEEDS_NO_TIME, above=None, needs="text", of_rows=_needs_time,
)  # fmt: skip
"""1 where one of a row's questions has words about order, moments, change or repetition (English,
`core.question_words.TIME_WORDS`), else 0; captions ask nothing and stay."""

QUESTION_TYPE_SHARE: Final = FilterRule(
    name="question_type_share", version=1, unit="share of the task's questions", low=0.0, high=1.0,
    below=None, above=Reason.QUESTION_TYPE_EXCESS, needs="text", of_rows=_type_share,
    of_what_stays=True,
)  # fmt: skip
"""Share that a row's type (`core.question_words.TYPES`) has of its task's typed questions with this
row as its last, rows of a type in a drawn order; 0 while all types have as many"""
