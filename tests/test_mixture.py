"""Mixture files: several datasets in one YAML."""

from pathlib import Path

import pytest

from vxp_data.errors import UserError
from vxp_data.manifests.mixture import read_mixture
from vxp_data.manifests.samples import Dataset


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


def test_a_mixture_that_is_not_there_is_the_users_error(tmp_path):
    with pytest.raises(UserError, match=r"mix\.yaml: cannot read"):
        read_mixture(tmp_path / "mix.yaml")
