"""Charades-STA: its two files, its prompt, and replies scored by hand."""

import json

import pytest

from support.grounding_files import write_charades_sta
from vxp_data.errors import UserError
from vxp_model.eval.benchmarks.base import Question, Scored, Shown
from vxp_model.eval.benchmarks.charades_sta import CharadesSta

SHOWN = Shown(time_s=(0.0,), duration_s=30.0, width_px=480, height_px=360)
BENCHMARK = CharadesSta()
LMMS_EVAL = BENCHMARK.conventions["lmms-eval"]

# (right moment, reply, IoU by hand, IoU as lmms-eval reads the reply)
SCORED = [
    ((10, 20), "10 - 20", 1.0, 1.0),
    ((10, 20), "The event happens in the 10.0 - 20.0 seconds.", 1.0, 1.0),
    ((10, 20), "The event 'person turns to a door' happens in the 15 - 20 seonds", 0.5, 0.5),
    ((10, 20), "15 to 25", 1 / 3, 1 / 3),
    ((10, 20), "from 0 to 20 seconds", 0.5, 0.5),
    ((10, 20), "0 - 40", 0.25, 0.25),
    ((10, 20), "20 - 30", 0.0, 0.0),
    ((10, 20), "20 - 10", 1.0, 1.0),
    ((10, 20), "between 10 and 20 seconds", 1.0, 0.0),  # theirs knows no 'between'
    ((10, 20), "It starts at 10 seconds.\nIt ends at 20 seconds.", 1.0, 1.0),
    ((10, 20), "The event starts at 10 s and ends at 20 s.", 1.0, 0.0),  # one time a sentence
    ((10, 20), "0:10 - 0:20", 1.0, 0.0),  # theirs: '10 - 0', which is 0 to 10
    ((10, 20), "00:00:10 - 00:00:20", 1.0, 0.0),  # theirs: '10 - 00'
    ((10, 20), "starts at 00:00:10?\nends at 00:00:20", 1.0, 0.0),  # theirs: '00' and '00'
    ((10, 20), "[10.0, 20.0]", 1.0, 0.0),
    ((10, 20), "10s - 20s", 1.0, 0.0),  # theirs stumbles over the s
    ((10, 20), "10 seconds to 20 seconds", 1.0, 0.0),
    ((10, 20), "10 \u2013 20", 1.0, 0.0),  # an en dash
    ((10, 20), "10 - 15, then 18 - 20", 0.5, 0.5),
    ((10, 20), "The video is 30 seconds long. The event happens in 10 - 20.", 1.0, 1.0),
    ((10, 20), "The event happens at 10 seconds.", 0.0, 0.0),
    ((10, 20), "I cannot find it.", 0.0, 0.0),
    ((10, 20), "", 0.0, 0.0),
    ((10, 20), "Person 1 takes 2 cups", 0.0, 0.0),
    ((10, 20), "3..5 - 9", 0.0, 0.0),
    ((24.3, 30.4), "24.3 - 30.4", 1.0, 1.0),
    ((24.3, 30.4), "24 - 30.4", 6.1 / 6.4, 6.1 / 6.4),
    ((0, 6.9), "0.0 - 3.45", 0.5, 0.5),
    ((0, 10), "0 - 3", 0.3, 0.3),
    ((0, 10), "5 - 10", 0.5, 0.5),
    ((0, 10), "3 - 10", 0.7, 0.7),
    ((0, 10), "3.1 - 10", 0.69, 0.69),
    ((0, 10), "from the 0 second mark up to the 10 second mark", 1.0, 0.0),
    ((70, 80), "1:10 to 1:20", 1.0, 0.0),
    ((70, 80), "1 min 10 s to 1 min 20 s", 1.0, 0.0),
]


def question(right):
    return Question(question_id="a", video="a.mp4", text="a person runs.", gold=json.dumps(right))


@pytest.mark.parametrize(("right", "reply", "ours", "theirs"), SCORED)
def test_a_reply_scored_by_hand(right, reply, ours, theirs):
    one = question(right)
    for rule, iou in ((BENCHMARK, ours), (LMMS_EVAL, theirs)):
        assert rule.score(one, rule.parse(one, reply)) == pytest.approx(iou, abs=1e-9)


def test_r1_counts_what_just_reaches_a_threshold_and_what_is_unread_as_0():
    replies = ["0 - 3", "5 - 10", "3 - 10", "3.1 - 10", "no idea"]
    one = question((0, 10))
    scored = []
    for reply in replies:
        parsed = BENCHMARK.parse(one, reply)
        scored.append(Scored(question=one, parsed=parsed, score=BENCHMARK.score(one, parsed)))
    figures = {figure.name: figure.value for figure in BENCHMARK.summarise(scored)}
    assert figures == {
        "mIoU": pytest.approx((0.3 + 0.5 + 0.7 + 0.69) / 5),
        "R1@0.3": 0.8,
        "R1@0.5": 0.6,
        "R1@0.7": 0.2,
    }


def test_the_text_file_is_read_as_it_is(tmp_path):
    write_charades_sta(tmp_path)
    questions = list(BENCHMARK.questions(tmp_path))
    assert [(one.question_id, one.video, one.gold) for one in questions] == [
        ("AB1CD/1", "Charades_v1_480/AB1CD.mp4", "[24.3, 30.4]"),
        ("AB1CD/2", "Charades_v1_480/AB1CD.mp4", "[0.0, 6.9]"),
        ("EF2GH/1", "Charades_v1_480/EF2GH.mp4", "[3.5, 12.0]"),
        ("EF2GH/2", "Charades_v1_480/EF2GH.mp4", "[20.0, 33.1]"),
    ]


@pytest.mark.parametrize("name", ["charades_sta_test.json", "charades_sta_test.jsonl"])
def test_the_form_of_json_gives_the_same_questions(tmp_path, name):
    write_charades_sta(tmp_path)
    text = tmp_path / "charades_sta_test.txt"
    from_text = list(BENCHMARK.questions(tmp_path))
    rows = []
    for line in text.read_text().splitlines():
        place, _, caption = line.partition("##")
        video, start, end = place.split()
        times = [float(start), float(end)]
        rows.append({"video": f"{video}.mp4", "caption": caption, "timestamp": times})
    text.unlink()
    whole = json.dumps(rows) if name.endswith("json") else "\n".join(map(json.dumps, rows))
    (tmp_path / name).write_text(whole)
    assert list(BENCHMARK.questions(tmp_path)) == from_text


def test_the_prompt_is_that_of_lmms_eval(tmp_path):
    write_charades_sta(tmp_path)
    one = next(BENCHMARK.questions(tmp_path))
    prompt = BENCHMARK.prompt(one, SHOWN, "lmms-eval")
    assert prompt.max_new_tokens == 50
    assert "'The event happens in the start time - end time'" in prompt.text
    assert prompt.text.endswith("person opens a door.. Please return its start time and end time.")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("AB1CD 24.3##person runs.", r"charades_sta_test.txt, line 2: got 'AB1CD 24.3##person"),
        ("AB1CD 9.0 3.0##person runs.", "line 2: the moment ends at 3 s, before it begins at 9 s"),
    ],
)
def test_a_wrong_line_is_told_with_its_place(tmp_path, line, message):
    (tmp_path / "charades_sta_test.txt").write_text(f"AB1CD 0.0 3.0##person runs.\n{line}\n")
    with pytest.raises(UserError, match=message):
        list(BENCHMARK.questions(tmp_path))


def test_a_row_without_two_times_is_told(tmp_path):
    row = {"video": "a.mp4", "caption": "b", "timestamp": [1]}
    (tmp_path / "charades_sta_test.json").write_text(json.dumps([row]))
    with pytest.raises(UserError, match="row 0: 'timestamp' is"):
        list(BENCHMARK.questions(tmp_path))


def test_rounded_times_of_parquet_are_refused(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "test-0.parquet").touch()
    with pytest.raises(
        UserError, match=r"times are rounded to float16\. Get charades_sta_test.txt"
    ):
        list(BENCHMARK.questions(tmp_path))


def test_a_folder_without_files_is_told_what_it_needs(tmp_path):
    with pytest.raises(UserError, match=r"no charades_sta_test.txt in it .*jiyanggao/TALL"):
        list(BENCHMARK.questions(tmp_path))
