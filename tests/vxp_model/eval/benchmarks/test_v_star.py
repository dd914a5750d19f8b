"""V-STaR: five requests a row, replies scored by hand, and the figures of both chains."""

import json
import math

import pytest

from support.grounding_files import V_STAR_ROWS, write_v_star
from vxp_data.errors import UserError
from vxp_model.eval.benchmarks.base import Scored, Shown
from vxp_model.eval.benchmarks.v_star import VStar

SHOWN = Shown(time_s=(0.0,), duration_s=30.0, width_px=640, height_px=360)
BENCHMARK = VStar()
OFFICIAL = BENCHMARK.conventions["official"]


@pytest.fixture
def questions(tmp_path):
    write_v_star(tmp_path)
    return {one.question_id: one for one in BENCHMARK.questions(tmp_path)}


# Right is 4 to 8.5 s of 'x1'. (reply, IoU by hand, IoU of exactly two numbers)
WHEN = [
    ("4 - 8.5", 1.0, 1.0),
    ("From 4.0 to 8.5.", 1.0, 1.0),
    ("[4, 8.5]", 1.0, 1.0),
    ("The ball is thrown between 4 and 8.5 seconds.", 1.0, 1.0),
    ("6.25 - 8.5", 0.5, 0.5),
    ("4 - 13", 0.5, 0.5),
    ("0 - 9", 0.5, 0.5),
    ("8.5 - 10", 0.0, 0.0),
    ("8.5 - 4", 1.0, 0.0),  # theirs does not swap
    ("From 4s to 8.5s", 1.0, 0.0),  # '4s' is no number to theirs, and of '8.5s' it reads '8'
    ("0:04 - 0:08.5", 1.0, 0.0),  # four numbers
    ("The video is 30.0 seconds long. It happens from 4 to 8.5.", 1.0, 0.0),  # three numbers
    ("Start: 4\nEnd: 8.5\nDuration: 4.5", 1.0, 0.0),
    ("4 seconds", 0.0, 0.0),
    ("I cannot tell.", 0.0, 0.0),
    ("", 0.0, 0.0),
    ("2 girls and 1 ball", 0.0, 0.0),
]


@pytest.mark.parametrize(("reply", "ours", "theirs"), WHEN)
@pytest.mark.parametrize("request_name", ["when", "when2"])
def test_when_is_scored_by_hand(questions, request_name, reply, ours, theirs):
    one = questions[f"x1#0/{request_name}"]
    for rule, iou in ((BENCHMARK, ours), (OFFICIAL, theirs)):
        parsed = rule.parse(one, reply)
        assert rule.score(one, parsed) == pytest.approx(iou)


# Right is [10, 20, 110, 120] at 4, 6 and 8 s of 'x1'. (reply, mean IoU by hand, theirs)
WHOLE = "[10, 20, 110, 120]"
HALF = "[10, 20, 60, 120]"
WHERE = [
    (f'{{"4": {WHOLE}, "6": {WHOLE}, "8": {WHOLE}}}', 1.0, 1.0),
    (f'```json\n{{"4": {WHOLE}, "6": {WHOLE}, "8": {WHOLE}}}\n```', 1.0, 1.0),
    (f"{{'4': {WHOLE}, '6': {WHOLE}, '8': {WHOLE}}}", 1.0, 1.0),
    (f'{{"4": {HALF}, "6": {HALF}, "8": {HALF}}}', 0.5, 0.5),
    (f'{{"4": {WHOLE}, "6": {HALF}}}', 0.5, 0.5),
    (f'{{"4": {WHOLE}}}', 1 / 3, 1 / 3),
    (f'{{"4": [{HALF}, {WHOLE}]}}', 1 / 3, 1 / 3),
    (f'{{"5": {WHOLE}, "7": {WHOLE}}}', 0.0, 0.0),  # seconds without a box
    (f'{{"4.0": {WHOLE}, "6.0": {WHOLE}, "8.0": {WHOLE}}}', 1.0, 0.0),  # spelled otherwise
    (f'{{"4s": {WHOLE}}}', 1 / 3, 0.0),
    (f'[{{"4": {WHOLE}}}, {{"6": {WHOLE}}}, {{"8": {WHOLE}}}]', 1.0, 1.0),
    (f'[["4", {WHOLE}], ["6", {WHOLE}]]', 2 / 3, 2 / 3),
    (f'{{"4": {WHOLE}, "6": {WHOLE}', 2 / 3, 0.0),  # theirs begins at '[', then
    (f'{{"4": {WHOLE}, "6": [10, 20, 110', 1 / 3, 0.0),  # cut within a box
    (f"{{4: {WHOLE}}}", 1 / 3, 0.0),  # a bare key
    (f"4: {WHOLE}\n6: {WHOLE}", 2 / 3, 0.0),  # theirs takes it for a list of numbers
    ('{"4": [110, 120, 10, 20]}', 1 / 3, 0.0),  # corners in the other order
    ('{"4": [0.015625, 0.0555555555, 0.171875, 0.3333333333]}', 1 / 3, 0.0),  # shares
    ('{"4": [1, 2]}', 0.0, 0.0),
    ('{"4": null}', 0.0, 0.0),
    ("The ball is at the left.", 0.0, 0.0),
    ("", 0.0, 0.0),
]


@pytest.mark.parametrize(("reply", "ours", "theirs"), WHERE)
@pytest.mark.parametrize("request_name", ["where", "where2"])
def test_where_is_scored_by_hand(questions, request_name, reply, ours, theirs):
    one = questions[f"x1#0/{request_name}"]
    for rule, iou in ((BENCHMARK, ours), (OFFICIAL, theirs)):
        assert rule.score(one, rule.parse(one, reply)) == pytest.approx(iou, abs=1e-6)


def test_boxes_of_the_models_own_picture_are_scaled_where_that_is_set(questions):
    one = questions["x1#0/where"]
    reply = '{"4": [7, 24.888888889, 77, 149.333333333]}'  # of 448 x 448
    assert BENCHMARK.score(one, BENCHMARK.parse(one, reply)) < 0.2
    scaled = VStar(given_size_px=(448, 448))
    assert scaled.score(one, scaled.parse(one, reply)) == pytest.approx(1 / 3, abs=1e-6)


@pytest.mark.parametrize(
    ("judgment", "rating", "score"),
    [
        ("3", "3", 1.0),
        ("2", "2", 1.0),
        ("1", "1", 0.0),
        ("0", "0", 0.0),
        ("Rating: 2.", "2", 1.0),
        ("2/3", "2", 1.0),
        ("4", None, 0.0),
        ("2.5", None, 0.0),
        ("between 1 and 2", None, 0.0),
        ("", None, 0.0),
    ],
)
def test_what_is_right_from_a_rating_of_2(questions, judgment, rating, score):
    one = questions["x1#0/what"]
    assert BENCHMARK.needs_judge(one)
    assert BENCHMARK.judged(one, judgment) == rating
    assert BENCHMARK.score(one, rating) == score
    assert BENCHMARK.parse(one, "a red ball") is None
    assert (
        "Right answer: a red ball\nAnswer: a ball\n" in BENCHMARK.judge_prompt(one, "a ball").text
    )


def test_a_row_is_five_questions_in_the_order_of_the_chains(questions):
    assert list(questions)[:5] == [f"x1#0/{name}" for name in
                                   ("what", "when", "where", "where2", "when2")]  # fmt: skip
    assert [one.groups.get("chain") for one in questions.values()][:5] == [None, "1", "1", "2", "2"]
    assert {one.groups["duration"] for one in questions.values()} == {"Short", "Long"}
    assert questions["x2#1/when"].groups["domain"] == "Daily"


def prompt_of(questions, name, style="official"):
    return BENCHMARK.prompt(questions[name], SHOWN, style).text


def test_prompts_tell_what_is_right_of_the_others_and_no_more(questions):
    assert prompt_of(questions, "x1#0/when") == (
        "This video is 30.0 seconds long. Answer the question about the video: When does the girl "
        "throw the ball? \n Output the start and end moment timestamps."
    )
    where = prompt_of(questions, "x1#0/where")
    assert "[4, 5, 6, 7, 8]" in where
    assert "110" not in where
    where2 = prompt_of(questions, "x1#0/where2")
    assert "3 boxes" in where2
    assert "8.5" not in where2
    when2 = prompt_of(questions, "x1#0/when2")
    assert "640x360" in when2
    assert f"[{WHOLE}, {WHOLE}, {WHOLE}]" in when2
    assert "8.5" not in when2
    assert "640x360" not in where
    assert "640x360" in prompt_of(questions, "x1#0/where", "sized")


def test_videos_are_found_in_any_folder(tmp_path):
    write_v_star(tmp_path)
    (tmp_path / "some" / "part").mkdir(parents=True)
    (tmp_path / "some" / "part" / "x2.mp4").touch()
    found = {one.video for one in BENCHMARK.questions(tmp_path)}
    assert found == {"x1.mp4", "some/part/x2.mp4"}


def test_the_earlier_form_of_boxes_is_read(tmp_path, questions):
    rows = json.loads(json.dumps(V_STAR_ROWS))
    for row in rows:
        row["bboxes"] = [
            {f"{box.pop('timestamp')}_{box.pop('frame_index')}": box} for box in row["bboxes"]
        ]
    (tmp_path / "V_STaR_test.json").write_text(json.dumps(rows))
    assert {one.question_id: one for one in BENCHMARK.questions(tmp_path)} == questions


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("timestamps", [1], "'timestamps' is"),
        ("timestamps", ["a", "b"], "'timestamps' is"),
        ("fps", 0, "'fps' is"),
        ("bboxes", [{"timestamp": 1}], "'bboxes' is"),
        ("bboxes", [], "'bboxes' is"),
        ("spatial_question_2", None, "'spatial_question_2' is nothing"),
    ],
)
def test_a_wrong_row_is_told_with_its_place(tmp_path, field, value, message):
    (tmp_path / "V_STaR_test.json").write_text(json.dumps([V_STAR_ROWS[0] | {field: value}]))
    with pytest.raises(UserError, match=f"row 0: {message}"):
        list(BENCHMARK.questions(tmp_path))


REPLIES = {
    "x1#0/what": "3",
    "x2#1/what": "1",
    "x1#0/when": "[4.0, 8.5]",
    "x2#1/when": "[12.0, 14.75]",
    "x1#0/where": f'{{"4": [{HALF}], "6": [{HALF}], "8": [{HALF}]}}',
    "x2#1/where": None,
    "x1#0/when2": "[4.0, 6.25]",
    "x2#1/when2": None,
    "x1#0/where2": f'{{"4": [{WHOLE}]}}',
    "x2#1/where2": None,
}
"""What is parsed of replies, or of judgments."""


def scored_of(questions, replies=REPLIES, unanswered=()):
    return [
        Scored(
            question=questions[name],
            parsed=parsed,
            score=BENCHMARK.score(questions[name], parsed),
            is_answered=name not in unanswered,
        )
        for name, parsed in replies.items()
    ]


def values(figures):
    return {figure.name: figure.value for figure in figures}


def test_figures_worked_out_by_hand(questions):
    figures = BENCHMARK.summarise(scored_of(questions))
    found = values(figures)
    assert [figure.name for figure in figures][:4] == [
        "m_tIoU, chain 1", "R1@0.3, chain 1", "R1@0.5, chain 1", "R1@0.7, chain 1"
    ]  # fmt: skip
    by_hand = {
        "m_tIoU, chain 1": 0.75,
        "R1@0.5, chain 1": 1.0,
        "R1@0.7, chain 1": 0.5,
        "m_vIoU, chain 1": 0.25,
        "AP@0.5, chain 1": 0.5,
        "AP@0.7, chain 1": 0.0,
        "m_tIoU, chain 2": 0.25,
        "m_vIoU, chain 2": 1 / 6,
        "AP@0.9, chain 2": 1 / 6,
        "accuracy, what": 0.5,
        "AM, chain 1": 0.5,
        "AM, chain 2": (0.5 + 0.25 + 1 / 6) / 3,
        "mAM": (0.5 + (0.5 + 0.25 + 1 / 6) / 3) / 2,
        "LGM, chain 1": -(math.log(0.5) + math.log(0.25) + math.log(0.75)) / 3,
        "LGM, chain 2": -(math.log(0.5) + math.log(0.75) + math.log(5 / 6)) / 3,
        "joint what and when, chain 1": 0.5,
        "joint what and where, chain 1": 0.5,
        "joint when and where, chain 2": 0.5,
        "joint what and when and where, chain 2": 0.5,
        "m_tIoU, chain 1, domain Daily": 0.5,
        "m_vIoU, chain 1, duration Long": 0.0,
        "accuracy, what, domain Sports": 1.0,
    }
    assert {name: found[name] for name in by_hand} == pytest.approx(by_hand)
    assert found["mLGM"] == pytest.approx((found["LGM, chain 1"] + found["LGM, chain 2"]) / 2)
    counts = {figure.name: figure.num_questions for figure in figures}
    assert counts["mAM"] == len(questions)


def test_without_judgments_there_is_no_am_and_no_lgm(questions):
    replies = {name: parsed for name, parsed in REPLIES.items() if not name.endswith("what")}
    found = values(BENCHMARK.summarise(scored_of(questions, replies)))
    assert found["m_tIoU, chain 1"] == 0.75
    assert not [name for name in found if "AM" in name or "LGM" in name or "what" in name]


def test_a_figure_does_not_depend_on_the_order_of_the_questions(questions):
    scored = scored_of(questions)
    assert BENCHMARK.summarise(scored[::-1]) == BENCHMARK.summarise(scored)


def test_the_official_means_leave_out_rows_without_an_answer_to_what(questions):
    scored = scored_of(questions, unanswered=["x2#1/what"])
    found = values(OFFICIAL.summarise(scored))
    assert found["m_tIoU, chain 1"] == 1.0
    assert found["accuracy, what"] == 0.5
    assert values(BENCHMARK.summarise(scored))["m_tIoU, chain 1"] == 0.75
