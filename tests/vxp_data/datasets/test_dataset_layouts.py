"""Every annotation layout, on rows written by hand after its documentation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from support.annotation_rows import (
    CASES,
    FINEVIDEO,
    LLAVA_TURNS,
    PROMPT,
    SCIENCE_QA,
    layout,
    written,
)
from vxp_data.conversation import question_answer_pairs
from vxp_data.core.tasks import classify_conversation
from vxp_data.datasets.layouts.base import (
    Annotation,
    Reader,
    SkippedRow,
    SourceRow,
)
from vxp_data.datasets.rows import manifest_row
from vxp_data.datasets.sources import read_companion, read_rows
from vxp_data.errors import UserError
from vxp_data.manifests.base import RowError
from vxp_data.manifests.conversation import read_turns
from vxp_data.registry import ANNOTATION_LAYOUTS


def converted(name: str, fields: dict[str, Any], **row: Any) -> list[dict[str, Any]]:
    found = layout(name).convert(SourceRow(fields=fields, prompt=PROMPT, **row))
    return [manifest_row(annotation, None) for annotation in found]


FROM_CONTENT = ("cinepile", "video_chatgpt", "vcg_plus")


@pytest.mark.parametrize("name", ANNOTATION_LAYOUTS.names())
def test_a_documented_row_becomes_a_manifest_row(name: str) -> None:
    fields, row, wanted = CASES[name]
    got = converted(name, fields, **row)
    if name in FROM_CONTENT:
        assert len(got[0]["id"]) == 16
        assert got[0]["id"] == converted(name, fields, **row)[0]["id"]
        wanted = [wanted[0] | {"id": got[0]["id"]}]
    assert got == wanted


TASKS = {
    "multiple_choice": ("next_qa_mc", "cinepile", "science_qa"),
    "open_ended": ("next_qa_oe", "activitynet_qa", "charades_sta", "ocr_vqa"),
    "caption": ("charades", "openvid", "sharegpt4video", "vdc", "ego4d_narrations"),
}


@pytest.mark.parametrize(("task", "names"), TASKS.items())
def test_the_rules_over_the_words_see_the_task_that_the_rows_have(task, names) -> None:
    for name in names:
        fields, row, _ = CASES[name]
        for got in converted(name, fields, **row):
            assert classify_conversation(question_answer_pairs(read_turns(got))).task == task, name


def test_the_task_of_a_file_is_written_into_its_rows() -> None:
    annotation = Annotation(row_id="a", media="a.mp4", exchanges=(("q", "a"),))
    assert manifest_row(annotation, "open_ended")["task"] == "open_ended"
    assert "task" not in manifest_row(annotation, None)


def test_a_question_without_an_image_becomes_a_row_of_text() -> None:
    (row,) = converted("science_qa", {**SCIENCE_QA, "image": None, "hint": ""}, key="18")
    assert "image" not in row
    assert row["conversations"][0]["value"].startswith("Which is a solid?")
    (row,) = converted("llava_parquet", {"id": "t", "image": None, "conversations": LLAVA_TURNS})
    assert "image" not in row


@pytest.mark.parametrize(
    ("link", "video"),
    [
        ("https://www.youtube.com/watch?t=3&v=-_345678901", "-_345678901"),
        ("https://youtu.be/12345678901?t=9", "12345678901"),
        ("https://youtube.com/embed/12345678901", "12345678901"),
    ],
)
def test_a_film_clip_goes_by_its_youtube_id(link: str, video: str) -> None:
    fields = CASES["cinepile"][0]
    assert converted("cinepile", {**fields, "yt_clip_link": link})[0]["video"] == video
    named = {**fields, "yt_clip_link": link, "videoID": "of_its_own1"}
    assert converted("cinepile", named)[0]["video"] == "of_its_own1"


BROKEN = [
    ("next_qa_mc", {"answer": "5"}, r"the answer is option 5, and there are 5 \(from 0\)"),
    ("next_qa_mc", {"answer": "-1"}, "the answer is option -1"),
    ("next_qa_mc", {"answer": "two"}, "answer is 'two', wanted a whole number"),
    ("next_qa_mc", {"a3": ""}, "a3 is empty"),
    ("next_qa_mc", {"video": "77"}, "video '77' is not in the map of videos"),
    ("next_qa_oe", {"answer": " "}, "answer is empty"),
    ("activitynet_qa", {"question_id": "other"}, "question 'other' has no answer"),
    ("charades", {"descriptions": ";", "script": ""}, "neither descriptions nor a script"),
    ("charades_sta", {"line": "3MSZA 24.3##person\n"}, "wanted '<video> <start> <end>##"),
    ("charades_sta", {"line": "3MSZA 9 3.5##person\n"}, r"ends at 3\.5 s, before it begins at 9 s"),
    ("openvid", {"caption": None}, "caption is null"),
    ("cinepile", {"yt_clip_link": "https://example.org"}, "holds no YouTube id"),
    ("cinepile", {"choices": []}, "choices is a list, wanted a list that is not empty"),
    ("cinepile", {"answer_key_position": True}, "answer_key_position is True"),
    ("finevideo", {"json": None}, "json is null"),
    ("finevideo", {"json": {"original_video_filename": "a.mp4"}}, "qAndA has no question"),
    ("ocr_vqa", {"answers": ["one"]}, "there are 2 questions and 1 answers"),
    ("ocr_vqa", {"split": 4}, "split is 4, wanted 1, 2 or 3"),
    ("sharegpt4video", {"captions": [{"idx": "1", "content": "x"}]}, "of the whole video"),
    ("ego4d_narrations", {"narration_pass_2": {"summaries": [{"summary_text": "x"}]}}, "start_sec"),
    ("llava_json", {"conversations": []}, "no conversation"),
    ("llava_json", {"video": {"bytes": "x"}}, "video is an object"),
    ("llava_parquet", {"conversations": []}, "no conversation"),
    ("video_chatgpt", {"a": ""}, "a is empty"),
    ("vcg_plus", {"id": ""}, "names no video"),
    ("vdc", {"detailed_caption": 3.5j}, "detailed_caption is a complex"),
]


@pytest.mark.parametrize(("name", "changed", "message"), BROKEN)
def test_a_broken_row_says_what_is_wrong(name: str, changed: dict[str, Any], message: str) -> None:
    fields, row, _ = CASES[name]
    with pytest.raises(RowError, match=message):
        converted(name, {**fields, **changed}, **row)


@pytest.mark.parametrize(
    ("name", "changed", "why"),
    [
        ("science_qa", {"split": "test"}, "split test"),
        ("ocr_vqa", {"split": 3}, "split test"),
        ("ocr_vqa", {"split": 2}, "split val"),
        ("ego4d_narrations", {"narration_pass_2": {}}, "no summary"),
    ],
)
def test_rows_of_other_splits_are_skipped(name: str, changed: dict[str, Any], why: str) -> None:
    fields, row, _ = CASES[name]
    with pytest.raises(SkippedRow, match=why):
        converted(name, {**fields, **changed}, **row)


@pytest.mark.parametrize("name", ANNOTATION_LAYOUTS.names())
def test_rows_are_read_from_a_file_as_they_are_written(tmp_path: Path, name: str) -> None:
    fields, row, wanted = CASES[name]
    path = written(tmp_path / "rows", name, [fields, fields])
    read = list(read_rows(path, layout(name)))
    assert [found.problem for found in read] == ["", ""]
    for index, found in enumerate(read):
        key = row.get("key", "")
        source = SourceRow(
            fields=found.fields, key=key, prompt=PROMPT, companion=row.get("companion", {})
        )
        got = [manifest_row(a, None) for a in layout(name).convert(source)]
        assert [one["conversations"] for one in got] == [w["conversations"] for w in wanted]
        assert found.key == (str(index) if layout(name).reader is Reader.OBJECT else "")


def test_bytes_of_media_stay_unread_until_they_are_asked_for(tmp_path: Path) -> None:
    rows = [{**FINEVIDEO, "mp4": b"film"}, {**FINEVIDEO, "mp4": None}]
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    without = list(read_rows(path, layout("finevideo")))
    assert [row.media for row in without] == [None, None]
    assert list(without[0].fields) == ["json"]
    within = list(read_rows(path, layout("finevideo"), with_media=True))
    assert [row.media for row in within] == [b"film", None]
    assert within[0].fields == without[0].fields


def test_bytes_inside_a_struct_are_taken_out(tmp_path: Path) -> None:
    image = {"bytes": b"png", "path": "a.png"}
    row = {"id": "a", "image": image, "conversations": LLAVA_TURNS, "data_source": "x"}
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist([row]), path)
    (found,) = read_rows(path, layout("llava_parquet"), with_media=True)
    assert found.media == b"png"
    assert found.fields["image"] == {"path": "a.png"}


def test_a_table_of_another_kind_is_the_users_error(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"x": [1]}), path)
    with pytest.raises(UserError, match=r"none of the columns videoID.*it has x"):
        list(read_rows(path, layout("cinepile")))
    path.write_bytes(b"PAR1 not")
    with pytest.raises(UserError, match="cannot be read as Parquet"):
        list(read_rows(path, layout("cinepile")))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"column 1: got the end of the file, wanted a JSON object"),
        ("[]", r"got '\[', wanted a JSON object"),
        ('{"videos": 3}', "wanted a JSON object"),
        ('{"other": {}}', "no key 'videos'"),
        ('{"videos": {"a": {}', "got the end of the file, wanted ',' or '}'"),
        ('{"videos": {"a": {},}}', "got '}', wanted a key after the comma"),
        ('{"videos": {"a" {}}}', "wanted ':' after a key"),
        ('{"videos": {a: 1}}', "wanted a key in quotes"),
    ],
)
def test_an_object_that_is_not_as_it_should_be_is_named_with_its_place(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        list(read_rows(path, layout("ego4d_narrations")))


def test_members_that_are_no_rows_are_told(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"a": 3, "b": {"x": 1, "x": 2}, "c": {}}')
    problems = [row.problem for row in read_rows(path, layout("ocr_vqa"))]
    assert problems[0] == "the row is a number, not an object"
    assert "'x' stands more than once" in problems[1]
    assert problems[2] == ""


def test_answers_are_found_by_their_question(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('[{"question_id": "q1", "answer": "yes", "type": 3}]')
    companion = read_companion(path, layout("activitynet_qa").companion)
    assert companion == {"q1": {"question_id": "q1", "answer": "yes", "type": 3}}
    path.write_text("[")
    with pytest.raises(UserError, match="not valid JSON"):
        read_companion(path, layout("next_qa_mc").companion)
    path.write_text("[]")
    with pytest.raises(UserError, match="got list, wanted a JSON object"):
        read_companion(path, layout("next_qa_mc").companion)
