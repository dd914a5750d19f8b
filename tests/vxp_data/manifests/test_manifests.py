"""Manifest formats: rows in, the same bytes out, and every broken file named with its place."""

import csv
import io
import json
import math
import re
import tracemalloc
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vxp_data.errors import UserError
from vxp_data.manifests import json_array
from vxp_data.manifests.datasets import resolve_datasets
from vxp_data.manifests.formats import detect_format, written_format
from vxp_data.manifests.media_path import VIDEO_SUFFIXES
from vxp_data.manifests.samples import Dataset, ManifestCounts, TaskRules, read_samples
from vxp_data.manifests.seen_ids import SeenIds
from vxp_data.registry import MANIFEST_FORMATS

UTF8_MARK = b"\xef\xbb\xbf"


def rows_of(kind, path):
    return list(MANIFEST_FORMATS.load(kind)().rows(path))


def written(kind, source, rows, out):
    manifest = MANIFEST_FORMATS.load(kind)()
    count = manifest.write(out, source, iter([(row.index, row.annotation) for row in rows]))
    assert count == len(rows)
    return out.read_bytes()


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def example_manifest(kind, folder):
    """Write three rows in every format; a new format needs one entry here."""
    rows = [{"id": str(i), "video": f"{i}.mp4", "question": "Who?\nWhy?"} for i in range(3)]
    path = folder / f"in.{kind}"
    if kind == "json":
        path.write_text(json.dumps(rows))
    elif kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif kind == "csv":
        with path.open("w", newline="") as file:
            table = csv.DictWriter(file, list(rows[0]))
            table.writeheader()
            table.writerows(rows)
    elif kind == "folder":
        path.mkdir()
        for row in rows:
            (path / row["video"]).touch()
    else:
        raise NotImplementedError(kind)
    return path


# Every format


@pytest.mark.parametrize("kind", MANIFEST_FORMATS.names())
def test_written_rows_are_read_back_with_the_same_annotations(kind, tmp_path):
    source = example_manifest(kind, tmp_path)
    manifest = MANIFEST_FORMATS.load(kind)()
    rows = rows_of(kind, source)
    assert [row.index for row in rows] == [0, 1, 2]
    assert [row.fields["video"] for row in rows] == ["0.mp4", "1.mp4", "2.mp4"]
    out = tmp_path / f"kept{manifest.output_suffix}"
    written(kind, source, [rows[0], rows[2]], out)
    again = rows_of(detect_format(out), out)
    assert [row.annotation for row in again] == [rows[0].annotation, rows[2].annotation]
    assert [row.fields for row in again] == [rows[0].fields, rows[2].fields]


@pytest.mark.parametrize("kind", MANIFEST_FORMATS.names())
def test_rows_of_any_format_are_counted_and_none_is_lost(kind, tmp_path):
    source = example_manifest(kind, tmp_path)
    root = source if kind == "folder" else tmp_path
    counts = ManifestCounts()
    dataset = Dataset(name="d", manifest=source, format=kind, media_root=root)
    samples = list(read_samples(dataset, TaskRules(), counts, SeenIds()))
    assert [sample.row for sample in samples] == [0, 1, 2]
    is_silent = 3 if kind == "folder" else 0  # a file alone says nothing
    assert (counts.rows, counts.num_unusable) == (3, 0)
    assert (counts.rows_without_question, counts.rows_without_answer) == (is_silent, 3)
    if kind == "folder":
        return
    named = replace(dataset, columns={"video": "question"})
    counts = ManifestCounts()
    assert len(list(read_samples(named, TaskRules(), counts, SeenIds()))) == 3
    assert counts.columns_used == {"video=question": 3}


@pytest.mark.parametrize("kind", ["json", "jsonl", "csv", "parquet"])
def test_a_row_that_cannot_be_used_is_counted_in_any_format(kind, tmp_path):
    source = example_manifest(kind, tmp_path)
    counts = ManifestCounts()
    columns = {"start": "question"}  # no time
    dataset = Dataset(name="d", manifest=source, format=kind, media_root=tmp_path, columns=columns)
    samples = list(read_samples(dataset, TaskRules(), counts, SeenIds()))
    assert (counts.rows, counts.num_unusable, len(samples)) == (3, 3, 3)
    assert list(counts.problems.values()) == [3]
    (first,) = counts.problem_examples.values()
    assert first == samples[0].message
    assert "clip_start_s is 'Who?" in first


def test_a_folder_with_metadata_is_read_by_it(tmp_path):
    (tmp_path / "set").mkdir()
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / "set" / name).touch()
    path = tmp_path / "set/metadata.jsonl"
    path.write_text('{"file_name": "a.mp4", "text": "A man sits."}\n')
    (dataset,) = resolve_datasets([tmp_path / "set"], None)
    assert (dataset.name, dataset.format, dataset.media_root) == ("set", "jsonl", tmp_path / "set")
    (sample,) = read_samples(dataset, TaskRules(), ManifestCounts(), SeenIds())
    assert (sample.media_uri, json.loads(sample.turns)) == (
        str(tmp_path / "set/a.mp4"),
        [
            {"role": "user", "content": [{"type": "video"}]},
            {"role": "assistant", "content": "A man sits."},
        ],
    )
    (videos,) = resolve_datasets([tmp_path / "set"], None, "folder")
    assert len(list(read_samples(videos, TaskRules(), ManifestCounts(), SeenIds()))) == 2
    with pytest.raises(UserError, match=r"described in .*set/metadata\.jsonl.*--format folder"):
        resolve_datasets([tmp_path], None)
    (tmp_path / "mix.yaml").write_text("datasets: [{name: m, manifest: set, media_root: set}]\n")
    assert resolve_datasets([tmp_path / "mix.yaml"], None)[0].manifest.name == "metadata.jsonl"


@pytest.mark.parametrize("kind", MANIFEST_FORMATS.names())
def test_no_rows_chosen_gives_a_manifest_without_rows(kind, tmp_path):
    source = example_manifest(kind, tmp_path)
    out = tmp_path / f"kept{MANIFEST_FORMATS.load(kind)().output_suffix}"
    written(kind, source, [], out)
    assert rows_of(detect_format(out), out) == []


@pytest.mark.parametrize("kind", MANIFEST_FORMATS.names())
def test_a_manifest_that_is_not_there_is_the_users_error(kind, tmp_path):
    with pytest.raises(UserError, match=r"gone: (cannot read the manifest|no such folder)"):
        rows_of(kind, tmp_path / "gone")


@pytest.mark.parametrize("kind", ["json", "jsonl", "csv"])
def test_bytes_that_are_not_utf8_are_named_with_their_place(kind, tmp_path):
    bad = {"json": b'[{},\n"caf\xe9"]', "jsonl": b'{}\n"caf\xe9"', "csv": b"a\ncaf\xe9"}
    path = write(tmp_path / "a", bad[kind])
    with pytest.raises(UserError, match=r"line 2, byte \d+: got byte 0xe9, which is not UTF-8"):
        rows_of(kind, path)
    with pytest.raises(UserError, match=r"is UTF-16, wanted UTF-8.*iconv -f UTF-16"):
        rows_of(kind, write(path, '[{"a": 1}]'.encode("utf-16")))


# JSON and JSON Lines

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
JSON_ROWS = st.lists(st.dictionaries(st.text(), JSON_VALUES, max_size=4) | JSON_VALUES, max_size=5)


@settings(max_examples=200, deadline=None)
@given(
    rows=JSON_ROWS,
    ascii_only=st.booleans(),
    indent=st.sampled_from([None, 0, 2]),
    mark=st.sampled_from([b"", UTF8_MARK]),
    between=st.sampled_from([",", " ,\r\n\t", ",\n"]),
    chunk_chars=st.sampled_from([1, 2, 7, 64, 1 << 20]),
)
@example(  # numbers that go on in the next chunk
    rows=[1.5, -2e300, 12], ascii_only=True, indent=None, mark=b"", between=",", chunk_chars=1
)
def test_any_json_rows_come_back_byte_for_byte(
    tmp_path_factory, rows, ascii_only, indent, mark, between, chunk_chars
):
    folder = tmp_path_factory.mktemp("json")
    texts = [
        json.dumps(row, ensure_ascii=ascii_only, indent=indent).encode("utf-8", "replace")
        for row in rows
    ]
    array = write(folder / "a.json", mark + b"[ " + between.encode().join(texts) + b" ]\r\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_array, "CHUNK_CHARS", chunk_chars)
        read = rows_of("json", array)
    assert [row.annotation for row in read] == texts
    assert [bool(row.problem) for row in read] == [not isinstance(row, dict) for row in rows]
    kept = written("json", array, read, folder / "kept.json")
    assert kept == (b"[\n" + b",\n".join(texts) + b"\n]\n" if texts else b"[]\n")
    json.loads(kept)


@settings(max_examples=100, deadline=None)
@given(rows=JSON_ROWS, ascii_only=st.booleans(), end=st.sampled_from([b"\n", b"\r\n"]))
def test_any_json_lines_come_back_byte_for_byte(tmp_path_factory, rows, ascii_only, end):
    folder = tmp_path_factory.mktemp("jsonl")
    lines = [json.dumps(row, ensure_ascii=ascii_only).encode("utf-8", "replace") for row in rows]
    content = b"".join(line + end for line in lines)
    source = write(folder / "a.jsonl", content)
    read = rows_of("jsonl", source)
    assert [row.annotation for row in read] == lines
    assert written("jsonl", source, read, folder / "kept.jsonl") == content


def test_json_lines_skip_a_byte_order_mark_and_blank_lines_but_no_number_of_line(tmp_path):
    path = write(tmp_path / "a.jsonl", UTF8_MARK + b' {"a": 1} \n\n \r\n{"a": "\xe2\x80\xa8"}')
    assert [
        (row.index, row.where, row.annotation, row.fields) for row in rows_of("jsonl", path)
    ] == [
        (0, "line 1", b' {"a": 1} ', {"a": 1}),
        (1, "line 4", b'{"a": "\xe2\x80\xa8"}', {"a": "\u2028"}),
    ]


def test_a_number_too_long_for_python_stops_nothing(tmp_path):
    element = b'{"id": 7, "n": ' + b"9" * 5000 + b"}"
    for kind, content in (("json", b"[" + element + b"]"), ("jsonl", element)):
        (row,) = rows_of(kind, write(tmp_path / kind, content))
        assert (row.annotation, row.fields) == (element, {"id": 7, "n": math.inf})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"the file is empty, wanted a JSON array"),
        (" \n", r"the file is empty"),
        ("3", r"line 1, column 1: got '3', wanted a JSON array of rows"),
        ('{"a": 1}\n{"a": 2}', r"one JSON object after another.*--format jsonl"),
        ('{"info": {}, "data": [{}]}', r"a list under 'data': .*for example: jq \.data "),
        ('{"video": "a.mp4"}', r"got one JSON object \('video'\), wanted an array"),
        ('{"video"', r"line 1, column 9: got the end of the file"),
        ('[{"a": 1},\n {"a": 2', r"line 2, column 9: got the end of the file, wanted the rest"),
        ('[{"a": 1},\n {"a": "x', r"line 2, column 10: got the end of the file.*cut short"),
        ('[{"a": 1}', r"column 10: got the end of the file, wanted ',' or '\]' after a row"),
        ('[{"a": 1},', r"column 11: got the end of the file, wanted the rest of a row"),
        ('[{"a": 1},]', r"column 11: got '\]', wanted JSON \(Expecting value\)"),
        ('[{"a": 1}\n{"a": 2}]', r"line 2, column 1: got '\{', wanted ',' or '\]' after a row"),
        ('[\n{"a": nope}]', r"line 2, column 7: got 'nope\}\]', wanted JSON \(Expecting value\)"),
        ('[{"a": 1}] x', r"column 12: got 'x', wanted nothing after the array's '\]'"),
        ("[" + "[" * 200_000, r"column 2: got a value nested thousands of levels deep"),
    ],
)
@pytest.mark.parametrize("chunk_chars", [1, 1 << 20])
def test_a_broken_json_array_is_named_with_its_place(
    tmp_path, monkeypatch, content, message, chunk_chars
):
    monkeypatch.setattr(json_array, "CHUNK_CHARS", chunk_chars)
    path = write(tmp_path / "bad.json", content)
    with pytest.raises(UserError, match=rf"bad\.json: .*{message}"):
        rows_of("json", path)


def test_rows_before_a_broken_one_are_given_first(tmp_path):
    path = write(tmp_path / "a.json", '[{"a": 1}, {"a": 2}, nope]')
    rows = MANIFEST_FORMATS.load("json")().rows(path)
    assert [next(rows).fields, next(rows).fields] == [{"a": 1}, {"a": 2}]
    with pytest.raises(UserError, match="column 22"):
        next(rows)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a": 1}\n{"a": 2,}', r"line 2, column \d+: got '.*', wanted JSON \("),
        ('{"a": 1}\n\n{"a": 2', r"line 3, column 8: got the line's end, wanted JSON"),
        ('{"a": 1} {"a": 2}', r"line 1, column 10: got '\{\"a\": 2\}', wanted the line's end"),
        ('[{"a": 1},\n{"a": 2}]', r"line 1 opens a JSON array.*--format json;"),
        ("[" * 200_000, r"line 1, column 1: .*nested|opens a JSON array"),
    ],
)
def test_a_broken_json_line_is_named_with_its_place(tmp_path, content, message):
    path = write(tmp_path / "bad.jsonl", content)
    with pytest.raises(UserError, match=rf"bad\.jsonl: {message}"):
        rows_of("jsonl", path)


# CSV

CELLS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@settings(max_examples=200, deadline=None)
@given(
    rows=st.lists(st.tuples(CELLS, CELLS, st.just("x")), max_size=5),
    end=st.sampled_from(["\n", "\r\n"]),
    delimiter=st.sampled_from([",", ";", "\t"]),
    mark=st.sampled_from([b"", UTF8_MARK]),
)
@example(rows=[('line 1\nline "2"\r\n', "a,b", "x")], end="\r\n", delimiter=",", mark=UTF8_MARK)
def test_any_csv_records_come_back_byte_for_byte(tmp_path_factory, rows, end, delimiter, mark):
    folder = tmp_path_factory.mktemp("csv")
    text = io.StringIO()
    has_return = "\r" in "".join(cell for row in rows for cell in row)  # Python 3.11 leaves it bare
    quoting = csv.QUOTE_ALL if has_return else csv.QUOTE_MINIMAL
    table = csv.writer(text, delimiter=delimiter, lineterminator=end, quoting=quoting)
    table.writerows([("id", "video", "rest"), *rows])
    content = mark + text.getvalue().encode()
    source = write(folder / "a.csv", content)
    read = rows_of("csv", source)
    assert [tuple(row.fields.values()) for row in read] == rows
    assert written("csv", source, read, folder / "kept.csv") == content


def test_csv_records_keep_their_line_quotes_and_newlines(tmp_path):
    path = write(tmp_path / "a.tsv", 'id\tsaid\n"1"\t"a, b\nc"\n\n2\t5" disk')
    rows = rows_of("csv", path)
    assert [(row.index, row.where, row.annotation, row.fields) for row in rows] == [
        (0, "line 2", b'"1"\t"a, b\nc"', {"id": "1", "said": "a, b\nc"}),
        (1, "line 5", b'2\t5" disk', {"id": "2", "said": '5" disk'}),
    ]
    assert written("csv", path, rows[1:], tmp_path / "out.csv") == b'id\tsaid\n2\t5" disk\n'


def test_a_csv_row_of_another_length_is_a_problem_of_that_row(tmp_path):
    path = write(tmp_path / "a.csv", "id,video\n1,a.mp4\n2\n3,b.mp4,c\n")
    assert [(row.annotation, dict(row.fields), row.problem) for row in rows_of("csv", path)] == [
        (b"1,a.mp4", {"id": "1", "video": "a.mp4"}, ""),
        (b"2", {}, "the row has 1 cells, the header 2"),
        (b"3,b.mp4,c", {}, "the row has 3 cells, the header 2"),
    ]


def test_a_csv_cell_may_be_longer_than_python_allows_by_default(tmp_path):
    path = write(tmp_path / "a.csv", "id,conversations\n1," + "x" * 200_000)
    assert len(rows_of("csv", path)[0].fields["conversations"]) == 200_000


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"the file is empty, wanted a header line"),
        ("id,video,id\n", r"the header names 'id' more than once"),
        ('id,said\n1,"a\nb"c\n', r"line 3, column 3: got 'c\\n', wanted ',' or the line's end"),
        ('id,said\n1,x\n2,"abc\n', r"line 3, column 3: got .*, wanted a closing quote"),
    ],
)
def test_a_broken_csv_is_named_with_its_place(tmp_path, content, message):
    path = write(tmp_path / "bad.csv", content)
    with pytest.raises(UserError, match=rf"bad\.csv: .*{message}"):
        rows_of("csv", path)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_source_that_is_gone_is_named_when_rows_are_written(kind, tmp_path):
    manifest = MANIFEST_FORMATS.load(kind)()
    with pytest.raises(UserError, match=r"gone: .*(can no longer be read|cannot read)"):
        manifest.write(tmp_path / "out", tmp_path / "gone", [(0, b"1,a.mp4")])


# Parquet


def parquet(path, **columns):
    pq.write_table(pa.table(columns), path, row_group_size=2)
    return path


def test_parquet_rows_are_taken_from_the_source_with_schema_and_metadata(tmp_path):
    table = pa.table(
        {
            "id": pa.array([0, 1, 2, 3, 4], pa.int16()),
            "turns": pa.array([[{"from": "human"}]] * 5),
            "picture": pa.array([b"\xff"] * 5),
        }
    ).replace_schema_metadata({"huggingface": "{}"})
    source = tmp_path / "a.parquet"
    pq.write_table(table, source, row_group_size=2)
    rows = rows_of("parquet", source)
    written("parquet", source, [rows[1], rows[4]], tmp_path / "kept.parquet")
    kept = pq.read_table(tmp_path / "kept.parquet")
    assert kept.to_pylist() == table.take([1, 4]).to_pylist()
    assert kept.schema.equals(pq.read_schema(source), check_metadata=True)
    assert kept.schema.metadata == {b"huggingface": b"{}"}


def test_a_parquet_annotation_is_the_row_as_json(tmp_path):
    path = parquet(
        tmp_path / "a.parquet",
        text=["né"],
        number=[math.nan],
        numbers=[[1.0, math.inf]],
        data=[b"\xff\x00"],
        at=pa.array([1], pa.timestamp("ns")),
        took=pa.array([3], pa.duration("ns")),
    )
    (row,) = rows_of("parquet", path)
    assert row.where == "row 0"
    assert row.annotation.decode() == (
        '{"text": "né", "number": null, "numbers": [1.0, null], "data": "/wA=", '
        '"at": "1970-01-01 00:00:00.000000001", "took": 3}'
    )


def test_a_parquet_source_that_became_shorter_is_named(tmp_path):
    source = parquet(tmp_path / "a.parquet", id=[1, 2, 3])
    with pytest.raises(UserError, match=r"a\.parquet: the manifest has 3 rows now, and row 7"):
        MANIFEST_FORMATS.load("parquet")().write(tmp_path / "o", source, [(1, b""), (7, b"")])


def test_a_broken_or_doubtful_parquet_is_named(tmp_path):
    whole = parquet(tmp_path / "a.parquet", id=[1, 2, 3]).read_bytes()
    path = write(tmp_path / "bad.parquet", whole[:-9])
    with pytest.raises(UserError, match=r"bad\.parquet: cannot be read as Parquet: "):
        rows_of("parquet", path)
    doubled = pa.table([pa.array([1]), pa.array([2])], names=["id", "id"])
    pq.write_table(doubled, path)
    with pytest.raises(UserError, match=r"bad\.parquet: .*more than one column 'id'"):
        rows_of("parquet", path)


# Folders


def test_a_folder_gives_its_visible_videos_in_order(tmp_path):
    names = ["b.MP4", "a/é.webm", "a/z.mkv", "a.txt", ".hid.mp4", ".git/c.mp4", "a/.d/e.mp4"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [(row.index, row.annotation.decode()) for row in rows_of("folder", tmp_path)] == [
        (0, '{"id": "a/z.mkv", "video": "a/z.mkv"}'),
        (1, '{"id": "a/é.webm", "video": "a/é.webm"}'),
        (2, '{"id": "b.MP4", "video": "b.MP4"}'),
    ]


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.JSON", "json"), ("a.ndjson", "jsonl"), ("a.tsv", "csv"), ("a.parquet", "parquet")],
)
def test_the_format_follows_from_the_suffix(tmp_path, name, kind):
    assert detect_format(tmp_path / name) == kind
    assert detect_format(tmp_path) == "folder"


ROW = '{"id": "a", "video": "0.mp4", "conversations": []}'


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (f"{ROW}\n{ROW}\n", "jsonl"),
        (f"\ufeff\r\n {ROW}\r\n\r\n{ROW}", "jsonl"),
        (f"[{ROW},\n{ROW}]", "json"),
        (f'{{"data": [{ROW}]}}\n', "json"),  # its error says where the rows are
        (f'{{"a": {ROW},\n"b": {ROW}}}', "json"),
        (f"{ROW}\n{{broken\n", "json"),  # its error names JSON Lines
        ("", "json"),
        (None, "json"),
    ],
)
def test_a_json_file_has_the_format_of_its_content(tmp_path, content, kind):
    path = tmp_path / "rows.json"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    assert detect_format(path) == kind


def test_a_json_array_without_line_ends_is_not_decoded_to_tell_its_format(tmp_path):
    path = write(tmp_path / "rows.json", b"[" + b"1," * (8 << 20) + b"1]")
    tracemalloc.start()
    try:
        assert detect_format(path) == "json"
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", MANIFEST_FORMATS.names())
def test_suffixes_are_small_and_tell_the_format_of_what_is_written(kind):
    format_class = MANIFEST_FORMATS.load(kind)
    assert all(re.fullmatch(r"\.[a-z0-9.]+", suffix) for suffix in format_class.suffixes)
    read_by = MANIFEST_FORMATS.load(written_format(kind))
    assert format_class.output_suffix in read_by.suffixes


def test_what_a_folder_writes_is_read_as_lines():
    assert [written_format(kind) for kind in ("folder", "csv")] == ["jsonl", "csv"]


def test_an_unknown_suffix_is_answered_with_the_nearest(tmp_path):
    with pytest.raises(UserError, match=r"suffix '\.josn'.* Did you mean '\.json'\? Known: \.json"):
        detect_format(tmp_path / "a.josn")
    with pytest.raises(UserError, match=r"it is no folder\. Known.*--format NAME.* folder\.$"):
        detect_format(tmp_path / "gone")


def resolved(*manifests, named):
    return [dataset.format for dataset in resolve_datasets(manifests, None, named)]


def test_a_format_that_is_named_wins_over_suffix_and_content(tmp_path):
    lines = write(tmp_path / "rows.json", f"{ROW}\n{ROW}\n".encode())
    table = write(tmp_path / "rows.txt", b"id,video\na,0.mp4\n")
    assert resolved(lines, named=None) == ["jsonl"]
    assert resolved(lines, named="json") == ["json"]
    assert resolved(table, named="csv") == ["csv"]


@pytest.mark.parametrize(
    ("name", "named", "message"),
    [
        ("rows.json", "jsnol", r"format 'jsnol'\. Did you mean 'jsonl'\? Known: csv, folder, json"),
        (".", "jsonl", r"is a folder, and format 'jsonl' is one of files"),
        ("rows.json", "folder", r"rows\.json: is no folder, as format 'folder' wants"),
        ("mix.yaml", "json", r"mix\.yaml: is a mixture, which names the format of each"),
    ],
)
def test_a_format_that_cannot_be_is_refused(tmp_path, name, named, message):
    for file in ("rows.json", "mix.yaml"):
        (tmp_path / file).touch()
    with pytest.raises(UserError, match=message):
        resolved(tmp_path / name, named=named)


def test_every_video_of_the_corpus_is_in_its_folder_listing(corpus):
    names = [row.fields["video"] for row in rows_of("folder", corpus)]
    files = (path for path in corpus.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES)
    assert names == sorted(str(path.relative_to(corpus)) for path in files)
    assert len(names) > 150
