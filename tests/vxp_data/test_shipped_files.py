"""Recipes, mixtures and dataset files by name: which file is meant, and what is said of none."""

import os

import pytest

from support.repo import ROOT
from vxp_data.errors import UserError
from vxp_data.manifests.mixture import read_entries
from vxp_data.settings.prune import load_config
from vxp_data.shipped_files import DATASETS, MIXTURES, RECIPES, here_or_shipped, shipped_root


def test_names_have_their_folder():
    assert {"prune", "smoke/sft_data", "video_xl_pro/recot"} <= set(RECIPES.names())
    assert not any(name.startswith(("bench", "cluster")) for name in RECIPES.names())
    assert "video_xl_pro_sft" in MIXTURES.names()
    assert "next-qa" in DATASETS.names()


@pytest.mark.parametrize(
    "given",
    [
        "video_xl_pro/recot",
        "video_xl_pro/recot.yaml",
        "pipelines/video_xl_pro/recot",
        "pipelines/video_xl_pro/recot.yaml",
    ],
)
def test_a_recipe_is_found_from_any_folder(tmp_path, monkeypatch, given):
    monkeypatch.chdir(tmp_path)
    assert RECIPES.find(given) == ROOT / "pipelines/video_xl_pro/recot.yaml"


def test_a_file_wins_over_a_name_and_a_folder_does_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prune").mkdir()
    assert load_config(RECIPES.find("prune")).config.encoder.name == "siglip"
    (tmp_path / "prune.yaml").write_text("encoder: {name: thumbnail}\n")
    assert load_config(RECIPES.find("prune.yaml")).config.encoder.name == "thumbnail"
    assert load_config(RECIPES.find("prune")).config.encoder.name == "siglip"


def test_an_unknown_name_gets_the_nearest_ones(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as raised:
        RECIPES.find("video_xl_pro/recto")
    assert str(raised.value).startswith(
        "recipe 'video_xl_pro/recto': there is no such file, and none of that name comes with vxp. "
        "Did you mean 'video_xl_pro/recot' or "
    )
    with pytest.raises(UserError, match=r"mixture 'zzz': [^?]*comes with vxp\. Known: video_xl"):
        read_entries("zzz")


def test_a_recipe_may_come_through_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "prune")
    assert RECIPES.find(tmp_path / "prune") == tmp_path / "prune"


def test_paths_of_a_mixture_by_name_count_from_here_of_a_file_from_its_folder(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    here = read_entries("video_xl_pro_pretrain")
    assert not here[0].dataset.manifest.is_absolute()
    file = ROOT / "manifests/mixtures/video_xl_pro_pretrain.yaml"
    assert read_entries(file)[0].dataset.manifest.parent == file.parent
    assert read_entries("video_xl_pro_pretrain", tmp_path)[0].dataset.manifest.parent == tmp_path


def test_what_a_recipe_names_beside_itself_is_taken_from_here_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = "pipelines/smoke/held_out.txt"
    assert here_or_shipped(name) == str(ROOT / name)
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).write_text("own\n")
    assert here_or_shipped(name) == name
    assert here_or_shipped("no/such.txt") == "no/such.txt"
    assert here_or_shipped("s3://b/list.txt") == "s3://b/list.txt"


def test_the_installed_package_has_its_own_files(tmp_path):
    assert shipped_root(tmp_path / "vxp_data") == tmp_path
    (tmp_path / "vxp_data/_files").mkdir(parents=True)
    assert shipped_root(tmp_path / "vxp_data") == tmp_path / "vxp_data/_files"
