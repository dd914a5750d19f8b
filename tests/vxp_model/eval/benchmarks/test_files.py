"""Annotation files: what is wrong is told with the file, the row, and where to get it."""

import re

import pytest

from support.benchmark_files import write_json, write_jsonl, write_parquet
from vxp_model.errors import UserError
from vxp_model.eval.benchmarks.files import find_files, read_json, read_rows, read_text

GET = "https://example.org/set"
ROWS = [{"question": "What?", "options": ["a", 2], "answer": 3.0, "gone": None, "on": True}]


@pytest.mark.parametrize(
    ("name", "write"),
    [("a.json", write_json), ("a.jsonl", write_jsonl)],
)
def test_rows_of_json_are_read_with_their_fields(tmp_path, name, write):
    write(tmp_path / name, ROWS)
    (row,) = read_rows(tmp_path / name, get=GET)
    assert row.text("question") == row.text("asked", "question") == "What?"
    assert row.words("options") == ("a", "2")
    assert row.word("answer") == "3"
    assert row.integer("answer") == 3
    assert "gone" not in row
    assert "answer" in row


def test_rows_of_parquet_are_those_of_json(tmp_path):
    rows = [{"question": "What?", "options": ["a", "b"], "place": 1}, {"question": "Why?"}]
    write_parquet(tmp_path / "a.parquet", rows)
    first, second = read_rows(tmp_path / "a.parquet", get=GET)
    assert first.words("options") == ("a", "b")
    assert "options" not in second
    assert second.number == 1


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda row: row.text("nothing"), "'nothing' is nothing, wanted text"),
        (lambda row: row.text("options"), "'options' is ['a', 2], wanted text"),
        (lambda row: row.word("on"), "'on' is True, wanted text or a number"),
        (lambda row: row.number_of("question"), "'question' is 'What?', wanted a number"),
        (lambda row: row.words("options", least=3), "wanted a list of 3 or more"),
        (lambda row: row.one_of("question", ["Why?"]), "wanted one of Why?"),
        (lambda row: row.integer("gone"), "'gone' is nothing"),
    ],
)
def test_a_field_of_another_kind_is_told(tmp_path, ask, message):
    write_json(tmp_path / "a.json", ROWS)
    (row,) = read_rows(tmp_path / "a.json", get=GET)
    with pytest.raises(UserError, match=re.escape(message)) as told:
        ask(row)
    assert f"{tmp_path / 'a.json'}, row 0" in str(told.value)
    assert GET in str(told.value)


@pytest.mark.parametrize("name", ["/etc/x.mp4", "../x.mp4", "a/../../x.mp4", "..\\x.mp4"])
def test_a_video_outside_the_folder_is_refused(tmp_path, name):
    write_json(tmp_path / "a.json", [{"video": name}])
    (row,) = read_rows(tmp_path / "a.json", get=GET)
    with pytest.raises(UserError, match="below the folder"):
        row.file("video")


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.json", b"{", "not JSON"),
        ("a.json", b'{"a": 1}', "wanted an array"),
        ("a.json", b"[1]", "row 0: 1, wanted an object"),
        ("a.jsonl", b'{"a": 1}\n{', "line 2: not JSON"),
        ("a.json", b"\xff\xfe", "no UTF-8"),
        ("a.parquet", b"PAR", "no Parquet"),
    ],
)
def test_a_broken_file_is_told(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=message) as told:
        list(read_rows(tmp_path / name, get=GET))
    assert GET in str(told.value)


def test_the_first_pattern_that_has_files_counts(tmp_path):
    (tmp_path / "b").mkdir()
    for name in ("a-1.json", "a-0.json", "b/a.json"):
        (tmp_path / name).write_text("[]")
    assert [path.name for path in find_files(tmp_path, ["c*", "a-*"], get=GET)] == [
        "a-0.json",
        "a-1.json",
    ]
    with pytest.raises(UserError, match=r"no c\.json in it \(or d\.json\)"):
        find_files(tmp_path, ["c.json", "d.json"], get=GET)
    with pytest.raises(UserError, match="no such folder"):
        find_files(tmp_path / "none", ["c.json"], get=GET)


def test_a_missing_file_and_a_mark_before_the_text(tmp_path):
    with pytest.raises(UserError, match="No such file"):
        read_text(tmp_path / "none", get=GET)
    (tmp_path / "a.json").write_bytes(b"\xef\xbb\xbf[1]")
    assert read_json(tmp_path / "a.json", get=GET) == [1]
