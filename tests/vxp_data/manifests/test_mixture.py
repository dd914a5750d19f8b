"""Mixture files: several datasets in one YAML."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from support.repo import ROOT
from vxp_data.cli import app
from vxp_data.datasets.catalogue import load_record
from vxp_data.errors import UserError
from vxp_data.manifests.mixture import read_entries, read_mixture
from vxp_data.manifests.samples import Dataset
from vxp_data.pipeline.run_dir.samples import dataset_facts, dataset_from_facts
from vxp_data.shipped_files import DATASETS

MIXTURES = ROOT / "manifests" / "mixtures"


def write(path, content):
    path.write_text(content)
    return path


def test_a_mixture_gives_its_datasets_with_paths_from_its_own_folder(tmp_path):
    (tmp_path / "clips").mkdir()
    path = write(
        tmp_path / "mix.yaml",
        """
        datasets:
          - {name: a, manifest: rows/a.json, media_root: media, task: caption}
          - {name: b, json_path: /data/b.txt, media_root: /data, format: jsonl, task: null}
          - {name: c, manifest: clips}
        """,
    )
    assert read_mixture(path) == [
        Dataset(
            name="a",
            manifest=tmp_path / "rows/a.json",
            format="json",
            media_root=tmp_path / "media",
            task="caption",
        ),
        Dataset(name="b", manifest=Path("/data/b.txt"), format="jsonl", media_root=Path("/data")),
        Dataset(
            name="c",
            manifest=tmp_path / "clips",
            format="folder",
            media_root=tmp_path / "clips",
        ),
    ]


GOOD = "name: a, manifest: a.json, media_root: m"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("datasets: [", r"mix\.yaml: not valid YAML: "),
        ("", r"got null without the key 'datasets'"),
        ("datasets: {}", r"'datasets' is an object, wanted a list"),
        ("datasets: []", r"'datasets' is a list, wanted a list of one or more"),
        ("datasets: []\ndataset: 1", r"unknown key 'dataset'\. Did you mean 'datasets'"),
        ("datasets: [a]", r"dataset 1: got text, wanted \{name"),
        ("datasets: [{manifset: a}]", r"unknown key 'manifset'\. Did you mean 'manifest'"),
        ("datasets: [{name: a}]", r"dataset 1: the key 'manifest' is missing; it has name"),
        ("datasets: [{name: a, manifest: a.json}]", r"the key 'media_root' is missing"),
        ("datasets: [{name: 3}]", r"'name' is a number, wanted text"),
        ("datasets: [{name: ''}]", r"'name' is '', wanted text"),
        (f"datasets: [{{{GOOD}, json_path: b}}]", r"has both 'manifest' and 'json_path'"),
        (f"datasets: [{{{GOOD}, format: jsnl}}]", r"format 'jsnl'\. Did you mean 'jsonl'"),
        (f"datasets: [{{{GOOD}}}, {{{GOOD}}}]", r"dataset 2: the name 'a' is taken"),
        ("datasets: [{name: a, manifest: a.x, media_root: m}]", r"dataset 1: .*suffix '\.x'"),
    ],
)
def test_a_wrong_mixture_is_named_with_what_to_do(tmp_path, content, message):
    path = write(tmp_path / "mix.yaml", content)
    with pytest.raises(UserError, match=message):
        read_mixture(path)


def test_weights_and_rows_are_read_and_prune_needs_none(tmp_path):
    path = write(
        tmp_path / "mix.yaml",
        """
        datasets:
          - {name: a, manifest: a.jsonl, media_root: m, rows: 300, weight: 0.75, dataset: next-qa,
             only: one two}
          - {name: b, manifest: b.jsonl, media_root: m, rows: null, weight: 1}
        """,
    )
    first, second = read_entries(path)
    assert (first.rows, first.weight, first.source) == (300, 0.75, "next-qa")
    assert first.only == ("one", "two")
    assert (second.rows, second.weight, second.source, second.only) == (None, 1, "", ())
    assert [entry.dataset for entry in (first, second)] == read_mixture(path)
    assert [dataset.rows for dataset in read_mixture(path)] == [300, None]
    for entry in (first, second):  # as a run keeps it
        assert dataset_from_facts(dataset_facts(entry.dataset)) == entry.dataset


@pytest.mark.parametrize(
    ("number", "message"),
    [
        ("rows: 1.5", "'rows' is 1.5, wanted a whole number above 0"),
        ("rows: 0", "'rows' is 0, wanted a whole number above 0"),
        ("weight: -1", "'weight' is -1, wanted a number above 0"),
        ("weight: .nan", "'weight' is nan"),
        ("weight: many", "'weight' is 'many'"),
        ("weight: true", "'weight' is True"),
    ],
)
def test_a_number_out_of_its_range_is_the_users_error(tmp_path, number, message):
    path = write(tmp_path / "mix.yaml", f"datasets: [{{{GOOD}, {number}}}]")
    with pytest.raises(UserError, match=message):
        read_mixture(path)


def test_paths_count_from_another_root_if_one_is_given(tmp_path):
    path = write(tmp_path / "mix.yaml", f"datasets: [{{{GOOD}}}]")
    (entry,) = read_entries(path, "/data")
    assert entry.dataset.manifest == Path("/data/a.json")
    (entry,) = read_entries(path, "s3://bucket/data")
    assert str(entry.dataset.manifest) == "s3://bucket/data/a.json"
    assert str(entry.dataset.media_root) == "s3://bucket/data/m"


PAPER = {  # appendix Tables 1 and 2, the lines that count one dataset
    "pretrain": {"llava-onevision": 800_000, "laion-2m": 800_000, "charades": 10_000,
                 "openvid-1m": 300_000},
    "sft": {"gpt-4o-image": 21_000, "ocr-vqa": 19_000, "bunny-695k": 390_000,
            "gpt-4o-video": 2_000, "cinepile": 28_000, "sharegpt4video": 38_000, "ego4d": 700,
            "finevideo": 43_000, "science-qa": 3_000, "vcg-plus": 107_000, "activitynet-qa": 15_000,
            "next-qa": 34_000, "llava-video-178k": 281_000, "vdc": 1_000},
    "recot": {"llava-video-178k": 750_000},
}  # fmt: skip


@pytest.mark.parametrize("table", PAPER)
def test_the_papers_mixtures_have_its_numbers(table):
    entries = read_entries(MIXTURES / f"video_xl_pro_{table}.yaml")
    rows = {entry.dataset.name: entry.rows for entry in entries if entry.rows is not None}
    assert rows == PAPER[table]
    assert sum(entry.weight or 0 for entry in entries) == pytest.approx(1, abs=1e-5)
    if table != "recot":
        total = sum(rows.values())
        for entry in entries:
            assert entry.weight == pytest.approx((entry.rows or 0) / total, abs=1e-6)
    for entry in entries:  # what the records say of the paper is the same
        record = load_record(entry.source)
        assert set(entry.only) <= set(record.files)
        assert entry.rows in [use.rows for use in record.used if use.table == table]


def test_every_dataset_is_in_a_mixture():
    used = {
        (entry.source, path.stem.rpartition("_")[2])
        for path in MIXTURES.glob("*.yaml")
        for entry in read_entries(path)
    }
    records = [load_record(name) for name in DATASETS.names()]
    assert used == {(record.name, use.table) for record in records for use in record.used}


def test_show_prints_what_is_there_and_how_to_get_the_rest(tmp_path):
    rows = [{"id": str(i), "video": "a.mp4", "caption": "x"} for i in range(3)]
    write(tmp_path / "charades.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    write(tmp_path / "charades.missing.txt", "a.mp4\n")
    mixture = MIXTURES / "video_xl_pro_pretrain.yaml"
    done = CliRunner().invoke(app, ["mixture", "show", str(mixture), "--root", str(tmp_path)])
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["dataset", "share", "rows", "meant", "rows", "there", "media",
                                "missing"]  # fmt: skip
    assert lines[1].split() == ["llava-onevision", "41.88%", "800,000", "-", "-"]
    assert lines[3].split() == ["charades", "0.52%", "10,000", "3", "1"]
    assert (
        f"not there: vxp-data ingest openvid-1m --root {tmp_path}/openvid-1m "
        f"--out {tmp_path}/openvid-1m.jsonl"
    ) in lines
    assert lines[-1] == "1 of 4 manifests are there."


def test_a_mixture_that_is_not_there_is_the_users_error(tmp_path):
    with pytest.raises(UserError, match=r"mix\.yaml': there is no such file"):
        read_mixture(tmp_path / "mix.yaml")


def test_an_entry_says_which_columns_are_what(tmp_path):
    (tmp_path / "a.jsonl").write_text("")
    text = "datasets: [{name: a, manifest: a.jsonl, media_root: ., columns: {video: v, answer: }}]"
    (tmp_path / "mix.yaml").write_text(text)
    (dataset,) = read_mixture(tmp_path / "mix.yaml")
    assert dataset.columns == {"video": "v", "answer": ""}
    assert dataset_from_facts(dataset_facts(dataset)) == dataset
    for columns, message in (("{vide: v}", "columns: unknown kind"), ("v", "'columns' is text")):
        (tmp_path / "mix.yaml").write_text(text.replace("{video: v, answer: }", columns))
        with pytest.raises(UserError, match=f"dataset 1: {message}"):
            read_mixture(tmp_path / "mix.yaml")
