"""Every recipe can be read, and says what it is for, with what, how long, and why."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import vxp_data.cli
import vxp_model.cli
from support.repo import ROOT
from vxp_data.datasets.catalogue import load_record
from vxp_data.manifests.mixture import read_entries
from vxp_data.settings.data import is_data_recipe, load_data_recipe
from vxp_data.settings.file import read_yaml
from vxp_data.settings.prune import load_config
from vxp_model.settings.eval import EVAL_RECIPES
from vxp_model.settings.mllm import MLLM_RECIPES
from vxp_model.settings.needle import NEEDLE_RECIPES
from vxp_model.settings.probe import PROBE_RECIPES
from vxp_model.settings.recot import load_recipe

RECIPES = sorted(
    path
    for folder in ("", "smoke", "video_xl_pro")
    for path in (ROOT / "pipelines" / folder).glob("*.yaml")
)
DATA = [path for path in RECIPES if path.name.endswith("_data.yaml")]
SAYS = ("Purpose", "Input", "Machine", "Time", "Why these values")


def name(path: Path) -> str:
    return path.relative_to(ROOT / "pipelines").as_posix()


def test_the_paper_and_the_smoke_run_have_the_same_recipes() -> None:
    names = {name(path) for path in RECIPES}
    parts = ["recot_data", "pretrain_data", "sft_data", "recot", "align", "sft"]
    assert {f"{folder}/{p}.yaml" for folder in ("smoke", "video_xl_pro") for p in parts} <= names


@pytest.mark.parametrize("path", RECIPES, ids=name)
def test_a_recipe_begins_with_what_it_is_for(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    head = [line for line in lines[: next(i for i, x in enumerate(lines) if x[:1] != "#")]]
    said = [line[2:].partition(":")[0] for line in head if re.match(r"# \w[\w ]*:", line)]
    assert [word for word in said if word in SAYS] == list(SAYS)


@pytest.mark.parametrize("path", RECIPES, ids=name)
def test_a_recipe_can_be_read(path: Path) -> None:
    tree = read_yaml(path)
    if is_data_recipe(path):
        load_data_recipe(path)
    elif "stage" in tree:
        MLLM_RECIPES.read(tree, str(path))
    elif "mlp" in tree:
        PROBE_RECIPES.read(tree, str(path))
    elif "benchmarks" in tree:
        EVAL_RECIPES.read(tree, str(path))
    elif "needles" in tree:
        NEEDLE_RECIPES.read(tree, str(path))
    elif "run" in tree:
        load_recipe(path)
    else:
        load_config(path)


@pytest.mark.parametrize("app", [vxp_data.cli.app, vxp_model.cli.app], ids=["data", "model"])
@pytest.mark.parametrize("path", RECIPES, ids=name)
def test_either_command_line_shows_every_setting_of_a_recipe(path: Path, app: typer.Typer) -> None:
    done = CliRunner().invoke(app, ["show-config", str(path)])
    assert done.exit_code == 0, done.output
    shown = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert sum(line.endswith(f"  {path}") for line in shown.values()) > 1
    for section, value in read_yaml(path).items():
        if isinstance(value, str | int | float):
            assert repr(value) in shown[section]
        else:
            inner = (f"{section}.", f"{section}[")
            assert any(key == section or key.startswith(inner) for key in shown)
    by_name = CliRunner().invoke(app, ["show-config", name(path).removesuffix(".yaml")])
    assert by_name.exit_code == 0, by_name.output
    assert len(by_name.stdout.splitlines()) == len(done.stdout.splitlines())


def test_a_setting_is_laid_over_a_recipe_of_the_other_command_line() -> None:
    words = ["show-config", "video_xl_pro/align", "--set", "optim.lr=0.25"]
    done = CliRunner().invoke(vxp_data.cli.app, words)
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("optim.lr "))
    assert line.split() == ["optim.lr", "0.25", "--set", "optim.lr=0.25"]


def test_filters_of_the_first_stage_are_those_of_their_own_recipe() -> None:
    filters = load_config(ROOT / "pipelines/filters.yaml").config.filters
    data = load_data_recipe(ROOT / "pipelines/video_xl_pro/pretrain_data.yaml").config
    assert data.filters == filters
    assert list(data.filters) == list(filters)  # the first gives the reason
    assert filters["motion"].min == 0.5  # of 230, PySceneDetect's scale; 0.0005 drops nothing
    smoke = load_data_recipe(ROOT / "pipelines/smoke/pretrain_data.yaml").config.filters
    same = smoke.keys() - {"caption_words"}  # the smoke's captions are short
    assert {key: smoke[key] for key in same} == {key: filters[key] for key in same}


@pytest.mark.parametrize("stage", ["pretrain", "sft"])
def test_the_papers_data_keep_to_the_rows_of_its_table(stage: str) -> None:
    config = load_data_recipe(ROOT / f"pipelines/video_xl_pro/{stage}_data.yaml").config
    assert config.has_keep_mixture()
    assert config.ingest.mixture == f"manifests/mixtures/video_xl_pro_{stage}.yaml"


@pytest.mark.parametrize(("training", "table"), [("align", "pretrain"), ("sft", "sft")])
def test_a_training_draws_images_and_videos_as_the_table_has_them(
    training: str, table: str
) -> None:
    """By what a dataset is, not by the heading that it has in the table: ScienceQA has no video."""
    rows = {"image": 0, "video": 0}
    for entry in read_entries(ROOT / f"manifests/mixtures/video_xl_pro_{table}.yaml"):
        modality = load_record(entry.source).media.modality
        named = "".join(entry.only) or str(modality)
        rows["image" if named.startswith("image") else "video"] += entry.rows or 0
    tree = read_yaml(ROOT / f"pipelines/video_xl_pro/{training}.yaml")
    weights = {s["kinds"][0]: s["weight"] * 1e6 for s in tree["data"]["sources"]}
    assert weights == pytest.approx(rows)


@pytest.mark.parametrize("path", DATA, ids=name)
def test_a_data_recipe_ends_in_what_it_expects(path: Path) -> None:
    assert list(read_yaml(path))[-1] == "expect"
    expect = load_data_recipe(path).config.expect
    assert expect is not None
    assert expect.videos_per_s_min is not None
    if path.parent.name == "smoke":
        assert expect.num_in == (expect.num_kept or 0) + (expect.num_pruned or 0) + (
            expect.num_duplicates or 0
        ) + (expect.num_quarantined or 0)


def values(path: str) -> dict[str, float]:
    """The numbers that the paper gives for a stage."""
    tree = ROOT / "pipelines" / "video_xl_pro" / path
    recipe = MLLM_RECIPES.read(read_yaml(tree), path).config
    return {
        "lr": recipe.optim.lr,
        "warmup": recipe.optim.warmup,
        "weight_decay": recipe.optim.weight_decay,
        "a device": recipe.batch.micro_samples,
    }


def test_the_trainings_have_the_papers_values() -> None:
    assert values("align.yaml") == {"lr": 5e-4, "warmup": 0.03, "weight_decay": 0, "a device": 8}
    assert values("sft.yaml") == {"lr": 1e-5, "warmup": 0.03, "weight_decay": 0, "a device": 1}
    sft = MLLM_RECIPES.read(read_yaml(ROOT / "pipelines/video_xl_pro/sft.yaml"), "sft.yaml").config
    assert sft.batch.global_samples == 64
    assert (sft.engine.zero_stage, sft.engine.offload) == (2, "torch")
    assert (sft.selector.drop_min, sft.selector.drop_max) == (0.05, 0.30)
    data = load_data_recipe(ROOT / "pipelines/video_xl_pro/sft_data.yaml").config
    assert data.frames.num_frames == 20
    assert data.sampling.max_frames == 360


@pytest.mark.parametrize("stage", ["recot", "align", "sft"])
@pytest.mark.parametrize("folder", ["smoke", "video_xl_pro"])
def test_a_training_reads_what_its_data_recipe_writes(folder: str, stage: str) -> None:
    here = ROOT / "pipelines" / folder
    data = {"align": "pretrain"}.get(stage, stage)
    out = load_data_recipe(here / f"{data}_data.yaml").config.out
    sources = read_yaml(here / f"{stage}.yaml")["data"]["sources"]
    assert {source["uri"] for source in sources} == {f"{out}/shards"}
