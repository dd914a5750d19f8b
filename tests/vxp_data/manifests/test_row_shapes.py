"""Rows as the field writes them, by hand: their media, clip, question and answer, or a bad row."""

import csv
import io
import json
import math
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.row_shapes import ASKED, MARKED, PAIR, PLAIN, SHAPES, WORDS, messages, unmarked
from vxp_data.conversation import conversation_from_json, question_answer_pairs
from vxp_data.errors import UserError
from vxp_data.manifests.conversation import read_turns
from vxp_data.manifests.formats import detect_format
from vxp_data.manifests.renamed_media import Renaming, rename_in_json, renamed_fields
from vxp_data.manifests.row_columns import ROLES, with_columns
from vxp_data.manifests.row_media import find_media
from vxp_data.manifests.samples import Dataset, ManifestCounts, TaskRules, read_samples
from vxp_data.manifests.seen_ids import SeenIds
from vxp_data.records import Modality, Reason
from vxp_data.settings.columns import COLUMN_KINDS, columns_text, parse_columns


def said(sample):
    """The (question, answer) pairs of a row."""
    return [list(pair) for pair in question_answer_pairs(conversation_from_json(sample.turns))]


def samples_of(folder, rows, columns="", counts=None):
    """Read rows that are given as objects; media lie in the folder."""
    manifest = folder / "rows.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    dataset = Dataset(
        name="set",
        manifest=manifest,
        format="jsonl",
        media_root=folder,
        columns=parse_columns(columns),
    )
    counts = ManifestCounts() if counts is None else counts
    return list(read_samples(dataset, TaskRules(), counts, SeenIds()))


@pytest.mark.parametrize("name", SHAPES)
def test_a_row_of_the_field_gives_its_media_question_and_answer(name, tmp_path):
    (tmp_path / "a.mp4").touch()
    row, turns = SHAPES[name]
    row = json.loads(json.dumps(row).replace("{root}", str(tmp_path)))
    counts = ManifestCounts()
    (sample,) = samples_of(tmp_path, [row], counts=counts)
    assert (sample.reason, sample.message) == (None, "")
    assert (sample.modality, sample.media_uri) == (Modality.VIDEO, f"{tmp_path}/a.mp4")
    assert said(sample) == unmarked(turns)
    assert (sample.clip_start_s, sample.clip_end_s) == (0.0, math.inf)
    assert (counts.rows_without_question, counts.rows_without_answer) == (turns[0][0] == "", 0)


@pytest.mark.parametrize("name", SHAPES)
def test_a_row_of_any_shape_can_be_renamed_and_all_else_stays(name, tmp_path):
    (tmp_path / "a.mp4").touch()
    row = json.loads(json.dumps(SHAPES[name][0]).replace("{root}", str(tmp_path)))
    text = json.dumps(row, indent=1)
    new = rename_in_json(text.encode(), Renaming(name="kept/b.mkv"))
    assert json.loads(new) == renamed_fields(row, Renaming(name="kept/b.mkv"))
    assert find_media(json.loads(new))[0].name == "kept/b.mkv"
    assert Renaming(name="kept/b.mkv").edits(json.loads(new)) == {}
    if "same column" not in name:
        assert read_turns(json.loads(new)) == read_turns(row)
        old = json.dumps(find_media(row)[0].name)[1:-1]
        assert new.decode().count("\n") == text.count("\n") or "as text" in name
        assert new.decode().replace("kept/b.mkv", old) in (text, text.replace("file://", ""))


@pytest.mark.parametrize(
    ("more", "clip"),
    [
        ({"start": 1, "end": 2.5}, (1, 2.5)),
        ({"start": "00:01:02.500", "end": "01:02:03"}, (62.5, 3723)),
        ({"start": "1:05", "end": "2:00,5"}, (65, 120.5)),
        ({"video_start": 3}, (3, math.inf)),
        ({"video_end": 4.5}, (0, 4.5)),
        ({"start_time": "12.5", "end_time": "13"}, (12.5, 13)),
        ({"start": None, "end": "", "start_sec": 2, "end_sec": 3}, (2, 3)),
        ({"clip_start_s": 1, "clip_end_s": 2, "start": 7, "end": 9}, (1, 2)),
        ({"clip_start_s": "0:01", "clip_end_s": "0:02"}, (1, 2)),
    ],
)
def test_a_clip_is_read_under_each_of_its_names(more, clip, tmp_path):
    (sample,) = samples_of(tmp_path, [{"video": "a.mp4", **PAIR, **more}])
    assert (sample.reason, sample.clip_start_s, sample.clip_end_s) == (None, *clip)


def test_the_clip_of_a_part_is_that_of_the_row(tmp_path):
    part = {"type": "video", "video": "a.mp4", "video_start": 2, "video_end": 5.5}
    (sample,) = samples_of(tmp_path, [{"messages": messages([part, WORDS])}])
    assert (sample.reason, sample.clip_start_s, sample.clip_end_s) == (None, 2, 5.5)


def test_what_begins_and_ends_in_text_or_an_image_is_no_clip(tmp_path):
    rows = [{"image": "a.png", **PAIR, "start": 5, "end": 2}, {**PAIR, "start": 5, "end": 2}]
    assert [(s.reason, s.clip_end_s) for s in samples_of(tmp_path, rows)] == [(None, math.inf)] * 2


@pytest.mark.parametrize("time", ["1:60", "1:60:00", "a:b", "2020-01-01", "1:2:3:4", ":5"])
def test_a_timecode_that_is_none_is_a_bad_row(time, tmp_path):
    (sample,) = samples_of(tmp_path, [{"video": "a.mp4", **PAIR, "start": time}])
    assert sample.reason is Reason.BAD_ROW
    assert f"start is {time!r}, wanted a number of seconds" in sample.message
    assert "HH:MM:SS.mmm" in sample.message


def test_webvid_names_a_video_by_two_columns(tmp_path):
    (tmp_path / "000001_000050").mkdir()
    head = ["videoid", "contentUrl", "duration", "page_dir", "name"]
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(head)
    table.writerow([107, "https://host/107.mp4", "PT00H00M20S", "000001_000050", "A bar moves."])
    manifest = tmp_path / "results_2M_train.csv"
    manifest.write_text(text.getvalue())
    dataset = Dataset(name="w", manifest=manifest, format="csv", media_root=tmp_path)
    (sample,) = read_samples(dataset, TaskRules(), ManifestCounts(), SeenIds())
    assert (sample.reason, sample.media_uri) == (None, f"{tmp_path}/000001_000050/107.mp4")
    assert said(sample) == [["", "A bar moves."]]
    row = dict(
        zip(head, ["107", "https://host/107.mp4", "", "000001_000050", "A bar."], strict=True)
    )
    new = renamed_fields(row, Renaming(name="other/9.mkv"))
    assert (new["page_dir"], new["videoid"]) == ("other", "9.mkv")
    assert find_media(new)[0].name == "other/9.mkv"


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])
def test_a_video_named_by_its_id_is_the_file_that_is_there(suffix, tmp_path):
    (tmp_path / f"v 1.x{suffix}").touch()
    rows = [{"video_id": "v 1.x", **PAIR}, {"video_id": 7, **PAIR}, {"vid": "b.avi", **PAIR}]
    assert [sample.media_uri for sample in samples_of(tmp_path, rows)] == [
        *(f"{tmp_path}/v 1.x{suffix}", f"{tmp_path}/7.mp4", f"{tmp_path}/b.avi")
    ]


def test_all_media_of_a_row_are_found_in_order_with_their_kinds():
    row = {"video": ["a.mp4", {"path": "b.mp4"}], "images": ["c.jpg", "d.jpg"]}
    assert [(one.modality, one.name) for one in find_media(row)] == [
        *((Modality.VIDEO, "a.mp4"), (Modality.VIDEO, "b.mp4")),
        *((Modality.IMAGE, "c.jpg"), (Modality.IMAGE, "d.jpg")),
    ]
    parts = [{"type": "image_url", "image_url": {"url": "c.jpg"}}, {"type": "video", "video": "a"}]
    assert [one.name for one in find_media({"messages": messages(parts)})] == ["c.jpg", "a"]
    row = {"media": ["c.jpg", "a.mp4"]}
    assert [one.modality for one in find_media(row)] == [Modality.IMAGE, Modality.VIDEO]
    assert find_media({"image": [None], "video": {"bytes": None, "path": None}}) == ()


VIDEO = {"video": "a.mp4"}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"clip": "a.mp4", **PAIR}, "no media, and column 'clip' may hold one.*--columns vid"),
        ({"meta": {"at": "x/a.MP4"}, **PAIR}, "column 'meta' may hold one"),
        ({"meta": '{"at": ["a.webm"]}', **PAIR}, "column 'meta' may hold one"),
        ({"youtube_id": "abc", **PAIR}, "column 'youtube_id' may hold one"),
        ({"source_video": 17, **PAIR}, "column 'source_video' may hold one"),
        ({"conversations": [{**PLAIN[0], "clip": "a.mp4"}, PLAIN[1]]}, "'conversations' may hold"),
        ({"query": "Picture 1: <img>a.jpg</img> Who?", "response": "He."}, "'<img>a.jpg</img>' in"),
        ({"video_url": "https://host/a.mp4", **PAIR}, "is a URL or protocol"),
        ({"image": "a.jpg", "video_url": "https://host/a.mp4", **PAIR}, "is a URL or protocol"),
        ({**VIDEO, "narration": "A man walks."}, "words are in column 'narration'.*caption=COLUMN"),
        ({**VIDEO, "meta": {"said": ["A man walks."]}}, "words are in column 'meta'"),
        ({**VIDEO, "dialogs": [{"content": "A man walks."}]}, "words are in column 'dialogs'"),
        ({**VIDEO, "input": "A man walks."}, "words are in column 'input'"),
        ({**VIDEO, "zimu": "一个男人走路"}, "words are in column 'zimu'"),
        ({**VIDEO, "question": "Who?", "gt": "He"}, "'question' has no answer, which may.*'gt'"),
        ({**VIDEO, **PAIR, "answer": ["a", "b"]}, "answer is a list, wanted one answer"),
        ({**VIDEO, "captions": ["a", "b"]}, "captions holds 2 captions, wanted one a row"),
        ({"video": ["1.jpg", "2.jpg"]}, "names a video by 2 pictures"),
        ({"images": ["a.jpg", None], **PAIR}, "images: item 2 is null, wanted a path"),
        ({"video": {"bytes": "x"}, **PAIR}, "video is an object, wanted the path"),
        ({**VIDEO, "messages": messages([{"type": "video", "video": "b.mp4"}])}, "'a.mp4', and th"),
        ({"messages": messages([{"type": "audio", "audio": "a.wav"}])}, "part of the type 'audio'"),
        ({"messages": messages([{"foo": "a.mp4"}])}, r"a part of the type None \(keys: 'foo'\)"),
        ({**VIDEO, "query": "Why?", "response": "So", "history": [["a"]]}, "pair 1 is 1 long"),
    ],
)  # fmt: skip
def test_what_is_not_understood_is_a_bad_row_that_says_what_was_found(row, message, tmp_path):
    (sample,) = samples_of(tmp_path, [row])
    assert sample.reason in (Reason.BAD_ROW, Reason.FORBIDDEN)
    assert re.search(message, sample.message), sample.message


@pytest.mark.parametrize(
    "row",
    [
        {**PAIR, "source": "alpaca", "url": "https://host/page", "num_turns": 3},
        {**PAIR, "image": None, "video": "", "images": [], "videos": [None]},
        {"conversations": PLAIN, "model": "gpt-4", "category": "code golf"},
        {"question": "What does the tag <video> do in HTML?", "answer": "It plays a.mp4"},
    ],
)
def test_a_row_of_text_stays_one(row, tmp_path):
    (sample,) = samples_of(tmp_path, [row])
    assert (sample.reason, sample.message, sample.modality) == (None, "", Modality.TEXT)


@pytest.mark.parametrize(
    "row", [{}, {"id": "a b", "fps": 30}, {"source": "youtube", "duration": "0:12"}]
)
def test_a_video_without_words_stays_one(row, tmp_path):
    (sample,) = samples_of(tmp_path, [{**VIDEO, **row}])
    assert (sample.reason, sample.turns) == (None, "[]")


# --columns


@pytest.mark.parametrize(
    ("row", "columns", "turns", "clip"),
    [
        ({"clip": "a.mp4", "said": "A bar."}, "video=clip,caption=said", [["", "A bar."]], None),
        (
            {"meta": {"at": "a.mp4"}, "ask": "Who?", "gt": "He", "from_s": "0:01", "to_s": 3},
            "video=meta.at,question=ask,answer=gt,start=from_s,end=to_s",
            [["Who?", "He"]],
            (1, 3),
        ),
        (
            {"video": "thumb.gif", "file.path": "a.mp4", "talk": PLAIN, "question": "No."},
            "video=file.path,conversations=talk",
            ASKED,
            None,
        ),
        (
            {"path": "a.mp4", "ask": "Who?", "response": "He"},
            "question=ask",
            [["Who?", "He"]],
            None,
        ),
        ({"video": "a.mp4", "title": "My long day"}, "answer=", [], None),
        ({"video": "a.mp4", "question": "Who?", "kind": "why"}, "answer=", [["Who?", ""]], None),
    ],
)
def test_the_user_says_which_column_is_what(row, columns, turns, clip, tmp_path):
    counts = ManifestCounts()
    (sample,) = samples_of(tmp_path, [row], columns, counts)
    assert (sample.reason, sample.message) == (None, "")
    assert sample.media_uri == f"{tmp_path}/a.mp4"
    assert said(sample) == unmarked(turns)
    assert (sample.clip_start_s, sample.clip_end_s) == (clip or (0, math.inf))
    assert sample.annotation == json.dumps(row).encode()
    if "video=" in columns:
        new = rename_in_json(
            json.dumps(row).encode(), Renaming(name="b.mp4", columns=parse_columns(columns))
        )
        assert new == json.dumps(row).replace("a.mp4", "b.mp4").encode()


def test_columns_are_read_as_they_are_written_and_unknown_kinds_refused():
    columns = {"video": "a.b", "question": "x y", "answer": ""}
    assert parse_columns(columns_text(columns)) == columns
    assert tuple(ROLES) == COLUMN_KINDS
    for text, message in (
        ("vide=a", "unknown kind of column 'vide'.*Did you mean 'video'"),
        ("video", "got 'video', wanted KIND=COLUMN.*Kinds: id, video"),
        ("video=a,video=b", "got 'video' twice"),
    ):
        with pytest.raises(UserError, match=message):
            parse_columns(text)


def test_a_column_that_is_not_there_makes_no_row_text(tmp_path):
    row = {"clip": "a.mp4", "video": "b.mp4", **PAIR}
    (sample,) = samples_of(tmp_path, [row], "video=clp")
    assert sample.reason is Reason.BAD_ROW
    assert "'clip', 'video' may hold one" in sample.message
    assert with_columns(row, {"video": ""}) == {"clip": "a.mp4", **PAIR}


# Shapes that nobody has thought of

_NAMES = st.sampled_from(["data", "item", "x", "ref", "asset", "src", "payload", "extra"])
_FILES = st.sampled_from(["a.mp4", "dir/b c.webm", "v.mkv", "https://host/d.mp4", "e.MOV"])
_SAID = st.sampled_from(["A man walks.", "Two dogs play in the snow", "男の人が歩いている"])


def _nested(leaf):
    """Hide a value in lists, objects and JSON text under names that nothing reads."""
    return st.recursive(
        leaf,
        lambda inner: (
            st.lists(inner, min_size=1, max_size=2)
            | st.dictionaries(_NAMES, inner, min_size=1, max_size=2)
            | st.dictionaries(_NAMES, inner, min_size=1, max_size=1).map(json.dumps)
        ),
        max_leaves=3,
    )


@settings(max_examples=200, deadline=None)
@given(
    words=st.sampled_from(
        [PAIR, {"conversations": PLAIN}, {"messages": messages("What happens?")}]
    ),
    rest=st.dictionaries(_NAMES, _nested(_FILES), min_size=1, max_size=3),
)
def test_a_media_in_an_unknown_shape_is_never_text(words, rest, tmp_path_factory):
    (sample,) = samples_of(tmp_path_factory.mktemp("rows"), [{**rest, **words}])
    assert sample.reason is Reason.BAD_ROW


@settings(max_examples=200, deadline=None)
@given(rest=st.dictionaries(_NAMES, _nested(_SAID), min_size=1, max_size=3))
def test_words_in_an_unknown_shape_are_never_lost(rest, tmp_path_factory):
    (sample,) = samples_of(tmp_path_factory.mktemp("rows"), [{**VIDEO, **rest}])
    assert sample.reason is Reason.BAD_ROW


@settings(max_examples=200, deadline=None)
@given(
    kind=st.sampled_from(["video", "video_url", "input_video", "media", "clip", "file", None]),
    key=st.sampled_from(["video", "video_url", "path", "url", "media", "clip", "src"]),
    wrapped=st.booleans(),
    text=st.sampled_from([WORDS, "What happens?", {"text": "What happens?"}]),
)
def test_a_part_of_any_type_is_a_media_or_a_bad_row(kind, key, wrapped, text, tmp_path_factory):
    part = {"type": kind, key: {"url": "a.mp4"} if wrapped else "a.mp4"}
    row = {"messages": messages([part, text])}
    (sample,) = samples_of(tmp_path_factory.mktemp("rows"), [row])
    assert sample.reason is Reason.BAD_ROW or sample.media_uri.endswith("/a.mp4")
    if sample.reason is None:
        assert said(sample) == unmarked(MARKED)


def test_the_corpus_odd_rows_have_their_media(corpus):
    folder = corpus / "odd"
    for name in ("oai.jsonl", "vid.json"):
        path = folder / name
        dataset = Dataset(name="o", manifest=path, format=detect_format(path), media_root=folder)
        samples = list(read_samples(dataset, TaskRules(), ManifestCounts(), SeenIds()))
        assert [Path(sample.media_uri).name for sample in samples] == ["base.mp4", "still0.mp4"]
        assert [said(sample)[0][1] for sample in samples] == [
            "A bar moves.",
            "Nothing.",
        ]
