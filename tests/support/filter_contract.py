"""What every filter must stand: rows of all kinds, with facts that are 0, unknown or usual."""

import dataclasses
import itertools

import numpy as np

from vxp_data.core.filters import FilterRule, RowFacts
from vxp_data.records import Modality, Task

SAID = [("Which?\n(A) one\n(B) two", "B")]
USUAL = {
    "duration_s_N": 12.5,
    "width_px_N": 640.0,
    "height_px_N": 360.0,
    "audio_streams_N": 1.0,
    "exact_share_N": 0.95,
    "change_N": 3.0,
    "scene_changes_N": 2.0,
    "blank_share_N": 0.25,
    "similarity_N": 0.3,
}
"""Of a file that has all of them; a new fact needs one entry here."""


def facts_of_all_kinds() -> RowFacts:
    """Return rows of every task, modality, with and without a clip and words, and facts.

    A file that does not say how wide it is has 0, a row without a clip NaN: each fact is once 0
    and once NaN beside usual ones, and all of them are.
    """
    names = list(USUAL)
    columns = [USUAL, *(dict.fromkeys(names, value) for value in (0.0, np.nan))]
    columns += [USUAL | {name: value} for name in names for value in (0.0, np.nan)]
    rows = list(itertools.product(Task, Modality, (0, -1), (SAID, []), columns))
    return RowFacts(
        sample_id=[str(number) for number in range(len(rows))],
        task=[task.value for task, *_ in rows],
        modality=[modality.value for _, modality, *_ in rows],
        index_N=np.array([index for _, _, index, _, _ in rows]),
        exchanges=[said for *_, said, _ in rows],
        **{name: np.array([column[name] for *_, column in rows]) for name in names},
    )


def check_filter(rule: FilterRule) -> None:
    """Check that a rule gives a number of its own range, or NaN, whatever is known of a row.

    Raises:
        AssertionError: it does not.
        FloatingPointError: it divides by a fact that is 0, or makes a number of none.
    """
    facts = facts_of_all_kinds()
    left = {field.name for field in dataclasses.fields(facts) if field.name.endswith("_N")}
    assert left - {"index_N"} == set(USUAL)
    with np.errstate(all="raise"):
        value_N = rule.of_rows(facts)
    assert value_N.shape == (len(facts.sample_id),)
    assert value_N.dtype == np.float64
    known_N = value_N[~np.isnan(value_N)]
    assert len(known_N), "it says nothing about any row"
    assert np.isfinite(known_N).all()
    assert (known_N >= rule.low).all()
    assert (known_N <= rule.high).all()
    nobody = np.isnan([getattr(facts, name) for name in USUAL]).all(axis=0)
    if rule.needs != "text":
        assert np.isnan(value_N[nobody]).all(), "it knows something that no file says"
