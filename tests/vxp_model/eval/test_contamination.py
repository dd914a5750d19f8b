"""What a training set has had of a benchmark, told by a real prune of drawn videos."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from support.big_videos import ffmpeg
from support.eval_runs import Shapes, shape_questions
from support.mllm_videos import write_colours
from support.runs import by_sample, caption_row, run_prune, write_rows
from vxp_data.pipeline.curate.decontaminate import Decontamination
from vxp_model.errors import UserError
from vxp_model.eval.contamination import (
    describe_overlap,
    media_list,
    media_manifest,
    names_of,
    overlap,
)

QUESTIONS = [
    replace(one, video=f"videos/{name}.mp4")
    for one in shape_questions(3)
    for name in [("v_Ab-1", "two", "three")[int(one.question_id[0])]]
]


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The benchmark's folder: questions, and two of its three videos."""
    root = tmp_path_factory.mktemp("benchmark")
    lines = [json.dumps(one.to_dict()) for one in QUESTIONS]
    (root / "questions.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (root / "videos").mkdir()
    write_colours(root / "videos/v_Ab-1.mp4", num_frames=10, fps=2)
    write_colours(root / "videos/two.mp4", num_frames=13, fps=2)
    return root


@pytest.fixture(scope="module")
def training(
    tmp_path_factory: pytest.TempPathFactory,
    benchmark: Path,
    engine: None,  # noqa: ARG001 - where it runs
) -> Path:
    """A training set's rows and media: two namesakes, a copy under another name, another."""
    folder = tmp_path_factory.mktemp("training")
    media = folder / "media"
    media.mkdir()
    write_colours(media / "ytb_Ab-1.mp4", num_frames=20, fps=4, px=96)
    write_colours(media / "two-else.mp4", num_frames=8, fps=1, px=32)
    ffmpeg(media / "three.mp4", "-f", "lavfi", "-i", "testsrc2=s=96x96:r=4:d=9")
    shutil.copy(benchmark / "videos/two.mp4", media / "renamed.mp4")
    names = {"a": "ytb_Ab-1.mp4", "b": "two-else.mp4", "c": "three.mp4", "d": "renamed.mp4"}
    write_rows(folder / "rows.json", [caption_row(key, name) for key, name in names.items()])
    return folder


def pruned(training: Path, out: Path, *exclude: Path) -> Path:
    run_prune(
        training / "rows.json",
        out,
        training / "media",
        thresholds={"default": "keep 1.0"},
        duplicates__exclude=[str(path) for path in exclude],
    )
    return out


def test_lists_have_every_name_without_suffix_and_prefix(benchmark):
    assert media_list(Shapes(), benchmark) == ["Ab-1", "three", "two", "v_Ab-1"]


def test_a_name_that_ends_with_the_type_also_stands_for_what_it_was_cut_from():
    one = replace(
        QUESTIONS[0], video="x/v_Zz_cnt_edit1.mp4", groups={"task": "cnt_edit1", "level": "hard"}
    )
    assert names_of(one) == ("v_Zz_cnt_edit1", "v_Zz", "Zz_cnt_edit1", "Zz")


@pytest.mark.parametrize("uri", ["/m/Ab-1.mp4", "s3://b/ytb_two.mkv", "v_three.mp4", "four.mp4"])
def test_names_are_read_as_prune_reads_them(benchmark, uri):
    listed = Decontamination(ids=dict.fromkeys(media_list(Shapes(), benchmark), "list"), runs=())
    names = {name for one in QUESTIONS for name in names_of(one)}
    assert names == set(media_list(Shapes(), benchmark))
    assert (listed.listed("set/1", uri, "") is not None) == ("four" not in uri)


def test_rows_that_stay_under_a_benchmarks_name_are_warned_of(training, tmp_path):
    run = pruned(training, tmp_path / "run")
    found = overlap(run, QUESTIONS)
    assert (found.num_rows, found.exclude, found.excluded) == (4, (), {})
    assert found.kept == {
        "videos/three.mp4": ("rows/c",),
        "videos/v_Ab-1.mp4": ("rows/a",),
    }
    told = describe_overlap(found, "shapes")
    assert "told to take nothing out" in told
    assert "WARNING: 2 rows stay whose files are called as 2 of its videos" in told
    assert "    videos/v_Ab-1.mp4: rows/a" in told


def test_a_list_takes_them_out_and_that_is_told(training, benchmark, tmp_path):
    listed = tmp_path / "shapes.txt"
    listed.write_text("\n".join(media_list(Shapes(), benchmark)), encoding="utf-8")
    others = tmp_path / "others.txt"
    others.write_text("two-else\n", encoding="utf-8")
    run = pruned(training, tmp_path / "run", listed, others)
    assert by_sample(run, "decision")["d"] == "keep"
    found = overlap(run, QUESTIONS)
    assert found.is_clean
    assert found.excluded == {
        "videos/three.mp4": ("rows/c",),
        "videos/v_Ab-1.mp4": ("rows/a",),
    }
    assert found.num_excluded_others == 1
    assert found.exclude == (str(listed), str(others))
    told = describe_overlap(found, "shapes")
    assert "taken out: 2 rows, for 2 videos of shapes; 1 rows for others" in told
    assert "WARNING" not in told


def test_a_run_over_the_benchmarks_videos_takes_out_copies_of_other_names(
    training, benchmark, tmp_path
):
    manifest = tmp_path / "shapes.jsonl"
    rows = list(media_manifest(Shapes(), benchmark))
    assert [row["id"] for row in rows] == [
        "videos/v_Ab-1.mp4",
        "videos/two.mp4",
        "videos/three.mp4",
    ]
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    run_prune(manifest, tmp_path / "eval", benchmark, thresholds={"default": "keep 1.0"})
    run = pruned(training, tmp_path / "run", tmp_path / "eval")
    assert by_sample(run, "reason")["d"] == "in_evaluation"
    found = overlap(run, QUESTIONS)
    assert "rows/d" in found.excluded["videos/two.mp4"]  # greys look alike: others are too
    assert found.kept["videos/three.mp4"] == ("rows/c",)  # not there to be compared with


def test_a_manifest_names_videos_where_they_lie(tmp_path):
    lines = [json.dumps(one.to_dict()) for one in QUESTIONS]
    (tmp_path / "questions.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat/two.mkv").touch()
    assert list(media_manifest(Shapes(), tmp_path))[1:] == [
        {"id": "videos/two.mp4", "video": "flat/two.mkv"},
        {"id": "videos/three.mp4", "video": "videos/three.mp4"},
    ]


def test_rows_of_several_media_count_too(several_run):
    samples = pq.read_table(several_run / "samples.parquet").to_pylist()
    kept = by_sample(several_run, "decision")
    stems = {Path(clip["media_uri"]).stem for row in samples for clip in row["clips"]}
    assert stems
    for stem in stems:
        found = overlap(several_run, [replace(QUESTIONS[0], video=f"elsewhere/{stem}.mkv")])
        named = {
            row["sample_id"]
            for row in samples
            for uri in [row["media_uri"], *(clip["media_uri"] for clip in row["clips"])]
            if uri and Path(uri).stem == stem and kept[row["sample_id"].split("/", 1)[1]] == "keep"
        }
        assert set(found.kept.get(f"elsewhere/{stem}.mkv", ())) == named


def test_a_part_of_a_benchmarks_film_is_that_film(tmp_path):
    samples = [
        {"sample_id": name, "media_uri": f"{name}.mp4", "clips": []} for name in ("p", "q", "r")
    ]
    told = {"p": "runs/eval: /e/two.mp4#t=3,7", "q": "list#t=1: three", "r": "list#t=1: other"}
    decisions = [
        {"sample_id": name, "decision": "duplicate", "reason": "in_evaluation", "duplicate_of": of}
        for name, of in told.items()
    ]
    duplicates = [
        {"reason": "in_evaluation", "source": source, "representative_uri": uri}
        for source, uri in [
            ("runs/eval", "/e/two.mp4"),
            ("list#t=1", "three"),
            ("list#t=1", "other"),
        ]
    ]
    clips = pa.list_(pa.struct([("media_uri", pa.string())]))
    table = pa.Table.from_pylist(samples)
    table = table.set_column(2, "clips", table["clips"].cast(clips))
    pq.write_table(table, tmp_path / "samples.parquet")
    pq.write_table(pa.Table.from_pylist(decisions), tmp_path / "decisions.parquet")
    pq.write_table(pa.Table.from_pylist(duplicates), tmp_path / "duplicates.parquet")
    (tmp_path / "run.json").write_text("{}", encoding="utf-8")
    found = overlap(tmp_path, QUESTIONS)
    assert found.excluded == {"videos/three.mp4": ("q",), "videos/two.mp4": ("p",)}
    assert found.num_excluded_others == 1


def test_a_folder_without_a_prune_is_refused(tmp_path):
    with pytest.raises(UserError, match="no finished run of `vxp-data prune` lies there"):
        overlap(tmp_path, QUESTIONS)
