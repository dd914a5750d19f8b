"""Rows and tokens of each dataset, beside a mixture's; and what decides how long text may be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from support import mllm_runs, recot_runs
from support.bad_rows import forty_rows
from support.later import LATER
from support.shard_fixtures import Shards
from vxp_data.settings.file import read_recipe
from vxp_model.data.index import load_index
from vxp_model.data.row_check import check_rows
from vxp_model.data.sources import Source, read_rows
from vxp_model.errors import UserError
from vxp_model.settings.mllm import MLLM_RECIPES
from vxp_model.settings.recot import RECIPES
from vxp_model.train.datasets import added, read_shares, trained_table
from vxp_model.train.estimate_datasets import describe_datasets
from vxp_model.train.left_out import digest_of, require_one_answer
from vxp_model.train.mllm.text_limit import context_of, limit_before_start

if LATER:
    from vxp_model.train.mllm.start import start_model
    from vxp_model.train.mllm.text_limit import limit_of


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Shards:
    return forty_rows(tmp_path_factory.mktemp("forty"))


def test_samples_and_tokens_are_added_up_by_name() -> None:
    found = added([{"b": (1, 10)}, {"a": (2, 5), "b": [1, 7]}, {}])
    assert list(found.items()) == [("a", [2, 5]), ("b", [2, 17])]


def test_the_papers_shares_are_those_of_its_tables() -> None:
    sft = read_shares("video_xl_pro_sft")
    assert sft["llava-video-178k"].rows == 281_000
    assert sum(entry.rows or 0 for entry in sft.values()) == 982_700
    assert sft["bunny-695k"].share == pytest.approx(390 / 982.7, abs=1e-5)
    recot = read_shares("manifests/mixtures/video_xl_pro_recot.yaml")
    assert (recot["ocr-vqa"].rows, recot["llava-video-178k"].share) == (None, 0.75)
    assert read_shares(None) == {}


def test_rows_alone_give_shares(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("datasets: [{name: a, rows: 30}, {name: b, rows: 10}, {name: c}]")
    found = read_shares(str(path))
    assert [(entry.rows, entry.share) for entry in found.values()] == [
        (30, 0.75), (10, 0.25), (None, None),
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["datasets: 3", "datasets: [{rows: 3}]", "a: 1"])
def test_what_is_no_mixture_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(UserError, match="is no mixture"):
        read_shares(str(tmp_path / "mine.yaml"))
    with pytest.raises(UserError, match="Did you mean 'video_xl_pro_sft'"):
        read_shares("video_xl_pro_stf")


def test_the_table_of_a_card() -> None:
    assert trained_table({"a": (3, 70), "b": (1, 30)}, None).splitlines() == [
        "| dataset | samples | share | tokens | share |",
        "| --- | ---: | ---: | ---: | ---: |",
        "| a | 3 | 75.0% | 70 | 70.0% |",
        "| b | 1 | 25.0% | 30 | 30.0% |",
    ]


def lines(text: str) -> dict[str, list[str]]:
    return {line.split()[0]: line.split()[1:] for line in text.splitlines()}


def test_an_epoch_by_dataset(rows: Shards, tmp_path: Path) -> None:
    """Of a mixture that draws d0 twice: 14 samples, and 7 of another, and two more for a step."""
    sources = [
        {"uri": rows.uri, "datasets": ["d0"], "weight": 2},
        {"uri": rows.uri, "datasets": ["d1"], "weight": 1},
    ]
    loaded = mllm_runs.recipe(rows.uri, tmp_path, data__sources=sources)
    found = lines(describe_datasets(loaded.config))
    # 21 samples, in steps of 4: 24, of which two thirds are 16.
    assert found["d0"][:3] == ["7", "16", "66.7%"]
    assert found["d1"][:3] == ["7", "8", "33.3%"]
    texts = [
        len(f"What is number {n}?It is {n}.") * times for n in range(14) for times in [1 - n % 2]
    ]
    assert int(found["d0"][4]) == round(16 / 7 * sum(texts) / 4)


def test_tokens_of_frames_are_those_of_groups_and_times(rows: Shards, tmp_path: Path) -> None:
    mllm = lines(describe_datasets(mllm_runs.recipe(rows.uri, tmp_path).config))
    # Videos of 9 frames at 10 a second: one group of 4 tokens, and ten of its time. 40 rows: an
    # epoch of ten steps.
    assert mllm["films"][3] == str(11 * (4 + 10))
    assert mllm["pictures"][3] == str(9 * 4)
    alone = mllm_runs.recipe(rows.uri, tmp_path, start__temporal_factor=1).config
    table = load_index(rows.uri)
    num_frames = int(table.num_frames_N[table.rows_of(["video"])].sum())
    assert num_frames > 11
    assert lines(describe_datasets(alone))["films"][3] == str(num_frames * (4 + 10))
    recipe = recot_runs.recipe(rows.uri, tmp_path, run__out=str(tmp_path)).config
    found = lines(describe_datasets(recipe))
    # Nine images are a quarter of the samples: 36, of which 27 are of eleven videos.
    per_image = 4 * 4**2  # copies of an image, and the tokens of a frame of the tiny preset
    assert found["pictures"][:2] + found["films"][:2] == ["9", "9", "11", "27"]
    assert int(found["pictures"][3].replace(",", "")) == 9 * per_image


@pytest.mark.parametrize(
    ("recipe", "mixture"),
    [("align", "pretrain"), ("sft", "sft"), ("recot", "recot")],
)
def test_the_papers_recipes_name_the_papers_mixtures(recipe: str, mixture: str) -> None:
    tree = read_recipe(f"video_xl_pro/{recipe}")
    recipes: Any = MLLM_RECIPES if "stage" in tree else RECIPES
    config = recipes.read(tree, recipe).config
    assert config.data.mixture == f"video_xl_pro_{mixture}"
    assert read_shares(config.data.mixture)


@pytest.mark.parametrize("changed", [{}, {"context_limit": 200}, {"selector_keep_time": "all"}])
def test_a_limit_before_the_model_is_built_is_the_models(
    changed: dict[str, Any], tmp_path: Path
) -> None:
    loaded = mllm_runs.recipe("none", tmp_path).config
    model, processor = start_model(loaded)
    assert context_of(loaded) == limit_of(model.config, processor).context
    for name, value in changed.items():
        setattr(model.config, name, value)
    processor.system = "Be brief."
    model.save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    assert (
        context_of(from_model(loaded, tmp_path / "model"))
        == limit_of(model.config, processor).context
    )
    assert limit_before_start(from_model(loaded, "none")) is None


def from_model(recipe: Any, folder: Path | str) -> Any:
    start = recipe.start.model_copy(update={"model": str(folder)})
    return recipe.model_copy(update={"start": start})


def test_images_that_must_stay_count(tmp_path: Path) -> None:
    """Thirty images of 4 tokens and a line break each, in a limit of 200."""
    from vxp_data.conversation import Part, Role, Turn

    loaded = mllm_runs.recipe("none", tmp_path, context_limit=200)
    model, processor = start_model(loaded.config)
    shown = Turn(Role.USER, tuple(Part("image") for _ in range(30)))
    turns = [shown, Turn.of_text(Role.ASSISTANT, "Bars.")]
    media = [("image", [0.0])] * 30
    problem = limit_of(model.config, processor).problem(turns, media)
    assert "and its images 120, more than context_limit 200" in problem
    assert limit_of(model.config, processor).problem(turns, [("video", [0.0])] * 30) == ""
    model.config.selector_drops_images = True
    assert limit_of(model.config, processor).problem(turns, media) == ""


def test_time_that_always_stays_counts(tmp_path: Path) -> None:
    """60 groups whose times take 13 positions each with a token a byte: 780, in a limit of 700."""
    from vxp_data.conversation import Part, Role, Turn

    loaded = mllm_runs.recipe("none", tmp_path).config
    model, processor = start_model(loaded)
    model.config.context_limit = 700
    turns = [Turn(Role.USER, (Part("video"),)), Turn.of_text(Role.ASSISTANT, "A bar.")]
    media = [("video", [float(n) for n in range(240)])]
    assert limit_of(model.config, processor).problem(turns, media) == ""
    model.config.selector_keep_time = "all"
    limit = limit_of(model.config, processor)
    assert limit.problem(turns, media).startswith("its text takes 8")
    assert limit.problem(turns, [("video", media[0][1][:120])]) == ""


def test_a_log_says_what_went_in_of_each_dataset(tmp_path: Path, context: Any) -> None:
    from vxp_model.train.recot.run import train_recot

    shards = recot_runs.training_shards(tmp_path / "data", videos=2, images=2)
    changes = {"run": {"out": str(tmp_path / "out"), "steps": 2, "picture_steps": 0}}
    loaded = recot_runs.recipe(
        shards, tmp_path / "out", data__mixture="video_xl_pro_recot", **changes
    )
    result = train_recot(loaded, context, lambda _: None)
    log = [json.loads(line) for line in (result.out / "log.jsonl").read_text().splitlines()]
    assert [entry["datasets"]["d"]["samples"] for entry in log] == [4, 4]
    assert all(entry["datasets"]["d"]["tokens"] == entry["tokens"] for entry in log)
    assert "| d | 8 | 100.0% |" in (result.model / "README.md").read_text()


def test_processes_that_find_other_rows_do_not_start(rows: Shards) -> None:
    parts = read_rows([Source(uri=rows.uri)])
    checks = [digest_of(check_rows(parts, reads_words=words)) for words in (True, True, False)]
    require_one_answer(checks[:2])
    with pytest.raises(UserError, match="processes 0 and 2 find other rows"):
        require_one_answer(checks)
