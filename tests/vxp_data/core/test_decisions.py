"""Decisions: every sample ends once, with its reason; the accounting sees when one does not."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vxp_data.core.decisions import (
    Accounting,
    Decisions,
    SampleColumns,
    account,
    check_tasks,
    decide,
)
from vxp_data.core.similarity import EFFECTIVE_FRAMES, MEAN_PAIRWISE
from vxp_data.core.thresholds import ThresholdSpec
from vxp_data.errors import UserError
from vxp_data.records import Modality, Outcome, Reason, outcome_of

NAN = math.nan
HALF = ThresholdSpec("share", 0.5)


def columns(*rows):
    """Build columns from rows of (sample_id, task, modality, reason, media_reason, score)."""
    names = ("sample_id", "task", "modality", "reason", "media_reason", "score")
    values = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
    return SampleColumns(**{**values, "score": np.array(values["score"], dtype=np.float64)})


def rows_of(decisions):
    return list(
        zip(
            decisions.decision.tolist(),
            decisions.reason.tolist(),
            decisions.score.tolist(),
            decisions.threshold.tolist(),
            strict=True,
        )
    )


def made(*pairs):
    """Build decisions from (decision, reason)."""
    decision, reason = (np.array(column, dtype=np.object_) for column in zip(*pairs, strict=True))
    nan_N = np.full(len(pairs), NAN)
    return Decisions(decision=decision, reason=reason, score=nan_N, threshold=nan_N)


def test_every_kind_of_row_ends_where_it_should_in_input_order():
    samples = columns(
        ("v1", "caption", "video", "", "", 0.9),
        ("q1", "caption", "video", "bad_row", "corrupt", NAN),
        ("t1", "caption", "text", None, None, NAN),
        ("v2", "open_ended", "video", "", "", 0.95),
        ("v3", "caption", Modality.VIDEO, None, "", 0.2),
        ("i1", "caption", "image", "", "", 1.0),
        ("q2", "caption", "image", "", Reason.MISSING, NAN),
        ("q3", "", "", Reason.BAD_ROW, None, 0.1),
        ("v4", "open_ended", "video", "", "", 0.9),
    )
    decisions = decide(
        samples,
        thresholds={"open_ended": ThresholdSpec("fixed", 0.92)},
        default=HALF,
        measure=MEAN_PAIRWISE,
    )
    expected = [
        ("prune", "redundant", 0.9, 0.2),
        ("quarantine", "bad_row", NAN, NAN),
        ("keep", "text_only", NAN, NAN),
        ("prune", "redundant", 0.95, 0.92),
        ("keep", "within_threshold", 0.2, 0.2),
        ("keep", "image", 1.0, NAN),
        ("quarantine", "missing", NAN, NAN),
        ("quarantine", "bad_row", 0.1, NAN),
        ("keep", "within_threshold", 0.9, 0.92),
    ]
    assert repr(rows_of(decisions)) == repr(expected)  # repr: NaN equals NaN, members differ
    accounting = account(decisions, samples)
    accounting.check()
    assert accounting == Accounting(
        9,
        {
            ("", "quarantine", "bad_row"): 1,
            ("caption", "keep", "image"): 1,
            ("caption", "keep", "text_only"): 1,
            ("caption", "keep", "within_threshold"): 1,
            ("caption", "prune", "redundant"): 1,
            ("caption", "quarantine", "bad_row"): 1,
            ("caption", "quarantine", "missing"): 1,
            ("open_ended", "keep", "within_threshold"): 1,
            ("open_ended", "prune", "redundant"): 1,
        },
    )
    assert accounting.per_task() == {
        "": {"keep": 0, "prune": 0, "duplicate": 0, "quarantine": 1},
        "caption": {"keep": 3, "prune": 1, "duplicate": 0, "quarantine": 2},
        "open_ended": {"keep": 1, "prune": 1, "duplicate": 0, "quarantine": 0},
    }
    assert accounting.per_reason() == {
        "bad_row": 2,
        "image": 1,
        "missing": 1,
        "redundant": 2,
        "text_only": 1,
        "within_threshold": 2,
    }


def test_rows_of_one_video_and_one_task_are_cut_apart_only_by_their_ids():
    samples = columns(*((name, "caption", "video", "", "", 0.5) for name in ("d", "b", "c", "a")))
    decisions = decide(samples, thresholds={}, default=HALF, measure=MEAN_PAIRWISE)
    assert decisions.decision.tolist() == ["prune", "keep", "prune", "keep"]


def test_a_measure_that_is_redundant_when_low_keeps_the_high_scores():
    samples = columns(*((name, "x", "video", "", "", float(name)) for name in ("3", "5", "7")))
    decisions = decide(
        samples, thresholds={}, default=ThresholdSpec("fixed", 5.0), measure=EFFECTIVE_FRAMES
    )
    assert rows_of(decisions) == [
        ("prune", "redundant", 3.0, 5.0),
        ("keep", "within_threshold", 5.0, 5.0),
        ("keep", "within_threshold", 7.0, 5.0),
    ]


def test_no_samples_give_no_decisions():
    empty = SampleColumns(
        sample_id=[], task=[], modality=[], reason=[], media_reason=[], score=np.array([])
    )
    decisions = decide(empty, thresholds={}, default=HALF, measure=MEAN_PAIRWISE)
    account(decisions, empty).check()
    assert rows_of(decisions) == []


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("bad", "x", "video", "", "", NAN), r"'bad' is a video with no score or reason \(1 of 2"),
        (("bad", "x", "audio", "", "", 0.1), r"'bad' has no known modality \(1 of 2"),
    ],
)
def test_a_row_that_no_stage_accounted_for_is_our_bug_and_named(row, message):
    samples = columns(("good", "x", "video", "", "", 0.5), row)
    with pytest.raises(RuntimeError, match=message):
        decide(samples, thresholds={}, default=HALF, measure=MEAN_PAIRWISE)


def test_columns_of_different_length_are_refused():
    with pytest.raises(ValueError, match=r"same length, got \{'sample_id': 1, 'task': 2"):
        SampleColumns(
            sample_id=["a"],
            task=["x", "x"],
            modality=["text"],
            reason=[""],
            media_reason=[""],
            score=np.array([NAN]),
        )


def test_a_threshold_for_a_task_that_no_row_has_is_refused():
    check_tasks({"caption": HALF}, ["caption", "open_ended"])
    with pytest.raises(UserError, match=r"task in thresholds 'captoin'\. Did you mean 'caption'"):
        check_tasks({"captoin": HALF}, ["caption", "open_ended"])


KEEP = ("keep", "within_threshold")


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([KEEP], "1 samples of task 'x' have outcome '' with reason ''"),
        ([KEEP, KEEP, KEEP], "2 samples came in, 3 are accounted for"),
        ([KEEP, ("keep", "redundant")], "outcome 'keep' with reason 'redundant'"),
        ([KEEP, ("prune", "timeout")], "outcome 'prune' with reason 'timeout'"),
        ([KEEP, ("quarantine", "image")], "outcome 'quarantine' with reason 'image'"),
        ([KEEP, ("duplicate", "redundant")], "outcome 'duplicate' with reason 'redundant'"),
        ([KEEP, ("kept", "within_threshold")], "outcome 'kept'"),
        ([KEEP, ("quarantine", "")], "outcome 'quarantine' with reason ''"),
    ],
)
def test_accounting_sees_a_lost_a_doubled_and_a_misnamed_row(pairs, message):
    samples = columns(*((name, "x", "video", "", "", 0.5) for name in "ab"))
    with pytest.raises(RuntimeError, match=f"{message}.*this is a bug in a stage"):
        account(made(*pairs), samples).check()


def test_accounting_sees_counts_that_do_not_add_up():
    with pytest.raises(RuntimeError, match=r"5 samples came in, 4 are accounted for .*'keep': 4"):
        Accounting(5, {("x", *KEEP): 4}).check()


samples_rows = st.tuples(
    st.sampled_from(["caption", "multiple_choice", "mine"]),
    st.sampled_from([m.value for m in Modality]),
    st.sampled_from(["", "", "", None, "bad_row"]),
    st.sampled_from(["", "", "", "missing", "timeout"]),
    st.sampled_from([0.0, 0.5, 0.5, 0.75, 1.0]),
)


@settings(deadline=None)
@given(
    rows=st.lists(samples_rows, min_size=1, max_size=40),
    spec=st.sampled_from([HALF, ThresholdSpec("count", 3), ThresholdSpec("fixed", 0.5)]),
)
def test_any_heap_is_accounted_for_and_each_subset_cut_alone(rows, spec):
    samples = columns(*((f"s{(7 * i) % 41:02d}", *row) for i, row in enumerate(rows)))
    decisions = decide(samples, thresholds={"mine": HALF}, default=spec, measure=MEAN_PAIRWISE)
    account(decisions, samples).check()
    assert decisions.decision.tolist() == brute_force(samples, {"mine": HALF}, spec)


def brute_force(samples, thresholds, default):
    """Each row on its own: its rank among the scored rows of its task, by (score, id)."""
    videos = [
        (samples.score[i], samples.sample_id[i], samples.task[i])
        for i in range(len(samples))
        if samples.modality[i] == "video" and not samples.reason[i] and not samples.media_reason[i]
    ]
    outcomes = []
    for i in range(len(samples)):
        if samples.reason[i] or samples.media_reason[i]:
            outcomes.append(Outcome.QUARANTINE)
            continue
        if samples.modality[i] != "video":
            outcomes.append(Outcome.KEEP)
            continue
        spec = thresholds.get(samples.task[i], default)
        subset = sorted(video for video in videos if video[2] == samples.task[i])
        rank = subset.index((samples.score[i], samples.sample_id[i], samples.task[i]))
        kept = {
            "fixed": samples.score[i] <= spec.value,
            "count": rank < spec.value,
            "share": rank < math.floor(spec.value * len(subset) + 0.5),
        }[spec.policy]
        outcomes.append(Outcome.KEEP if kept else Outcome.PRUNE)
    return outcomes


def dropped(*reasons):
    rows = [(str(i), "caption", "video", "", "", 0.5) for i in range(len(reasons))]
    return dataclasses.replace(columns(*rows), dropped=list(reasons))


def test_rows_that_are_dropped_end_by_their_reason_also_by_a_filters_own():
    samples = dropped("filter:too_dark", "static", "near_duplicate", "", None)
    decisions = decide(samples, thresholds={}, default=HALF, measure=MEAN_PAIRWISE)
    assert [row[:2] for row in rows_of(decisions)] == [
        ("prune", "filter:too_dark"),
        ("prune", "static"),
        ("duplicate", "near_duplicate"),
        ("keep", "within_threshold"),
        ("prune", "redundant"),
    ]
    accounting = account(decisions, samples)
    accounting.check()
    assert accounting.per_reason()["filter:too_dark"] == 1


@pytest.mark.parametrize("reason", ["too_dark", "filter:", "filter:Too dark", "redundant", "empty"])
def test_rows_are_not_dropped_for_what_is_no_reason_to_drop(reason):
    with pytest.raises(RuntimeError, match=rf"'{reason}' is no reason for which rows are dropped"):
        decide(dropped(reason), thresholds={}, default=HALF, measure=MEAN_PAIRWISE)


@pytest.mark.parametrize("outcome", sorted({*Outcome} - {Outcome.PRUNE}))
def test_a_filters_own_reason_belongs_to_no_outcome_but_prune(outcome):
    samples = dropped("filter:too_dark")
    account(made(("prune", "filter:too_dark")), samples).check()
    with pytest.raises(RuntimeError, match="'filter:too_dark', which does not belong to it"):
        account(made((outcome.value, "filter:too_dark")), samples).check()


def test_every_reason_belongs_to_exactly_one_outcome():
    assert {outcome_of(reason) for reason in Reason} == set(Outcome)
    assert [outcome_of(name) for name in ("", "too_dark", "filter:")] == [None, None, None]
