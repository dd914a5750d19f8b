"""`vxp-data ingest`: from a public dataset's files to a manifest that prune reads."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from support import s3 as s3_server
from support.annotation_rows import CASES, written
from vxp_data.cli import app
from vxp_data.datasets.catalogue import load_record
from vxp_data.datasets.ingest import ingest_dataset
from vxp_data.datasets.layouts.base import Reader
from vxp_data.errors import UserError
from vxp_data.manifests.samples import Dataset, ManifestCounts, TaskRules, read_samples
from vxp_data.manifests.seen_ids import SeenIds
from vxp_data.pipeline.recipe.sources import RecipeSources
from vxp_data.records import Sample
from vxp_data.registry import ANNOTATION_LAYOUTS
from vxp_data.settings.data import IngestConfig, SourceConfig
from vxp_data.shipped_files import DATASETS
from vxp_data.storage.folder import open_folder

HEAD = "id,subject,scene,quality,relevance,verified,script,objects,descriptions,actions,length"


def charades(root: Path) -> Path:
    """Three videos, of which one is there; a row without words; two moments, one of them broken."""
    rows = [
        'AAAAA,S,Kitchen,7,7,Yes,Cook.,pan,"A man cooks; he eats",c1 0 1,30.5',
        "BBBBB,S,Hall,7,7,Yes,Walk.,shoe,A woman walks,c1 0 1,30.5",
        "CCCCC,S,Hall,7,7,Yes,,shoe,,c1 0 1,30.5",
    ]
    (root / "Charades_v1_480").mkdir(parents=True)
    (root / "Charades_v1_480/AAAAA.mp4").write_bytes(b"x")
    (root / "Charades_v1_train.csv").write_text("\n".join([HEAD, *rows]) + "\n")
    moments = "AAAAA 1.5 3.0##person cooks.\nBBBBB two 3##person walks.\n"
    (root / "charades_sta_train.txt").write_text(moments)
    return root


def samples(manifest: Path, root: Path) -> list[Sample]:
    """What prune makes of a manifest."""
    dataset = Dataset(name="set", manifest=manifest, format="jsonl", media_root=root)
    rules = TaskRules(field="task")
    return list(read_samples(dataset, rules, ManifestCounts(), SeenIds()))


def json_lines(path: str | Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def test_rows_missing_media_and_broken_rows_are_written_and_counted(tmp_path: Path) -> None:
    root = charades(tmp_path / "charades")
    out = tmp_path / "out/train.jsonl"
    result = ingest_dataset("charades", root=root, out=out)
    assert [row["id"] for row in json_lines(out)] == ["AAAAA", "BBBBB", "AAAAA_1.5_3.0"]
    assert result.rows_by_task == {"caption": 2, "open_ended": 1}
    assert (result.num_rows, result.num_media, result.num_missing) == (3, 2, 1)
    assert Path(result.missing).read_text() == "Charades_v1_480/BBBBB.mp4\n"
    captions, moments = result.files
    assert (captions.num_read, captions.num_written, captions.num_rejected) == (3, 2, 1)
    assert (moments.num_read, moments.num_written, moments.num_rejected) == (2, 1, 1)
    assert (captions.paths, moments.paths) == (
        ("Charades_v1_train.csv",),
        ("charades_sta_train.txt",),
    )
    rejected = json_lines(result.rejected)
    assert [(row["file"], row["where"], row["reason"]) for row in rejected] == [
        ("Charades_v1_train.csv", "line 4", "bad_row"),
        ("charades_sta_train.txt", "line 2", "bad_row"),
    ]
    assert rejected[0]["message"] == "the row has neither descriptions nor a script"
    assert result.num_rejected == 2


def test_prune_reads_the_manifest_as_it_is(tmp_path: Path) -> None:
    root = charades(tmp_path / "charades")
    ingest_dataset("charades", root=root, out=tmp_path / "train.jsonl")
    found = samples(tmp_path / "train.jsonl", root)
    assert [sample.reason for sample in found] == [None] * 3
    assert [sample.task for sample in found] == ["caption", "caption", "open_ended"]
    assert {sample.task_origin for sample in found} == {"field"}
    assert found[0].media_uri == str(root / "Charades_v1_480/AAAAA.mp4")
    assert json.loads(found[0].turns)[1]["content"] == "A man cooks"


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    root = charades(tmp_path / "charades")
    for name in ("a", "b"):
        ingest_dataset("charades", root=root, out=tmp_path / f"{name}.jsonl")
    for suffix in (".jsonl", ".missing.txt", ".rejected.jsonl"):
        first, second = (tmp_path / f"{name}{suffix}" for name in ("a", "b"))
        assert first.read_bytes() == second.read_bytes()


def test_an_optional_file_may_be_absent_and_a_required_one_not(tmp_path: Path) -> None:
    root = charades(tmp_path / "charades")
    (root / "charades_sta_train.txt").unlink()
    result = ingest_dataset("charades", root=root, out=tmp_path / "a.jsonl")
    assert result.absent == ("moments",)
    with pytest.raises(UserError, match=r"charades_sta_train\.txt \(moments\): Put charades_sta"):
        ingest_dataset("charades", root=root, out=tmp_path / "b.jsonl", only=["moments"])
    both = ["captions", "moments"]
    with pytest.raises(UserError, match=r"charades_sta_train\.txt \(moments\)"):
        ingest_dataset("charades", root=root, out=tmp_path / "b.jsonl", only=both)
    (root / "Charades_v1_train.csv").unlink()
    with pytest.raises(UserError, match=r"Charades_v1_train\.csv \(captions\): Unpack .* From: ht"):
        ingest_dataset("charades", root=root, out=tmp_path / "b.jsonl")
    assert not (tmp_path / "b.jsonl").exists()


def test_one_file_of_several_can_be_asked_for(tmp_path: Path) -> None:
    root = charades(tmp_path / "charades")
    result = ingest_dataset("charades", root=root, out=tmp_path / "a.jsonl", only=["moments"])
    assert [file.name for file in result.files] == ["moments"]
    with pytest.raises(UserError, match=r"unknown file of dataset 'charades' 'momnts'.*'moments'"):
        ingest_dataset("charades", root=root, out=tmp_path / "a.jsonl", only=["momnts"])


def test_what_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    root = charades(tmp_path / "charades")
    with (root / "Charades_v1_train.csv").open("a") as file:
        file.write('DDDDD,"never closed\n')
    with pytest.raises(UserError, match="a closing quote"):
        ingest_dataset("charades", root=root, out=tmp_path / "out/a.jsonl")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_wrong_name_place_or_suffix_is_the_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"dataset 'charade': .* Did you mean 'charades'"):
        ingest_dataset("charade", root=tmp_path, out=tmp_path / "a.jsonl")
    with pytest.raises(UserError, match=r"--root .*nowhere: no such folder"):
        ingest_dataset("charades", root=tmp_path / "nowhere", out=tmp_path / "a.jsonl")
    with pytest.raises(UserError, match=r"give it a name that ends in \.jsonl"):
        ingest_dataset("charades", root=tmp_path, out=tmp_path / "a.json")


RECORD = """
name: mine
title: Mine
home_page: https://example.org
licence: {annotations: MIT, media: MIT, terms: not stated, source: https://example.org}
used: [{table: sft, label: Mine 1K, rows: 1000}]
rows: {rows: null, source: not stated}
split: all
media: {modality: video, naming: by id, download: {url: https://example.org, how: Take them.}}
files:
  rows:
    path: "%s"
    layout: %s
    media: "%s"
    download: {url: https://example.org, how: Take it.}
"""


def record(folder: Path, path: str, layout: str, media: str = "{media}") -> Path:
    file = folder / "mine.yaml"
    file.write_text(RECORD % (path, layout, media))
    return file


def llava(name: str, media: object = "a.mp4") -> dict[str, Any]:
    turns = [{"from": "human", "value": "<video>\nWhy?"}, {"from": "gpt", "value": "So."}]
    return {"id": name, "video": media, "conversations": turns}


def test_rows_of_files_in_several_folders_name_media_in_their_own(tmp_path: Path) -> None:
    for folder in ("0_30_s", "1_2_m"):
        (tmp_path / folder).mkdir()
        rows = [llava("r"), llava("s", ["b.mp4"])]
        (tmp_path / folder / f"{folder}_cap.json").write_text(json.dumps(rows))
    file = record(tmp_path, "*/*_cap.json", "llava_json", "{folder}/{media}")
    result = ingest_dataset(file, root=tmp_path, out=tmp_path / "out.jsonl")
    assert [row["video"] for row in json_lines(tmp_path / "out.jsonl")] == [
        "0_30_s/a.mp4",
        ["0_30_s/b.mp4"],
        "1_2_m/a.mp4",
        ["1_2_m/b.mp4"],
    ]
    assert result.files[0].paths == ("0_30_s/0_30_s_cap.json", "1_2_m/1_2_m_cap.json")
    assert result.rows_by_task == {"open_ended": 4}
    assert result.num_missing == 4


def test_a_media_outside_the_root_is_rejected_as_forbidden(tmp_path: Path) -> None:
    rows = [llava("a", "../../etc/passwd"), llava("b", "http://example.org/a.mp4"), llava("c")]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    file = record(tmp_path, "rows.json", "llava_json")
    result = ingest_dataset(file, root=tmp_path, out=tmp_path / "out.jsonl")
    assert [row["reason"] for row in json_lines(result.rejected)] == ["forbidden", "forbidden"]
    assert result.num_rows == 1


def test_what_json_does_not_have_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text(json.dumps([llava("a") | {"score": float("nan")}]))
    file = record(tmp_path, "rows.json", "llava_json")
    result = ingest_dataset(file, root=tmp_path, out=tmp_path / "out.jsonl")
    assert "cannot be written as JSON" in json_lines(result.rejected)[0]["message"]


def test_of_several_suffixes_the_one_that_is_there_is_taken(tmp_path: Path) -> None:
    rows = [{"q": "Why?", "a": "So.", "video_id": name} for name in ("v_1", "v_2", "v_3.mkv")]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    (tmp_path / "v_2.mkv").write_bytes(b"x")
    text = record(tmp_path, "rows.json", "video_chatgpt").read_text()
    file = tmp_path / "mine.yaml"
    file.write_text(text.replace("    download:", "    suffixes: [.mp4, .mkv]\n    download:"))
    ingest_dataset(file, root=tmp_path, out=tmp_path / "out.jsonl")
    videos = [row["video"] for row in json_lines(tmp_path / "out.jsonl")]
    assert videos == ["v_1.mp4", "v_2.mkv", "v_3.mkv"]


def test_rows_of_other_splits_are_counted_for_each_file(tmp_path: Path) -> None:
    fields = CASES["ocr_vqa"][0]
    text = record(tmp_path, "a.json", "ocr_vqa").read_text()
    entry = text[text.index("  rows:\n    path") :]
    file = tmp_path / "mine.yaml"
    file.write_text(text + entry.replace("  rows:", "  others:").replace("a.json", "b.json"))
    splits = {"a.json": (1, 2, 3, 3), "b.json": (3,)}
    for name, numbers in splits.items():
        rows = {str(index): {**fields, "split": split} for index, split in enumerate(numbers)}
        (tmp_path / name).write_text(json.dumps(rows))
    result = ingest_dataset(file, root=tmp_path, out=tmp_path / "out.jsonl")
    assert [dict(found.skipped) for found in result.files] == [
        {"split test": 2, "split val": 1},
        {"split test": 1},
    ]
    assert [found.num_written for found in result.files] == [1, 0]


def images_in_parquet(root: Path) -> Path:
    """Return the file of a dataset whose images, a.png and b.png, stand in the annotations."""
    turns = llava("x")["conversations"]
    rows = [
        {"id": name, "image": {"bytes": name.encode(), "path": f"{name}.png"}}
        | {"conversations": turns}
        for name in ("a", "b")
    ]
    pq.write_table(pa.Table.from_pylist(rows), root / "rows.parquet")
    return record(root, "*.parquet", "llava_parquet", "images/{media}")


@pytest.mark.parametrize("extract_media", [False, True])
def test_a_recipe_says_whether_media_are_written_out(tmp_path: Path, extract_media: bool) -> None:
    source = SourceConfig(dataset=str(images_in_parquet(tmp_path)), root=str(tmp_path))
    config = IngestConfig(datasets=(source,), extract_media=extract_media)
    RecipeSources(config, open_folder(tmp_path / "out")).ingest()
    assert (tmp_path / "images/b.png").exists() is extract_media


def test_media_inside_annotation_files_are_written_out_once(tmp_path: Path) -> None:
    file = images_in_parquet(tmp_path)
    result = ingest_dataset(file, root=tmp_path, out=tmp_path / "a.jsonl")
    assert (result.num_missing, result.num_extracted) == (2, 0)
    result = ingest_dataset(file, root=tmp_path, out=tmp_path / "a.jsonl", extract_media=True)
    assert (result.num_missing, result.num_extracted) == (0, 2)
    assert (tmp_path / "images/b.png").read_bytes() == b"b"
    result = ingest_dataset(file, root=tmp_path, out=tmp_path / "a.jsonl", extract_media=True)
    assert (result.num_missing, result.num_extracted) == (0, 0)


def test_a_dataset_in_a_store_gives_the_same_manifest(tmp_path: Path, s3: s3_server.Bucket) -> None:
    root = charades(tmp_path / "charades")
    local = ingest_dataset("charades", root=root, out=tmp_path / "a.jsonl")
    for path in root.rglob("*"):
        if path.is_file():
            s3.put(f"sets/charades/{path.relative_to(root)}", path.read_bytes())
    stored = ingest_dataset("charades", root=f"{s3.uri}/sets/charades", out=f"{s3.uri}/out/a.jsonl")
    assert s3.get("out/a.jsonl") == (tmp_path / "a.jsonl").read_bytes()
    assert s3.get("out/a.missing.txt") == Path(local.missing).read_bytes()
    assert stored.num_media == local.num_media


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "layout: llava_json",
            "layout: lava_json",
            "layout 'lava_json'. Did you mean 'llava_json'",
        ),
        (
            "    layout",
            "    layuot",
            "files.rows.layuot: unknown field 'layuot'. Did you mean 'layout",
        ),
        ("title", "tilte", "tilte: unknown field 'tilte'. Did you mean 'title'"),
        ("{table: sft,", "{tables: sft,", "used.0.tables: unknown field 'tables'. Did you mean"),
        ("rows: null, source: not stated", "rows: 5, source: not stated", "a figure has a source"),
        ("rows: null, source: not stated", "rows: null, source: a page", "a figure has a source"),
        ('path: "rows.json"', 'path: "../rows.json"', "leads out of the dataset's root"),
        ("    layout", "    task: captoin\n    layout", "unknown task 'captoin'"),
        ("name: mine", "name: other", "name is 'other', and the file's is 'mine'"),
        ("table: sft", "table: stf", "used.0.table: Input should be 'pretrain', 'sft' or 'recot'"),
    ],
)
def test_a_wrong_record_is_named_with_what_to_do(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    file = record(tmp_path, "rows.json", "llava_json")
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises(UserError) as raised:
        load_record(file)
    assert message in str(raised.value)


@pytest.mark.parametrize("name", DATASETS.names())
def test_a_row_of_every_file_of_every_dataset_of_ours_is_ingested(
    name: str, tmp_path: Path
) -> None:
    known = load_record(name)
    assert known.used  # ours are those of the paper
    for file in known.files.values():
        fields, row, _ = CASES[file.layout]
        if ANNOTATION_LAYOUTS.load(file.layout).reader == Reader.OBJECT:
            fields = {**fields, "split": {"ocr_vqa": 1}.get(file.layout, "train")}
        path = tmp_path / file.path.replace("*", "x_v0_1", 1).replace("*", "x")
        path.parent.mkdir(parents=True, exist_ok=True)
        written(path, file.layout, [fields])
        if file.companion:
            held: Any = row["companion"]
            if file.layout == "activitynet_qa":
                held = [{"question_id": key, **value} for key, value in held.items()]
            (tmp_path / file.companion).write_text(json.dumps(held))
    result = ingest_dataset(name, root=tmp_path, out=tmp_path / "out.jsonl")
    assert [file.num_read for file in result.files] == [1] * len(known.files)
    assert result.num_rejected == 0, Path(result.rejected).read_text()
    assert result.num_rows >= len(known.files)
    found = samples(tmp_path / "out.jsonl", tmp_path)
    assert {sample.reason for sample in found} == {None}
    tasks = {file.task for file in known.files.values()} - {None}
    assert tasks <= {sample.task for sample in found}


def test_the_command_prints_counts_and_what_to_do_next(tmp_path: Path) -> None:
    root = charades(tmp_path / "charades")
    words = ["ingest", "charades", "--root", str(root), "--out", str(tmp_path / "a.jsonl")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["file", "rows", "expected", "written", "skipped", "broken"]
    assert lines[1].split() == ["captions", "3", "not", "stated", "2", "0", "1"]
    assert "1  of 2 media are missing" in done.stdout
    assert f"--media-root {root} --set tasks.field=task" in lines[-1]


def test_the_command_says_what_to_download_and_exits_with_2(tmp_path: Path) -> None:
    program = str(Path(sys.executable).with_name("vxp-data"))
    words = ["ingest", "charades", "--root", str(tmp_path), "--out", str(tmp_path / "b.jsonl")]
    done = subprocess.run([program, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "these annotation files are not below" in done.stderr
    assert "From: https://prior.allenai.org/projects/charades" in done.stderr
    assert "Traceback" not in done.stderr


NEXT_QA = """video,frame_count,width,height,question,answer,qid,type,a0,a1,a2,a3,a4
42,9,4,3,why does he sit,1,0,CW,tired,asked,fell,ill,rest
"""
NEXT_OE = """video,frame_count,width,height,question,answer,qid,type
42,9,4,3,why does he sit,he was asked,0,CW
"""


def put(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


NEXT_MAP = json.dumps({"42": "1164/42"})
ACTIVITY = {
    "q": json.dumps([{"video_name": "ab", "question": "who sits", "question_id": "ab_1"}]),
    "a": json.dumps([{"answer": "he", "type": 1, "question_id": "ab_1"}]),
}
TURNS = [{"from": "human", "value": "<image>\nDescribe it."}, {"from": "gpt", "value": "A man."}]
LLAVA = json.dumps([{"id": "a", "video": "academic_source/x/a.mp4", "conversations": TURNS}])
UNPACKED = {
    "next-qa, as the record has it": (
        "next-qa",
        {
            "nextqa/train.csv": NEXT_QA,
            "nextqa/map_vid_vidorID.json": NEXT_MAP,
            "videos/1164/42.mp4": "",
        },
    ),
    "next-qa, the repository and the videos' own folder": (
        "next-qa",
        {
            "NExT-QA/dataset/nextqa/train.csv": NEXT_QA,
            "NExT-QA/dataset/nextqa/map_vid_vidorID.json": NEXT_MAP,
            "NExTVideo/1164/42.mp4": "",
        },
    ),
    "next-qa, the root is the unpacked zip": (
        "next-qa",
        {"train.csv": NEXT_QA, "map_vid_vidorID.json": NEXT_MAP, "NExTVideo/1164/42.mp4": ""},
    ),
    "next-qa, both repositories": (
        "next-qa",
        {
            "NExT-QA/dataset/nextqa/train.csv": NEXT_QA,
            "NExT-QA/dataset/nextqa/map_vid_vidorID.json": NEXT_MAP,
            "NExT-OE/dataset/nextqa/train.csv": NEXT_OE,
            "NExT-OE/dataset/nextqa/map_vid_vidorID.json": NEXT_MAP,
            "vidor/training/1164/42.mp4": "",
        },
    ),
    "activitynet-qa, the repository": (
        "activitynet-qa",
        {
            "activitynet-qa/dataset/train_q.json": ACTIVITY["q"],
            "activitynet-qa/dataset/train_a.json": ACTIVITY["a"],
            "all_videos/v_ab.mkv": "",
        },
    ),
    "activitynet-qa, the repository's folder": (
        "activitynet-qa",
        {"train_q.json": ACTIVITY["q"], "train_a.json": ACTIVITY["a"], "v_ab.webm": ""},
    ),
    "llava-video, all folders in one": (
        "llava-video-178k",
        {
            "LLaVA-Video-178K/0_30_s_academic_v0_1/0_30_s_academic_v0_1_cap_processed.json": LLAVA,
            "LLaVA-Video-178K/0_30_s_academic_v0_1/academic_source/x/a.mp4": "",
        },
    ),
    "llava-video, one folder": (
        "llava-video-178k",
        {"0_30_s_academic_v0_1_cap_processed.json": LLAVA, "academic_source/x/a.mp4": ""},
    ),
    "llava-video, videos unpacked beside the folders": (
        "llava-video-178k",
        {
            "0_30_s_academic_v0_1/0_30_s_academic_v0_1_cap_processed.json": LLAVA,
            "academic_source/x/a.mp4": "",
        },
    ),
}


@pytest.mark.parametrize("name", UNPACKED)
def test_a_dataset_is_found_as_its_download_unpacks(name: str, tmp_path: Path) -> None:
    dataset, files = UNPACKED[name]
    root = put(tmp_path / "root", files)
    only = ["captions"] if dataset.startswith("llava") else ()
    result = ingest_dataset(dataset, root=root, out=tmp_path / "a.jsonl", only=only)
    assert (result.num_rejected, result.num_missing) == (0, 0)
    found = samples(tmp_path / "a.jsonl", root)
    assert len(found) == sum(name.endswith((".csv", "q.json", "processed.json")) for name in files)
    (media,) = (path for path in files if path.endswith((".mp4", ".mkv", ".webm")))
    assert {sample.media_uri for sample in found} == {str(root / media)}


def test_a_file_that_is_there_twice_is_not_chosen_for_the_user(tmp_path: Path) -> None:
    files = {f"{copy}/deep/train_{one}.json": ACTIVITY[one] for copy in "xy" for one in "qa"}
    root = put(tmp_path / "root", files)
    with pytest.raises(UserError, match=r"train_q\.json is there 2 times: x/deep.*Give --root"):
        ingest_dataset("activitynet-qa", root=root, out=tmp_path / "a.jsonl")


def test_media_that_are_nowhere_are_named_where_the_record_wants_them(tmp_path: Path) -> None:
    files = {f"dataset/train_{one}.json": ACTIVITY[one] for one in "qa"}
    root = put(tmp_path / "root", {**files, "other/v_xy.mp4": ""})
    result = ingest_dataset("activitynet-qa", root=root, out=tmp_path / "a.jsonl")
    assert Path(result.missing).read_text() == "videos/v_ab.mp4\n"
