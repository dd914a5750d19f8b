"""Boxes: read from whole and broken JSON, brought to the video's size, and compared."""

import pytest

from vxp_model.eval.benchmarks.boxes import box_iou, box_ious, boxes_of, boxes_text, read_boxes

A = (1.0, 2.0, 30.0, 40.0)
B = (5.0, 6.0, 70.0, 80.0)

READ = [
    ('{"12": [1, 2, 30, 40]}', {12: [A]}),
    ('{"12": [1, 2, 30, 40], "13": [5, 6, 70, 80]}', {12: [A], 13: [B]}),
    ('```json\n{"12": [1, 2, 30, 40]}\n```', {12: [A]}),
    ('```\n{"12": [1, 2, 30, 40]}', {12: [A]}),
    ('Here: {"12": [1, 2, 30, 40]}. Anything else?', {12: [A]}),
    ("{'12': [1, 2, 30, 40]}", {12: [A]}),
    ("{12: [1, 2, 30, 40],}", {12: [A]}),
    ('{"12": (1, 2, 30, 40)}', {12: [A]}),
    ('{"12": [[1, 2, 30, 40], [5, 6, 70, 80]]}', {12: [A, B]}),
    ('{"12": [1, 2, 30, 40], "13": [5, 6, 7', {12: [A]}),  # cut off
    ('{"12": [1, 2, 30, 40], "13": [5, 6, 70, 80}', {12: [A], 13: [B]}),
    ('[{"12": [1, 2, 30, 40]}, {"13": [5, 6, 70, 80]}]', {12: [A], 13: [B]}),
    ('[["12", [1, 2, 30, 40]]]', {12: [A]}),
    ('[{"time": 12, "bbox_2d": [1, 2, 30, 40]}]', {12: [A]}),
    ('{"boxes": {"12": [1, 2, 30, 40]}}', {12: [A]}),
    ('{"12": {"xmin": 1, "ymin": 2, "xmax": 30, "ymax": 40}}', {12: [A]}),
    ('{"12.0": [1, 2, 30, 40]}', {12: [A]}),
    ('{"12s": [1, 2, 30, 40]}', {12: [A]}),
    ('{"0:12": [1, 2, 30, 40]}', {12: [A]}),
    ('{"12": [1, 2, 30, 40], "12.0": [5, 6, 70, 80]}', {12: [A, B]}),
    ("12: [1, 2, 30, 40]\n13: [5, 6, 70, 80]", {12: [A], 13: [B]}),
    ('{"12": [30, 40, 1, 2]}', {12: [A]}),  # corners in the other order
    ('<think>{"1": [0, 0, 5, 5]}</think>{"12": [1, 2, 30, 40]}', {12: [A]}),
    ('{"12": [0.1, 0.2, 0.5, 1.0]}', {12: [(64, 72, 320, 360)]}),  # shares of the sides
    ('{"width": 320, "height": 180, "12": [1, 2, 30, 40]}', {12: [(2, 4, 60, 80)]}),
    ('```json\n{"12": [1, 2, 30, 40]}\n```\n```\n{"13": [5, 6, 70, 80]}\n```', {12: [A], 13: [B]}),
    ('```\n{"12": [5, 6, 70, 80]}\n```\nNo:\n```\n{"12": [1, 2, 30, 40]}\n```', {12: [A]}),
    ("At 12 seconds: [1, 2, 30, 40]", {12: [A]}),
    ('{"-1": [1, 2, 30, 40]}', None),
    ("", None),
    ("I see no ball.", None),
    ("[1, 2, 30, 40]", None),  # when?
    ('{"12": null}', None),
    ('{"12": [1, 2, 30]}', None),
    ('{"12": ["a", "b", "c", "d"]}', None),
    ('{"12": [1, 2, NaN, 40]}', None),
    ('{"12": [1, 2, 1e999, 40]}', None),
    ("9" * 5000, None),
    ("[" * 100_000, None),
    ('{"a":' * 5000, None),
    ("\x00\ud800", None),
]


@pytest.mark.parametrize(("reply", "boxes"), READ)
def test_a_reply_is_read_as_a_person_reads_it(reply, boxes):
    assert read_boxes(reply, size_px=(640, 360)) == boxes


def test_boxes_of_a_picture_of_another_size_are_brought_to_the_videos():
    found = read_boxes('{"3": [0, 0, 224, 112]}', size_px=(640, 360), given_size_px=(448, 448))
    assert found == {3: [(0, 0, 320, 90)]}


@pytest.mark.parametrize(
    ("one", "other", "iou"),
    [
        ((0, 0, 10, 10), (0, 0, 10, 10), 1.0),
        ((0, 0, 10, 10), (5, 0, 15, 10), 1 / 3),
        ((0, 0, 10, 10), (10, 0, 20, 10), 0.0),
        ((0, 0, 10, 10), (20, 20, 30, 30), 0.0),
        ((0, 0, 0, 0), (0, 0, 0, 0), 0.0),
    ],
)
def test_iou_is_shared_over_united_area(one, other, iou):
    assert box_iou(one, other) == box_iou(other, one) == pytest.approx(iou)


def test_the_best_of_several_boxes_counts_and_a_missing_second_is_0():
    gold = {1.0: [(0, 0, 10, 10)], 2.0: [(0, 0, 10, 10)]}
    assert box_ious(gold, {1.0: [(50, 50, 60, 60), (0, 0, 10, 5)]}) == [0.5, 0.0]


def test_boxes_are_kept_exactly():
    boxes = {12.0: [(1.0, 2.0, 1 / 3, 4.0)], 3.5: [(0.0, 0.0, 1.0, 1.0)]}
    assert boxes_of(boxes_text(boxes)) == boxes
    assert list(boxes_of(boxes_text(boxes))) == [3.5, 12.0]
    assert boxes_of(None) == boxes_of("[1]") == boxes_of('{"1": 2}') == {}
