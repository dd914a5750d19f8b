"""`vxp-data run`: the recipes of pipelines/smoke, what is left out the second time, and why."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from smoke.clips import make_clips

from support.repo import ROOT
from support.runs import shard_bytes, table
from vxp_data.errors import ExpectationError, UserError
from vxp_data.manifests.samples import ManifestCounts, TaskRules, read_samples
from vxp_data.manifests.seen_ids import SeenIds
from vxp_data.pipeline.recipe.accounting import RecipeAccounting
from vxp_data.pipeline.recipe.command import STEPS, RecipeObserver, RecipeResult, run_recipe
from vxp_data.pipeline.recipe.sources import RecipeSources
from vxp_data.pipeline.recipe.step_cache import CACHE_NAME, StepCache, key_of
from vxp_data.pipeline.redecide import redecide
from vxp_data.pipeline.run_dir.lock import run_lock
from vxp_data.pipeline.run_record import check_expectations
from vxp_data.settings.data import (
    IngestConfig,
    SourceConfig,
    load_data_recipe,
    prune_settings,
)
from vxp_data.settings.prune import ExpectConfig, load_config
from vxp_data.storage.folder import open_folder

SFT = Path("pipelines/smoke/sft_data.yaml")


class Heard(RecipeObserver):
    def __init__(self) -> None:
        self.results: list[RecipeResult] = []

    def finished(self, result: RecipeResult) -> None:
        self.results.append(result)


def run(recipe: Path, **settings: Any) -> RecipeResult:
    overrides = [(key.replace("__", "."), value, "test") for key, value in settings.items()]
    return run_recipe(load_data_recipe(recipe, overrides), lambda _: b"figure", RecipeObserver())


@pytest.fixture(scope="module")
def smoke(
    tmp_path_factory: pytest.TempPathFactory,
    engine: None,  # noqa: ARG001 - where it runs
) -> Iterator[tuple[Path, RecipeResult]]:
    """The clips of pipelines/smoke, and the fine-tuning data made of them as its recipe says."""
    folder = tmp_path_factory.mktemp("smoke")
    (folder / "pipelines").symlink_to(ROOT / "pipelines")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        make_clips(Path("runs/smoke/clips"))
        yield folder, run(SFT)


@pytest.fixture
def again(
    smoke: tuple[Path, RecipeResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., RecipeResult]:
    """Run the recipe once more, on a copy of what it has made."""
    folder, _ = smoke
    monkeypatch.chdir(folder)
    shutil.copytree("runs/smoke/sft", tmp_path / "sft")
    return lambda **settings: run(SFT, **{"out": str(tmp_path / "sft"), "expect": None, **settings})


def test_the_recipe_of_fine_tuning_gives_what_it_expects(smoke: tuple[Path, RecipeResult]) -> None:
    folder, result = smoke
    assert result.done == STEPS
    decisions = table(folder / "runs/smoke/sft/run", "decisions")
    kept = sum(row["decision"] == "keep" for row in decisions)
    assert (result.accounting.num_in, result.accounting.num_samples) == (len(decisions), kept)
    held_out = {row["sample_id"] for row in decisions if row["reason"] == "in_evaluation"}
    rows = json.loads((folder / "runs/smoke/clips/evaluation.json").read_text())
    assert held_out == {f"sft/{row['id']}" for row in rows}


def test_nothing_is_done_twice(again: Callable[..., RecipeResult]) -> None:
    assert again().done == ()


def test_other_duplicates_touch_no_video_and_replace_the_shards(
    again: Callable[..., RecipeResult], tmp_path: Path
) -> None:
    before = shard_bytes(tmp_path / "sft/shards")
    result = again(duplicates__exclude=[], duplicates__mode="off")
    assert result.done == ("near-duplicates", "sample", "shard")
    assert result.accounting.num_duplicates == 0
    assert again().done == ("near-duplicates", "sample", "shard")
    assert shard_bytes(tmp_path / "sft/shards") == before


def test_a_decision_made_by_hand_is_made_again_as_the_recipe_says(
    again: Callable[..., RecipeResult], tmp_path: Path
) -> None:
    before = shard_bytes(tmp_path / "sft/shards")
    redecide(tmp_path / "sft/run", measure="centroid", thresholds={}, default=None)
    assert again().done[0] == "prune"
    assert shard_bytes(tmp_path / "sft/shards") == before


def test_what_decides_is_asked_when_a_step_is_done(again: Callable[..., RecipeResult]) -> None:
    sparse = {"sampling__max_frames": 2}
    assert again(**sparse).done == ("sample", "shard")  # rows are taken whatever they cost
    assert "prune" in again(selection__per="cost", thresholds__default="keep 0.9").done
    assert "prune" in again(selection__per="cost", thresholds__default="keep 0.9", **sparse).done
    filters = {"filters__repeats__max": 0, "filters__question_type_share__max": 1}
    assert "prune" in again(**filters).done
    assert again(**filters).done == ()
    assert "prune" in again(**dict(reversed(filters.items()))).done


def test_a_lost_shard_is_written_again_and_nothing_else(
    again: Callable[..., RecipeResult], tmp_path: Path
) -> None:
    before = shard_bytes(tmp_path / "sft/shards")
    next((tmp_path / "sft/shards").glob("*.tar")).unlink()
    assert again().done == ("shard",)
    assert shard_bytes(tmp_path / "sft/shards") == before


def test_a_file_that_has_changed_is_read_again(
    again: Callable[..., RecipeResult], smoke: tuple[Path, RecipeResult]
) -> None:
    video = smoke[0] / "runs/smoke/clips/videos/pan_stone.mp4"
    before, times = video.read_bytes(), video.stat()
    video.write_bytes(before[: len(before) // 2])
    try:
        assert again().accounting.num_quarantined == 3
    finally:  # as it was for the tests that follow, its time of change too
        video.write_bytes(before)
        os.utime(video, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_a_step_that_was_stopped_is_done_again(
    again: Callable[..., RecipeResult], tmp_path: Path
) -> None:
    folder = open_folder(tmp_path / "sft")
    cache = StepCache.open(folder, STEPS)
    cache.begin("sample", "whatever")
    assert again().done == ("sample",)


def test_two_runs_of_a_recipe_are_kept_apart(
    again: Callable[..., RecipeResult], tmp_path: Path
) -> None:
    with (
        run_lock(open_folder(tmp_path / "sft"), "another"),
        pytest.raises(UserError, match="in use by `another`"),
    ):
        again()


def test_what_is_not_as_expected_is_told_after_all_is_written(
    again: Callable[..., RecipeResult], tmp_path: Path
) -> None:
    with pytest.raises(ExpectationError, match="num_kept: expected 7, got 24"):
        again(expect={"num_kept": 7})
    assert json.loads((tmp_path / "sft" / CACHE_NAME).read_text())["accounting"]["num_kept"] == 24


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pretrain_data", "recot_data"])
def test_the_other_recipes_give_what_they_expect(
    smoke: tuple[Path, RecipeResult], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(smoke[0])
    result = run(Path(f"pipelines/smoke/{name}.yaml"))
    assert result.done == STEPS


def test_speeds_are_floors_and_counts_are_exact() -> None:
    got = {"num_in": 4, "videos_per_s": 2.0, "quarantined": {}}
    check_expectations(ExpectConfig(num_in=4, videos_per_s_min=1.5), got)
    check_expectations(ExpectConfig(videos_per_s_min=1.5), got | {"videos_per_s": None})
    with pytest.raises(ExpectationError, match=r"videos_per_s_min: expected 2.5 or more, got 2.00"):
        check_expectations(ExpectConfig(videos_per_s_min=2.5), got)
    with pytest.raises(ExpectationError, match=r"quarantined: expected \{'empty': 1\}, got \{\}"):
        check_expectations(ExpectConfig(quarantined={"empty": 1}), got)


def accounting(**changed: Any) -> RecipeAccounting:
    counts = {"num_in": 9, "num_kept": 4, "num_pruned": 2, "num_duplicates": 1}
    counts |= {"num_quarantined": 2, "num_samples": 3, "num_unsharded": 1}
    rest: dict[str, Any] = dict.fromkeys(("num_clips", "num_shards", "num_frames", "num_bytes"), 1)
    rest |= {"quarantined": {}, "rows": {"a": 1, "b": 2}, "wanted": {}}
    return RecipeAccounting(**counts | rest | changed)


def test_a_row_that_is_lost_or_doubled_is_noticed() -> None:
    accounting().check()
    for changed in ({"num_in": 10}, {"num_pruned": 3}, {"num_samples": 2}, {"num_unsharded": 2},
                    {"rows": {"a": 1, "b": 1}}):  # fmt: skip
        with pytest.raises(AssertionError):
            accounting(**changed).check()


def test_a_step_is_done_where_its_files_are_as_the_last_writer_left_them(tmp_path: Path) -> None:
    folder = open_folder(tmp_path)
    cache = StepCache.open(folder, ("a", "b"))
    (tmp_path / "x").write_text("a's")
    cache.end("a", "ka", ["x"], 1.0)
    (tmp_path / "x").write_text("b's")
    cache = StepCache.open(folder, ("a", "b"))
    assert not cache.is_done("a", "ka")
    cache.end("b", "kb", ["x"], 1.0)
    cache = StepCache.open(folder, ("a", "b"))
    assert cache.is_done("a", "ka")
    assert cache.is_done("b", "kb")
    assert not cache.is_done("a", "another")
    cache.begin("b", "kb")  # stopped half-way: what of x is b's is not known
    assert not cache.is_done("a", "ka")
    assert not cache.is_done("b", "kb")


def test_a_file_that_is_gone_is_no_step_done(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("x")
    cache = StepCache.open(open_folder(tmp_path), ("a",))
    cache.end("a", "k", ["x"], 1.0)
    (tmp_path / "x").unlink()
    assert not StepCache.open(open_folder(tmp_path), ("a",)).is_done("a", "k")


def test_a_book_that_is_none_is_refused(tmp_path: Path) -> None:
    for content in ("[]", "{", '{"format_version": 9, "steps": {}}'):
        (tmp_path / CACHE_NAME).write_text(content)
        with pytest.raises(UserError, match="remove it"):
            StepCache.open(open_folder(tmp_path), STEPS)


def test_keys_follow_from_values_not_from_order() -> None:
    assert key_of({"a": 1, "b": [1, 2]}) == key_of({"b": [1, 2], "a": 1})
    assert key_of({"a": [1, 2]}) != key_of({"a": [2, 1]})


def test_a_run_directory_keeps_the_recipe_without_what_is_about_the_whole(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    given = {"ingest": {"manifests": ["a"]}, "expect": {"num_in": 1}, "measure": "centroid"}
    path.write_text(yaml.safe_dump(given | {"out": "x"}))
    loaded = load_data_recipe(path, [("frames.num_frames", 8, "--set")])
    kept = prune_settings(loaded)
    assert (kept.config.measure, kept.config.frames.num_frames) == ("centroid", 8)
    assert kept.config.expect is None
    same = load_config(None, (), run_settings=kept.config.model_dump(mode="json"))
    assert same.config == kept.config
    assert {"ingest.manifests", "out"}.isdisjoint(origin.key for origin in kept.origins)


def test_a_recipe_says_what_goes_in(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("out: x\n")
    with pytest.raises(UserError, match=r"r\.yaml: ingest is missing"):
        load_data_recipe(path)
    path.write_text("out: x\ningest: {manifest: [a]}\n")
    with pytest.raises(UserError, match=r"Did you mean 'ingest\.manifests'"):
        load_data_recipe(path)


def charades(folder: Path) -> Path:
    """A root as manifests/datasets/charades.yaml wants it: two rows, one video."""
    (folder / "Charades_v1_480").mkdir(parents=True)
    (folder / "Charades_v1_480/AAAAA.mp4").write_bytes(b"\0" * 9)
    lines = ["id,descriptions", "AAAAA,A person opens a door.", "BBBBB,A person sits."]
    (folder / "Charades_v1_train.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_public_datasets_are_ingested_into_the_recipes_folder(tmp_path: Path) -> None:
    root = charades(tmp_path / "data")
    config = IngestConfig(datasets=(SourceConfig(dataset="charades", root=str(root)),))
    sources = RecipeSources(config, open_folder(tmp_path / "out"))
    (dataset,) = sources.datasets
    before = sources.inputs()
    told, files = sources.ingest()
    assert told == ["charades: 2 rows, 1 of 2 media missing, 0 broken rows"]
    assert all((tmp_path / "out" / name).is_file() for name in files)
    counts = ManifestCounts()
    rows = list(read_samples(dataset, TaskRules(field="task"), counts, SeenIds()))
    assert [row.task for row in rows] == ["caption", "caption"]
    assert Path(rows[0].media_uri) == root / "Charades_v1_480/AAAAA.mp4"
    assert sources.is_stale()  # the missing one may come, with another suffix
    assert sources.inputs() == before
    (root / "Charades_v1_480/BBBBB.mp4").write_bytes(b"\0" * 9)
    sources.ingest()
    assert not sources.is_stale()
    with (root / "Charades_v1_train.csv").open("a") as file:
        file.write("CCCCC,A person walks.\n")
    assert sources.inputs() != before


def test_a_mixture_names_public_datasets_and_manifests(tmp_path: Path) -> None:
    charades(tmp_path / "data/charades")
    (tmp_path / "data/own.json").write_text("[]")
    public = {"name": "acts", "dataset": "charades", "only": "captions", "weight": 0.5}
    public |= {"manifest": "acts.jsonl", "media_root": "charades"}
    own = {"name": "own", "manifest": "own.json", "media_root": "."}
    path = tmp_path / "mixture.yaml"
    path.write_text(yaml.safe_dump({"datasets": [public, own]}))
    config = IngestConfig(mixture=str(path), root=str(tmp_path / "data"))
    sources = RecipeSources(config, open_folder(tmp_path / "out"))
    assert [dataset.name for dataset in sources.datasets] == ["acts", "own"]
    told, files = sources.ingest()
    assert told == ["acts: 2 rows, 1 of 2 media missing, 0 broken rows"]
    assert files == ["manifests/acts.jsonl", "manifests/acts.missing.txt"]
    assert (tmp_path / "out/manifests/acts.jsonl").read_bytes().count(b"\n") == 2
    (only,) = sources.inputs()
    assert list(only["files"]) == ["Charades_v1_train.csv"]


def test_a_dataset_is_named_once(tmp_path: Path) -> None:
    twice = (SourceConfig(dataset="charades", root=str(tmp_path)),) * 2
    with pytest.raises(UserError, match="the name 'charades' is there 2 times"):
        RecipeSources(IngestConfig(datasets=twice), open_folder(tmp_path))


def test_nothing_that_goes_in_is_no_recipe(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("out: x\ningest: {}\n")
    with pytest.raises(UserError, match="no manifests, no datasets and no mixture"):
        load_data_recipe(path)
