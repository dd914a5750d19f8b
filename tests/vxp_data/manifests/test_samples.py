"""Manifest rows to samples: media, task, id, and why a row cannot be used."""

import csv
import hashlib
import io
import json
import math
import os
import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vxp_data.manifests.formats import detect_format
from vxp_data.manifests.samples import Dataset, ManifestCounts, TaskRules, read_samples
from vxp_data.manifests.seen_ids import SeenIds
from vxp_data.records import Modality, Reason, Sample

TURNS = [{"from": "human", "value": "<image>\nWho sits?"}, {"from": "gpt", "value": "He."}]
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def samples_of(tmp_path, rows, *, rules=None, counts=None, task=None):
    """Read rows that are given as objects, below the media root tmp_path/media."""
    manifest = tmp_path / "rows.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    dataset = Dataset(
        name="set", manifest=manifest, format="jsonl", media_root=tmp_path / "media", task=task
    )
    counts = ManifestCounts() if counts is None else counts
    return list(read_samples(dataset, rules or TaskRules(), counts, SeenIds()))


def test_a_row_becomes_a_sample_with_all_its_fields(tmp_path):
    row = {
        "id": 7,
        "video": "a//b/../c:d é.mp4",
        "conversations": TURNS,
        "clip_start_s": 1,
        "clip_end_s": 2.5,
    }
    assert samples_of(tmp_path, [row]) == [
        Sample(
            sample_id="set/7",
            dataset="set",
            row=0,
            task="open_ended",
            task_origin="rule",
            modality=Modality.VIDEO,
            media_uri=f"{tmp_path}/media/a/c:d é.mp4",
            clip_start_s=1.0,
            clip_end_s=2.5,
            turns='[{"role":"user","content":[{"type":"video"},{"type":"text",'
            '"text":"Who sits?"}]},{"role":"assistant","content":"He."}]',
            annotation=json.dumps(row).encode(),
        )
    ]


def test_counts_say_what_was_found(tmp_path):
    describe = [{"from": "human", "value": "Describe the video."}, *TURNS]
    rows = [
        {"id": 1, "video": "a.mp4", "conversations": TURNS, "source": "x", "fps": 3},
        {"id": 1, "image": ["a.jpg", "b.jpg"], "conversations": describe, "source": "y"},
        {"video": str(tmp_path / "media/b.mp4"), "conversations": TURNS, "kind": "caption"},
        {"id": 2, "conversations": TURNS[1:], "kind": "odd"},
        {"id": 3, "question": "Why?", "answer": "So.", "kind": "qa"},
        {"id": 4, "video": "../a.mp4"},
    ]
    counts = ManifestCounts()
    samples_of(tmp_path, rows, counts=counts, rules=TaskRules(field="kind", mapping={"qa": "q"}))
    assert counts == ManifestCounts(
        rows=6,
        modalities=Counter({"video": 2, "image": 1, "text": 1}),
        reasons=Counter({"bad_row": 1, "forbidden": 1}),
        tasks=Counter({"open_ended": 1, "caption": 2, "q": 1}),
        task_origins=Counter({"rule": 2, "field": 1, "map": 1}),
        rows_mixed=1,
        unknown_tasks=Counter({"odd": 1}),
        examples={"open_ended": ["Who sits?"], "caption": ["Describe the video."]},
        unknown_columns=Counter({"source": 2, "fps": 1}),
        ids_missing=1,
        ids_repeated=1,
        absolute_paths=1,
        rows_several_media=1,
        columns=Counter(
            id=5, video=3, image=1, conversations=4, question=1, answer=1, source=2, fps=1, kind=3
        ),
        problems=counts.problems,
        problem_examples=counts.problem_examples,
    )
    assert sorted(counts.problems.values()) == [1, 1]
    told = sorted(counts.problem_examples.values())
    assert told[0].startswith("line 4: the row has neither a media nor a conversation")
    assert told[1].startswith("line 6: '../a.mp4' lies outside the media root")


def test_problems_of_a_kind_are_counted_together_and_the_first_is_kept(tmp_path):
    rows = [{"video": f"../{i}.mp4"} for i in range(3)] + [{"video": 3}, {"video": "a.mp4"}]
    counts = ManifestCounts()
    samples_of(tmp_path, [*rows, {"question": "Why is it so?", "answer": ""}], counts=counts)
    assert sorted(counts.problems.values()) == [1, 3]
    assert set(counts.problems) == set(counts.problem_examples)
    assert {message.split(":")[0] for message in counts.problem_examples.values()} == {
        *("line 1", "line 4")
    }
    assert (counts.num_unusable, counts.rows_without_question, counts.rows_without_answer) == (
        *(4, 1, 2),
    )


def test_sample_ids_are_unique_and_a_missing_one_comes_from_the_content(tmp_path):
    rows = [{"id": "a"}, {"id": "a#2"}, {"id": "a"}, {"sample_id": "a"}, {"id": None}, {"id": None}]
    digest = hashlib.sha256(b'{"id": null}').hexdigest()[:16]
    assert [sample.sample_id for sample in samples_of(tmp_path, rows)] == [
        *("set/a", "set/a#2", "set/a#3", "set/a#4"),
        *(f"set/{digest}", f"set/{digest}#2"),
    ]


@pytest.mark.parametrize(
    ("row", "modality", "name"),
    [
        ({"video": "a.mp4", "image": "b.jpg"}, Modality.VIDEO, "a.mp4"),
        ({"videos": ["a.mp4"]}, Modality.VIDEO, "a.mp4"),
        ({"video": "", "video_path": "a.mp4"}, Modality.VIDEO, "a.mp4"),
        ({"image": "b.jpg"}, Modality.IMAGE, "b.jpg"),
        ({"images": ["b.jpg", "c.jpg"]}, Modality.IMAGE, "b.jpg"),
        ({"image": {"bytes": None, "path": "b.jpg"}}, Modality.IMAGE, "b.jpg"),
        ({"file_name": "c.JPG"}, Modality.IMAGE, "c.JPG"),
        ({"path": "c.mkv"}, Modality.VIDEO, "c.mkv"),
        ({"video": "datafile:1.mp4"}, Modality.VIDEO, "datafile:1.mp4"),
        ({"video": "e\u0301.mp4"}, Modality.VIDEO, "e\u0301.mp4"),  # NFD stays NFD
    ],
)
def test_the_media_is_found_in_the_usual_columns(tmp_path, row, modality, name):
    (sample,) = samples_of(tmp_path, [row])
    assert (sample.reason, sample.modality, sample.media_uri) == (
        None,
        modality,
        f"{tmp_path}/media/{name}",
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../x.mp4", r"'\.\./x\.mp4' lies outside the media root .*/media"),
        ("a/../../x.mp4", "lies outside the media root"),
        ("../media2/x.mp4", "lies outside the media root"),
        ("/etc/passwd", "'/etc/passwd' lies outside.*set media_root"),
        (".", "lies outside"),
        ("link.mp4", r"'link\.mp4' lies outside .* \(it leads to .*/outside/x\.mp4\)"),
        ("linked/x.mp4", r"'linked/x\.mp4' lies outside .* \(it leads to .*/outside/x\.mp4\)"),
        ("http://host/x.mp4", r"'http://host/x\.mp4' is a URL or protocol.*Download"),
        ("S3://bucket/x.mp4", "is a URL or protocol"),
        ("concat:/etc/passwd|b.ts", "is a URL or protocol"),
        ("subfile,,start,0,end,9,,:/etc/passwd", "is a URL or protocol"),
        ("crypto+file:/etc/passwd", "is a URL or protocol"),
        ("file:x.mp4", "is a URL or protocol"),
    ],
)
def test_a_path_that_leads_out_of_the_media_root_is_forbidden(tmp_path, name, message):
    (tmp_path / "media").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/x.mp4").touch()
    (tmp_path / "media/link.mp4").symlink_to("../outside/x.mp4")
    (tmp_path / "media/linked").symlink_to(tmp_path / "outside")
    (sample,) = samples_of(tmp_path, [{"id": "a", "video": name, "question": "Who?"}])
    assert (sample.sample_id, sample.reason, sample.task) == (
        "set/a",
        Reason.FORBIDDEN,
        "open_ended",
    )
    assert re.search(rf"^line 1: .*{message}", sample.message)


def test_links_that_stay_below_the_media_root_are_allowed(tmp_path):
    (tmp_path / "real/deep").mkdir(parents=True)
    (tmp_path / "real/deep/x.mp4").touch()
    (tmp_path / "media").symlink_to("real")  # the root itself may be a link
    (tmp_path / "real/link.mp4").symlink_to("deep/x.mp4")
    rows = [
        {"video": "link.mp4"},
        {"video": "deep/x.mp4"},
        {"video": f"{tmp_path}/real/deep/x.mp4"},
    ]
    assert [(s.reason, s.media_uri) for s in samples_of(tmp_path, rows)] == [
        (None, f"{tmp_path}/media/link.mp4"),
        (None, f"{tmp_path}/media/deep/x.mp4"),
        (None, f"{tmp_path}/real/deep/x.mp4"),
    ]


VIDEO = {"video": "a.mp4"}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (3, "the row is a number, not an object"),
        ([VIDEO], "the row is a list, not an object"),
        ({"video": 3}, "video is a number, wanted the path of a file"),
        ({"video": True}, "video is a boolean"),
        ({"video": {"bytes": "x"}}, "video is an object"),
        (
            {"videos": ["a.mp4", "b.mp4"], "clip_start_s": 3},
            "a part from 3 to inf s, of which of 2 videos is not said",
        ),
        ({"video": "a\0.mp4"}, "holds a NUL character"),
        ({"video": "a\ud800.mp4"}, "not valid Unicode"),
        ({"id": [1], **VIDEO}, "id is a list, wanted text or a number"),
        ({"id": "\ud800", **VIDEO}, "id is .* not valid Unicode"),
        (
            {"conversations": "hello", **VIDEO},
            r"conversations is text that is not JSON \(Expecting",
        ),
        (
            {"conversations": {"a": 1}, **VIDEO},
            "conversations is an object, wanted a list of turns",
        ),
        ({"conversations": '"hello"', **VIDEO}, "conversations is text, wanted a list of turns"),
        ({"conversations": ["hi"], **VIDEO}, "conversations: turn 1 is text, wanted an object"),
        ({"messages": [{"role": "bob"}], **VIDEO}, "messages: turn 1 is from 'bob', wanted human"),
        ({"messages": [{"role": []}], **VIDEO}, r"messages: turn 1 is from '\[\]'"),
        ({"conversations": [{"from": "gpt"}], **VIDEO}, "turn 1: 'value' is null, wanted text"),
        ({"messages": [{"role": "user", "content": [1]}], **VIDEO}, "has a part that is a number"),
        ({"question": 3, **VIDEO}, "question is a number, wanted text"),
        ({"question": "Q", "options": "x", **VIDEO}, "options is text that is not JSON"),
        ({"clip_start_s": "soon", **VIDEO}, "clip_start_s is 'soon', wanted a number of seconds"),
        ({"clip_start_s": -1, **VIDEO}, "clip_start_s is -1, wanted"),
        ({"clip_end_s": math.inf, **VIDEO}, "clip_end_s is inf, wanted"),
        ({"clip_start_s": math.nan, **VIDEO}, "clip_start_s is nan, wanted"),
        ({"clip_start_s": True, **VIDEO}, "clip_start_s is True, wanted"),
        ({"clip_start_s": 10**400, **VIDEO}, "clip_start_s is 1000"),
        ({"clip_start_s": 2, "clip_end_s": 2, **VIDEO}, "clip_end_s is 2, wanted more than .*, 2"),
        ({"caption": "A man."}, "neither a media nor a conversation.*found: 'caption'"),
        ({}, "neither a media nor a conversation.*columns found: none"),
        ({"clip": "a.mp4", "conversations": TURNS}, "placeholder for a media.*found: 'clip'"),
    ],
)
def test_a_row_that_cannot_be_used_becomes_a_sample_that_says_why(tmp_path, row, message):
    bad, good = samples_of(tmp_path, [row, VIDEO])
    assert (bad.reason, good.reason) == (Reason.BAD_ROW, None)
    assert re.search(rf"^line 1: .*{message}", bad.message)


ROW_COLUMNS = [
    *("id", "video", "image", "images", "path", "conversations", "messages", "question", "answer"),
    *("options", "caption", "clip_start_s", "clip_end_s", "meta"),
]


@settings(max_examples=200, deadline=None)
@given(
    row=st.dictionaries(
        st.sampled_from(ROW_COLUMNS),
        JSON_VALUES
        | st.lists(
            st.fixed_dictionaries(
                {}, optional={key: JSON_VALUES for key in ("from", "value", "role", "content")}
            )
        ),
    )
)
def test_any_row_gives_one_sample_and_never_an_exception(tmp_path_factory, row):
    folder = tmp_path_factory.mktemp("rows")
    counts = ManifestCounts()
    (sample,) = samples_of(folder, [row], rules=TaskRules(field="meta.task"), counts=counts)
    assert sample.annotation == json.dumps(row).encode()
    assert sum(counts.modalities.values()) + sum(counts.reasons.values()) == counts.rows == 1
    sample.message.encode()  # can be stored
    (sample.sample_id + sample.media_uri + sample.task).encode()
    str(counts.examples).encode()


def test_a_text_only_row_needs_a_conversation(tmp_path):
    row = {"id": 1, "question": "What does the tag <video> do in HTML?", "answer": "It plays."}
    (sample,) = samples_of(tmp_path, [row])
    assert (sample.reason, sample.modality, sample.media_uri) == (None, Modality.TEXT, "")


def human(text):
    return {"from": "human", "value": text}


@pytest.mark.parametrize(
    ("row", "task"),
    [
        ({"conversations": TURNS}, "open_ended"),
        ({"conversations": json.dumps([human("Describe the video.")])}, "caption"),
        ({"conversations": [{"from": "system", "value": "Hi"}, human("Describe it.")]}, "caption"),
        ({"conversations": [{"from": "gpt", "value": "A man sits."}]}, "caption"),
        ({"conversations": [], "question": "Who?"}, "open_ended"),
        (
            {
                "messages": [
                    {"role": "user", "content": "Day?\n(A) yes\n(B) no"},
                    {"role": "assistant", "content": "A"},
                ]
            },
            "multiple_choice",
        ),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "video", "video": "a.mp4"},
                            {"type": "text", "text": "Describe the video."},
                        ],
                    }
                ]
            },
            "caption",
        ),
        ({"question": "Who sits?", "answer": 3}, "open_ended"),
        ({"question": "Who sits?", "options": ["He", "She"]}, "multiple_choice"),
        ({"question": "Who sits?", "candidates": '["He", "She"]'}, "multiple_choice"),
        ({"question": "Who sits?", "choices": {"A": "He", "B": "She"}}, "multiple_choice"),
        ({"question": "who sits", "a0": "he", "a1": "she", "answer": 1}, "multiple_choice"),
        ({"caption": "A man sits."}, "caption"),
        ({"captions": [{"idx": "1", "content": "A man sits."}]}, "caption"),
        ({}, "open_ended"),
    ],
)
def test_the_task_follows_from_each_layout_of_a_conversation(tmp_path, row, task):
    (sample,) = samples_of(tmp_path, [{**row, **VIDEO}])
    assert (sample.reason, sample.task, sample.task_origin) == (None, task, "rule")


def test_the_task_comes_from_the_dataset_then_the_field_then_the_rules(tmp_path):
    rows = [
        {**VIDEO, "meta": {"kind": "caption"}},
        {**VIDEO, "meta": {"kind": 2}},
        {**VIDEO, "meta": {"kind": "odd"}},
        {**VIDEO, "meta": "caption"},
        {**VIDEO, "meta.kind": "caption"},
    ]
    rules = TaskRules(field="meta.kind", mapping={"2": "grounding"})
    assert [(s.task, s.task_origin) for s in samples_of(tmp_path, rows, rules=rules)] == [
        ("caption", "field"),
        ("grounding", "map"),
        ("open_ended", "rule"),
        ("open_ended", "rule"),
        ("caption", "field"),
    ]
    for sample in samples_of(tmp_path, rows, rules=rules, task="mine"):
        assert (sample.task, sample.task_origin) == ("mine", "dataset")


def test_csv_cells_give_the_same_sample_as_json(tmp_path):
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(["id", "video", "conversations", "clip_start_s", "clip_end_s"])
    table.writerow(["1", "a.mp4", json.dumps(TURNS), "", "2.5"])
    manifest = tmp_path / "a.csv"
    manifest.write_text(text.getvalue())
    dataset = Dataset(name="d", manifest=manifest, format="csv", media_root=tmp_path)
    (sample,) = read_samples(dataset, TaskRules(), ManifestCounts(), SeenIds())
    assert (sample.reason, sample.task, sample.clip_start_s, sample.clip_end_s) == (
        None,
        "open_ended",
        0.0,
        2.5,
    )


def test_a_file_name_that_is_not_utf8_is_a_bad_row_and_stops_nothing(tmp_path):
    try:
        (tmp_path / os.fsdecode(b"caf\xe9.mp4")).touch()
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    dataset = Dataset(name="d", manifest=tmp_path, format="folder", media_root=tmp_path)
    (sample,) = read_samples(dataset, TaskRules(), ManifestCounts(), SeenIds())
    assert (sample.reason, sample.annotation) == (
        Reason.BAD_ROW,
        rb'{"id": "caf\udce9.mp4", "video": "caf\udce9.mp4"}',
    )
    assert "not valid Unicode" in sample.message


@pytest.mark.parametrize(
    ("name", "tasks"),
    [
        ("annotations.json", {"caption": 37, "multiple_choice": 24, "open_ended": 19}),
        ("annotations_hard.json", {"caption": 131}),
    ],
)
def test_the_corpus_is_read_whole_and_classified_as_its_ids_say(corpus, name, tasks):
    path = corpus / name
    dataset = Dataset(name="c", manifest=path, format=detect_format(path), media_root=corpus)
    counts = ManifestCounts()
    samples = list(read_samples(dataset, TaskRules(), counts, SeenIds()))
    suffixes = {"mc": "multiple_choice", "oe": "open_ended"}
    named = [suffixes.get(sample.sample_id.rsplit("-", 1)[-1], "caption") for sample in samples]
    assert [sample.task for sample in samples] == named
    assert (counts.tasks, counts.reasons) == (Counter(tasks), Counter())
    assert [json.loads(sample.annotation) for sample in samples] == json.loads(path.read_bytes())
    assert {Path(sample.media_uri).is_file() for sample in samples} == {True}
