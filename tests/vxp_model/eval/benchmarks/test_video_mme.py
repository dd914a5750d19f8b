"""Video-MME: rows, prompts with and without subtitles, splits."""

import pytest

from support.benchmark_contract import SHOWN
from support.benchmark_files import SHAPES, video_mme_rows, write_json, write_video_mme
from vxp_model.errors import UserError
from vxp_model.eval.benchmarks.base import Scored, Shown, SubtitleLine, Subtitles
from vxp_model.eval.benchmarks.subtitles import read_subtitles
from vxp_model.eval.benchmarks.video_mme import VideoMme, VideoMmeSubtitles

ASKED = (
    "Select the best answer to the following multiple-choice question based on the video. Respond "
    "with only the letter (A, B, C, or D) of the correct option.\nWhat is drawn on the wall?\n"
    "A. It is a circle.\nB. It is a square.\nC. It is a star.\nD. It is a cross.\n"
)


@pytest.fixture
def questions(tmp_path):
    write_video_mme(tmp_path)
    return list(VideoMmeSubtitles().questions(tmp_path))


def test_rows_become_questions(questions):
    first = questions[0]
    assert first.question_id == "000-0"
    assert first.video == "data/aBcD.mp4"
    assert first.options == tuple(f"It is {shape}." for shape in SHAPES)
    assert first.gold == "A"
    assert first.groups == {
        "duration": "short",
        "domain": "Knowledge",
        "sub_category": "Geography",
        "task": "OCR Problems",
    }
    assert first.subtitles == Subtitles(path="subtitle/aBcD.srt")
    assert len(questions) == 6
    assert len({one.video for one in questions}) == 2


def test_json_rows_are_read_too_and_subtitles_are_not_asked_for(tmp_path):
    write_json(tmp_path / "videomme.json", video_mme_rows())
    assert {one.subtitles for one in VideoMme().questions(tmp_path)} == {None}


def test_the_makers_prompt_and_that_of_lmms_eval(questions):
    prompt = VideoMme().prompt(questions[0], SHOWN[0], "official")
    assert prompt.text == f"{ASKED}The best answer is:"
    assert prompt.choices == tuple("ABCD")
    theirs = VideoMme().prompt(questions[0], SHOWN[0], "lmms-eval").text
    assert "based on the video and the subtitles. Respond" in theirs
    assert theirs.endswith(
        "D. It is a cross.\n\nAnswer with the option's letter from the given choices directly."
    )


def shown(*lines, times=(0.0, 1.0, 2.0)):
    subtitles = tuple(SubtitleLine(start_s=s, end_s=e, text=text) for s, e, text in lines)
    return Shown(time_s=times, duration_s=4.0, width_px=64, height_px=48, subtitles=subtitles)


def test_lines_on_screen_stand_before_the_question_in_time_order(questions):
    seen = shown((0.0, 1.5, "One."), (1.2, 1.8, "Between."), (1.5, 3.0, "Two."))
    prompt = VideoMmeSubtitles().prompt(questions[0], seen, "official")
    assert prompt.text.startswith(
        "This video's subtitles are listed below:\nOne.\nTwo.\nSelect the best answer to the "
        "following multiple-choice question based on the video and the subtitles. Respond"
    )
    assert prompt.timed_texts == ()


def test_without_subtitles_the_prompt_is_the_plain_one(questions):
    official = VideoMmeSubtitles().prompt(questions[0], SHOWN[0], "official")
    assert official == VideoMme().prompt(questions[0], SHOWN[0], "official")
    unseen = VideoMmeSubtitles().prompt(questions[0], shown((3.0, 4.0, "Late.")), "official")
    assert unseen == official
    theirs = VideoMmeSubtitles().prompt(questions[0], SHOWN[0], "lmms-eval").text
    assert theirs.startswith(
        "This video's subtitles are listed below: \nNo subtitles available\nSelect"
    )
    assert theirs.endswith("The best answer is:")


def test_tagged_and_plain_subtitles_are_both_shown(questions, tmp_path):
    lines = read_subtitles(tmp_path / questions[0].subtitles.path, 0.0, 4.0)
    seen = Shown(time_s=(0, 2), duration_s=4, width_px=1, height_px=1, subtitles=lines)
    text = VideoMmeSubtitles().prompt(questions[0], seen, "official").text
    assert "\nGood morning.\nThis is a wall.\n" in text
    assert read_subtitles(tmp_path / questions[3].subtitles.path, 0.0, 4.0) is None


def test_accuracy_is_told_by_every_split(questions):
    scored = [Scored(question=q, parsed="A", score=float(q.gold == "A")) for q in questions]
    figures = {figure.name: figure for figure in VideoMme().summarise(scored)}
    assert figures["accuracy"].value == 1 / 6
    assert figures["accuracy, duration short"].value == pytest.approx(1 / 3)
    assert figures["accuracy, task OCR Problems"].num_questions == 2
    assert {name.split(" ")[1] for name in list(figures)[1:]} == {
        "duration",
        "domain",
        "sub_category",
        "task",
    }


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("answer", "E", "'answer' is 'E', wanted one of A, B, C, D"),
        ("duration", "brief", "'duration' is 'brief', wanted one of short, medium, long"),
        ("options", ["A. One."], "a list of 2 or more"),
        ("videoID", "", "'videoID' is '', wanted text"),
    ],
)
def test_a_wrong_row_is_told(tmp_path, field, value, message):
    rows = video_mme_rows()
    rows[1][field] = value
    write_json(tmp_path / "videomme.json", rows)
    with pytest.raises(UserError, match=message) as told:
        list(VideoMme().questions(tmp_path))
    assert "row 1" in str(told.value)


def test_options_without_letters_stay_as_they_are(tmp_path):
    rows = video_mme_rows()
    rows[0]["options"] = ["One", "B. Two", "Three", "Four"]
    rows[1]["options"] = ["(A) 1", "(B) 2", "(C) 3"]
    write_json(tmp_path / "videomme.json", rows)
    first, second, *_ = VideoMme().questions(tmp_path)
    assert first.options == ("One", "B. Two", "Three", "Four")
    assert second.options == ("1", "2", "3")
