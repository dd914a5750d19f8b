"""Manifests and recipes from people we need not trust: one clear error, or the row quarantined."""

from __future__ import annotations

import json
import posixpath
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vxp_data.errors import UserError
from vxp_data.manifests import csv_table, json_array, json_lines
from vxp_data.manifests.base import ManifestRow, RowError
from vxp_data.manifests.media_path import MediaPaths, RemoteMediaPaths
from vxp_data.manifests.mixture import read_mixture
from vxp_data.manifests.samples import Dataset, ManifestCounts, TaskRules, read_samples
from vxp_data.manifests.seen_ids import SeenIds
from vxp_data.records import Reason, Sample
from vxp_data.registry import MANIFEST_FORMATS
from vxp_data.schemas import SAMPLE_SCHEMA
from vxp_data.settings.prune import load_config, parse_set
from vxp_data.settings.safe_yaml import load_yaml
from vxp_data.storage.folder import open_folder

FILES = [name for name in MANIFEST_FORMATS.names() if name != "folder"]
MEGABYTE = "x" * (1 << 20)


def samples_of(
    path: Path, kind: str, counts: ManifestCounts | None = None, field: str | None = None
) -> list[Sample]:
    """Read a manifest's rows; check that each can be stored."""
    dataset = Dataset(name="set", manifest=path, format=kind, media_root=path.parent)
    rules, counts = TaskRules(field=field), counts or ManifestCounts()
    samples = list(read_samples(dataset, rules, counts, SeenIds()))
    columns = {name: [getattr(s, name) for s in samples] for name in SAMPLE_SCHEMA.names}
    columns["reason"] = [reason or "" for reason in columns["reason"]]
    pa.table(columns, schema=SAMPLE_SCHEMA)
    json.dumps(str(counts)).encode()
    return samples


def write(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


GOOD = '{"id": "good", "video": "a.mp4", "question": "Who?"}'


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"video": "a.mp4", "video": "../b.mp4"}', "the key 'video' stands more than once"),
        ('{"id": 1, "meta": [{"a": 1, "a": 1}], "video": "a"}', "the key 'a' stands more than"),
        (f'{{"id": "{MEGABYTE}", "video": "a.mp4"}}', "id has 1048576 characters, wanted at most"),
        (f'{{"id": 1, "video": "{MEGABYTE}"}}', "video has 1048576 characters, wanted a path"),
        (f'{{"video": "a", "clip_start_s": "{MEGABYTE}"}}', "clip_start_s is 'xxx"),
        (f'{{"video": "a", "messages": [{{"role": "{MEGABYTE}"}}]}}', "turn 1 is from 'xxx"),
        ('{"video": "a.mp4", "clip_start_s": NaN}', "clip_start_s is nan, wanted"),
        ('{"video": "a.mp4", "clip_end_s": -Infinity}', "clip_end_s is -inf, wanted"),
        ('{"video": "a\\u0000.mp4"}', "holds a NUL character"),
        ('{"video": ["a.mp4", {}]}', "video is an object, wanted the path"),
    ],
)
@pytest.mark.parametrize("kind", ["json", "jsonl"])
def test_a_hostile_row_is_quarantined_and_its_neighbour_is_not(tmp_path, kind, row, message):
    content = f"[{row},\n{GOOD}]" if kind == "json" else f"{row}\n{GOOD}\n"
    counts = ManifestCounts()
    bad, good = samples_of(write(tmp_path / "rows", content), kind, counts)
    assert (bad.reason, good.reason) == (Reason.BAD_ROW, None)
    assert message in bad.message
    assert len(bad.message) <= 2000
    assert len(bad.sample_id) < 100
    assert bad.annotation == row.encode()
    assert sum(counts.reasons.values()) == 1


@pytest.mark.parametrize("column", ["caption", "answer", "options", "conversations", "id", "video"])
@pytest.mark.parametrize("kind", ["json", "jsonl"])
def test_no_depth_of_nesting_is_an_exception(tmp_path, kind, column):
    """Some depths can be decoded and are then too deep for what follows."""
    question = '"question": "Who?", ' if column in ("answer", "options") else ""
    for depth in [*range(1, 850, 47), *range(850, 1000), 5000, 200_000]:
        value = "[" * depth + "]" * depth
        row = f'{{"image": "a.png", {question}"{column}": {value}}}'
        path = write(tmp_path / "rows", f"[{row}]" if kind == "json" else row)
        try:
            samples_of(path, kind)
        except UserError as error:
            assert "line 1, column" in str(error)  # noqa: PT017
            assert "nested" in str(error)  # noqa: PT017
            assert len(str(error)) < 1000  # noqa: PT017


def test_a_row_of_any_format_that_is_nested_too_deep_is_quarantined(tmp_path, monkeypatch):
    """JSON's own decoder refuses about as deep a row as what follows; another format need not."""
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    row = ManifestRow(index=0, where="row 0", annotation=b"{}", fields={"video": deep})
    monkeypatch.setattr(json_lines.JsonLines, "rows", lambda *_: iter([row]))
    (bad,) = samples_of(tmp_path / "rows", "jsonl")
    assert (bad.reason, bad.message) == (Reason.BAD_ROW, "row 0: a value is nested too deep")


def test_a_lone_surrogate_in_a_conversation_stays_in_the_row_and_can_be_stored(tmp_path):
    row = '{"video": "a.mp4", "question": "\\ud800?", "task": "\\udfff", "\\udc00": 1}'
    counts = ManifestCounts()
    (sample,) = samples_of(write(tmp_path / "rows", row), "jsonl", counts, field="task")
    assert (sample.reason, sample.annotation) == (None, row.encode())
    assert json.loads(sample.turns) == [
        {"role": "user", "content": [{"type": "video"}, {"type": "text", "text": "??"}]}
    ]
    assert dict(counts.unknown_tasks) == {"?": 1}
    assert dict(counts.unknown_columns) == {"?": 1}


def test_names_that_rows_bring_are_counted_within_bounds(tmp_path):
    rows = [
        {"video": "a.mp4", f"column {i}": 1, "kind": f"{i} {MEGABYTE[:5000]}"} for i in range(900)
    ]
    path = write(tmp_path / "rows", "\n".join(map(json.dumps, rows)))
    counts = ManifestCounts()
    samples_of(path, "jsonl", counts, field="kind")
    for counter in (counts.unknown_columns, counts.unknown_tasks):
        assert sum(counter.values()) == 900
        assert len(counter) == 201
        assert counter["(others)"] == 700
        assert max(map(len, counter)) <= 160


@pytest.mark.parametrize(
    ("kind", "content", "message"),
    [
        ("json", '[{"video": "a"}, "' + "x" * 4000, r"line 1, column 18: .* more than 1000 char"),
        ("json", "[[" + "1, " * 4000, r"line 1, column 2: .* more than 1000 characters"),
        ("jsonl", '{"video": "a"}\n{"a": "' + "x" * 4000, "line 2 is longer than 1000 bytes"),
        ("csv", 'video,text\na,"' + "x\n" * 4000, r"line 2, column 3: .*field larger than field"),
        ("csv", "video,text\na," + "x" * 4000, r"line 2, .*the line is longer than 1000"),
        ("csv", "x" * 4000, r"line 1, .*the line is longer than 1000 characters"),
        ("jsonl", b'{"video": "a"}\n\0\0\0\0\n', r"line 2, column 1: got '\\x00"),
        ("json", b'[{"video": "a"}\0]', r"line 1, column 16: got '\\x00'"),
        ("json", '[{"video": "a\nb"}]', r"line 1, column 14: .*control character"),
        ("jsonl", '{"video": "a"}\r{"video": "b"}', r"line 1, column 16: got .*the line's end"),
        ("jsonl", b"\xff\xfe{}", "UTF-16"),
    ],
)
def test_a_hostile_file_is_one_error_with_its_place(tmp_path, monkeypatch, kind, content, message):
    for module in (json_array, json_lines, csv_table):
        monkeypatch.setattr(module, "MAX_ROW_CHARS", 1000)
    monkeypatch.setattr(json_array, "CHUNK_CHARS", 100)
    with pytest.raises(UserError, match=message) as caught:
        samples_of(write(tmp_path / "rows", content), kind)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("kind", ["json", "jsonl", "csv"])
def test_marks_and_line_ends_change_nothing(tmp_path, kind):
    lines = {
        "json": ["[", GOOD, "]"],
        "jsonl": [GOOD],
        "csv": ["id,video,question", "good,a.mp4,Who?"],
    }[kind]
    for mark in (b"", b"\xef\xbb\xbf"):
        for end in ("\n", "\r\n"):
            path = write(tmp_path / "rows", mark + "".join(f"{x}{end}" for x in lines).encode())
            (sample,) = samples_of(path, kind)
            assert (sample.sample_id, sample.reason) == ("set/good", None)


def test_a_struct_with_a_doubled_field_is_one_error(tmp_path):
    doubled = pa.StructArray.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    pq.write_table(pa.table({"video": ["a.mp4"], "meta": doubled}), tmp_path / "rows")
    with pytest.raises(UserError, match=r"cannot be read as Parquet: .*duplicate"):
        samples_of(tmp_path / "rows", "parquet")


SOUP = st.lists(
    st.sampled_from(
        [b"{", b"}", b"[", b"]", b'"', b":", b",", b"\n", b"\r", b"\0", b"\\", b"\\u", b"d800",
         b"\xef\xbb\xbf", b"\xff", b"NaN", b"1e999", b"null", b'"id"', b'"video"', b'"a.mp4"',
         b'"conversations"', b'"from"', b'"human"', b'"value"', b'""', b";", b"\t", b"\x1b[2J",
         GOOD.encode(), b"..", b"/", b"file:", b"-", b"9" * 400]
    ),
    max_size=40,
).map(b"".join)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(content=SOUP | st.binary(max_size=200), kind=st.sampled_from(["json", "jsonl", "csv"]))
@example(content=b'id\n"', kind="csv")
def test_any_bytes_are_rows_or_one_error(tmp_path_factory, content, kind):
    path = write(tmp_path_factory.mktemp("soup") / "rows", content)
    try:
        samples_of(path, kind)
    except UserError as error:
        assert str(path) in str(error)  # noqa: PT017
        assert len(str(error)) < 1500  # noqa: PT017


@settings(max_examples=300, deadline=None)
@given(
    name=st.text() | st.lists(st.sampled_from([*"/.:,~%\\", "..", "a", "s3://b", "c"])).map("".join)
)
@example(name="s3://b/../c")
@example(name="S3://b/c/x")
@example(name="%2e%2e/x")
def test_any_name_leads_below_the_root_or_is_refused(name):
    for paths, below in (
        (MediaPaths(Path("/nowhere/root")), "/nowhere/root/"),
        (RemoteMediaPaths(open_folder("s3://b/c")), "s3://b/c/"),
    ):
        try:
            path = paths.resolve(name)
        except RowError as error:
            assert error.reason is Reason.FORBIDDEN  # noqa: PT017
            continue
        assert path.startswith(below)
        assert posixpath.normpath(path.partition("://")[2] or path).count("..") == path.count("..")
        assert "/../" not in f"{path}/"


# YAML


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", r"line 3, column 1: the key 'a' once more"),
        ("a: {b: 1, c: {d: 1, d: 2}}", "line 1, column 21: the key 'd' once more"),
        ("a: &x [1]\nb: *x", r"line 2, column 4: an alias \(\*name\)"),
        ("a: &x\n  b: *x", "line 2, column 6: an alias"),
        ("a: !!python/object/apply:os.system ['true']", "line 1, column 4: could not determine"),
        ("a: [1", "line 1, column 6: expected ',' or ']'"),
        ("a: \x1b[2J", "unacceptable character #x001b: special"),
        ("[" * 5000, "nested thousands of levels deep"),
        ("{[1]: 2}", "line 1, column 2: found unhashable key"),
    ],
)
def test_hostile_yaml_is_one_error_in_recipes_mixtures_and_settings(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        load_yaml(text)
    path = write(tmp_path / "a.yaml", text)
    with pytest.raises(UserError, match=rf"a\.yaml: cannot be read as YAML: {message}"):
        load_config(path)
    with pytest.raises(UserError, match=rf"a\.yaml: not valid YAML: {message}"):
        read_mixture(path)
    with pytest.raises(UserError, match=message):
        parse_set(f"frames.num_frames={text}")


def test_a_billion_laughs_cost_nothing(tmp_path):
    lines = [
        "a0: &a0 [1]",
        *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 40)),
    ]
    started_s = time.monotonic()
    with pytest.raises(UserError, match="alias"):
        load_config(write(tmp_path / "a.yaml", "\n".join(lines)))
    assert time.monotonic() - started_s < 1


def test_plain_yaml_is_read_as_before():
    assert load_yaml("a: {b: [1, 2.5, null, yes, 'x']}\nc:") == {
        "a": {"b": [1, 2.5, None, True, "x"]},
        "c": None,
    }
    assert load_yaml("") is None
