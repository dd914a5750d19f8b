"""Moments: read from replies as a person would, compared, and what is told of many."""

import math

import pytest

from support.published_answers import published
from vxp_model.eval.benchmarks.base import Question, Scored
from vxp_model.eval.benchmarks.intervals import (
    best_iou,
    interval_figures,
    interval_iou,
    interval_of,
    interval_text,
    read_interval,
    recall_at,
    seconds_of,
)

READ = [
    ("24.3 - 30.4", (24.3, 30.4)),
    ("24.3-30.4", (24.3, 30.4)),
    ("24.3 \u2013 30.4 seconds", (24.3, 30.4)),
    ("12.5s - 17s", (12.5, 17.0)),
    ("12.5 seconds to 17 seconds.", (12.5, 17.0)),
    ("from 12 to 17", (12.0, 17.0)),
    ("3.0to5.0", (3.0, 5.0)),
    ("between 12 and 17", (12.0, 17.0)),
    ("Between about 0:12 and 0:17.", (12.0, 17.0)),
    ("0:12-0:17.5", (12.0, 17.5)),
    ("00:00:18 \u2013 00:00:23", (18.0, 23.0)),
    ("1:02:03-1:02:10", (3723.0, 3730.0)),
    ("1 min 5 s to 1 min 20 s", (65.0, 80.0)),
    ("1.5 minutes to 2 minutes", (90.0, 120.0)),
    ("The event 'person turns to the door' happens in the 3.1 - 9.0 seonds.", (3.1, 9.0)),
    ("starts at 12 seconds and ends at 17 seconds", (12.0, 17.0)),
    ("It ends at 17 and starts at 12.", (12.0, 17.0)),
    ("Start: 12.0\nEnd: 17.0", (12.0, 17.0)),
    ("1. Starting time: 0.8 seconds\n2. Ending time: 1.1 seconds", (0.8, 1.1)),
    ('{"start": 3, "end": 9}', (3.0, 9.0)),
    ("[12.0, 17.5]", (12.0, 17.5)),
    ("(3.0,4.5)", (3.0, 4.5)),
    ("12,5 - 17,5", (12.5, 17.5)),
    ("12 17", (12.0, 17.0)),
    ("12 s, 17 s", (12.0, 17.0)),
    ("17 - 12", (12.0, 17.0)),
    ("**12.0** to **17.0**", (12.0, 17.0)),
    ("From <t>12.0</t>s to <t>17.0</t>s", (12.0, 17.0)),
    ("<think>perhaps 1 - 2</think>3 - 4", (3.0, 4.0)),
    ("The video is 30 seconds long. It happens from 3 to 8.", (3.0, 8.0)),
    ("For 5 seconds, from 3 to 8.", (3.0, 8.0)),
    ("0 - 5 and 10 - 15", (0.0, 5.0)),
    ("from second 3 to second 9", (3.0, 9.0)),
    ("around 3 to about 9 seconds", (3.0, 9.0)),
    ("from the 12 second mark up to the 17 second mark", (12.0, 17.0)),
    ("from the 12th second to the 17th second", (12.0, 17.0)),
    ("12th to 17th second", (12.0, 17.0)),
    ("<12.0> - <17.0>", (12.0, 17.0)),
    ("00:00:12,500 --> 00:00:17,000", (12.5, 17.0)),
    ("t=3 to t = 5", (3.0, 5.0)),
    ("from 3 to 5 to 7", (3.0, 5.0)),
    ("1 minute 20 seconds to 1 minute 40 seconds", (80.0, 100.0)),
    ("1 minute 20 seconds", None),
    ("the 2nd person, the 3rd cup", None),
    ("\u25c1think\u25b71 - 2\u25c1/think\u25b73 - 4", (3.0, 4.0)),
    ("<thinking>1 - 2</thinking>3 - 4", (3.0, 4.0)),
    ("", None),
    ("I cannot tell.", None),
    ("12", None),
    ("at 0:12", None),
    ("3, 7 and 9", None),
    ("frames 12-17", None),
    ("50% - 60%", None),
    ("2 men with 3 cups", None),
    ("person 1 and person 2", None),
    ("starts at 3 seconds and lasts 5 seconds", None),
    ("The video is 30 seconds long and it begins at 12 seconds.", None),
    ("[-5, 3]", None),
    ("<think>perhaps 1 - 2", None),
    ("9" * 5000, None),
    ("9" * 5000 + " - 4", None),
    ("\x00\ud800", None),
]


@pytest.mark.parametrize(("reply", "moment"), READ)
def test_a_reply_is_read_as_a_person_reads_it(reply, moment):
    assert read_interval(reply) == moment


@pytest.mark.parametrize("piece", ["1 m ", "for ", "1-", "-", "1 2 ", "start ", "\n "])
def test_a_long_reply_is_read_in_a_moment(piece):
    read_interval(piece * 3000)  # the time limit of tests is what it is held against


@pytest.mark.parametrize(
    ("text", "second"),
    [("12", 12.0), ("12.5 s", 12.5), ("1:02.5", 62.5), ("2 min 3 s", 123.0), ("x", None)],
)
def test_one_time_is_read(text, second):
    assert seconds_of(text) == second


@pytest.mark.parametrize(
    ("one", "other", "iou"),
    [
        ((0, 10), (5, 10), 0.5),
        ((0, 10), (0, 10), 1.0),
        ((0, 5), (5, 10), 0.0),
        ((0, 1), (9, 10), 0.0),
        ((10, 0), (0, 10), 0.0),  # ends before it starts
        ((3, 3), (3, 3), 1.0),
        ((3, 3), (0, 6), 0.0),
    ],
)
def test_iou_is_overlap_over_extent(one, other, iou):
    assert interval_iou(one, other) == interval_iou(other, one) == iou


def test_the_best_of_several_windows_counts():
    assert best_iou((0, 10), [[100, 200], [5, 10], [0, 2]]) == 0.5
    assert best_iou(None, [[0, 1]]) == 0.0
    assert best_iou((0, 10), []) == 0.0


def test_a_threshold_that_is_just_reached_counts():
    assert recall_at([0.5, 0.49, 0.7], 0.5) == 2 / 3
    assert math.isnan(recall_at([], 0.5))


def test_a_moment_is_kept_exactly():
    assert interval_of(interval_text((0.1 + 0.2, 1 / 3))) == (0.1 + 0.2, 1 / 3)
    assert interval_of("none") is None
    assert interval_of("[1]") is None
    assert interval_of(None) is None


def test_figures_are_the_mean_and_the_shares_that_reach_thresholds():
    question = Question(question_id="a", video="a.mp4", text="when", gold="[0, 1]")
    scored = [Scored(question=question, parsed=None, score=iou) for iou in (0.3, 0.5, 0.0, 1.0)]
    figures = interval_figures(scored, suffix=", chain 1", mean_name="m_tIoU")
    assert [(figure.name, figure.value) for figure in figures] == [
        ("m_tIoU, chain 1", 0.45),
        ("R1@0.3, chain 1", 0.75),
        ("R1@0.5, chain 1", 0.5),
        ("R1@0.7, chain 1", 0.25),
    ]


def test_the_published_recall_of_qvhighlights_is_met():
    for entry, rows in published("qvhighlights"):
        ious = [best_iou(row["predicted"], row["gold"]) for row in rows]
        found = {
            threshold: round(100 * recall_at(ious, float(threshold)), 2)
            for threshold in entry["published_r1"]
        }
        assert found == entry["published_r1"]
