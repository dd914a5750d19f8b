"""Parts of `vxp-data run` that need no video: the step cache, what goes in, the sums."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from support.shard_fixtures import PROVENANCE
from vxp_data.errors import UserError
from vxp_data.pipeline.recipe.accounting import RecipeAccounting
from vxp_data.pipeline.recipe.sources import RecipeSources
from vxp_data.pipeline.recipe.step_cache import CACHE_NAME, StepCache
from vxp_data.settings.data import IngestConfig, SourceConfig, load_data_recipe, prune_settings
from vxp_data.shard_index import ShardEntry, ShardIndex, TableEntry
from vxp_data.shipped_files import shipped_root
from vxp_data.storage.folder import open_folder

# The step cache


def test_a_file_that_two_steps_write_has_the_digest_of_each(tmp_path: Path) -> None:
    cache = StepCache.open(open_folder(tmp_path), ("a", "b"))
    for step in ("a", "b"):
        (tmp_path / "x").write_text(step)
        cache.end(step, step, ["x"], 1.0)
    assert cache.outputs("a")["x"] != cache.outputs("b")["x"]
    assert cache.is_done("a", "a")
    assert cache.is_done("b", "b")


def test_a_step_that_was_begun_is_not_done_in_the_next_process_either(tmp_path: Path) -> None:
    folder = open_folder(tmp_path)
    (tmp_path / "x").write_text("x")
    cache = StepCache.open(folder, ("a",))
    cache.end("a", "key", ["x"], 1.0)
    assert StepCache.open(folder, ("a",)).is_done("a", "key")
    cache.begin("a", "key")
    again = StepCache.open(folder, ("a",))
    assert again.has("a")
    assert not again.is_done("a", "key")


def test_the_facts_of_a_recipe_stand_beside_its_steps_until_one_begins_anew(tmp_path: Path) -> None:
    folder = open_folder(tmp_path)
    cache = StepCache.open(folder, ("a", "b"))
    cache.end("a", "key", [], 1.23456)
    cache.close({"accounting": {"num_in": 3}})
    content = json.loads((tmp_path / CACHE_NAME).read_text())
    assert content["accounting"] == {"num_in": 3}
    assert content["steps"]["a"]["wall_s"] == 1.235
    StepCache.open(folder, ("a", "b")).begin("b", "key")
    assert set(json.loads((tmp_path / CACHE_NAME).read_text())) == {"format_version", "steps"}


def test_a_step_that_there_is_no_more_is_forgotten(tmp_path: Path) -> None:
    folder = open_folder(tmp_path)
    StepCache.open(folder, ("old",)).end("old", "key", [], 1.0)
    cache = StepCache.open(folder, ("new",))
    assert not cache.has("old")
    assert not cache.has("new")


# What goes in


def charades(folder: Path) -> Path:
    """A root as manifests/datasets/charades.yaml wants it: captions and moments."""
    folder.mkdir(parents=True)
    (folder / "Charades_v1_train.csv").write_text("id,descriptions\nAAAAA,A person opens a door.\n")
    (folder / "charades_sta_train.txt").write_text("AAAAA 0.0 2.5##person opens a door.\n")
    return folder


def test_manifests_are_made_anew_where_anything_that_they_follow_from_is_another(
    tmp_path: Path,
) -> None:
    root, out = charades(tmp_path / "data"), open_folder(tmp_path / "out")
    own = tmp_path / "charades.yaml"
    text = (shipped_root() / "manifests/datasets/charades.yaml").read_text()
    own.write_text(text)

    def inputs(*, extract_media: bool = False, only: tuple[str, ...] = ()) -> object:
        source = SourceConfig(dataset=str(own), root=str(root), only=only)
        return RecipeSources(
            IngestConfig(datasets=(source,), extract_media=extract_media), out
        ).inputs()

    plain = inputs()
    assert plain == inputs()
    different = [inputs(extract_media=True), inputs(only=("captions", "moments"))]
    own.write_text(text.replace("suffixes: [.mp4]", "suffixes: [.mp4, .mkv]"))
    different.append(inputs())
    own.write_text(text)
    for name in ("Charades_v1_train.csv", "charades_sta_train.txt"):
        with (root / name).open("a") as file:
            file.write("\n")
        different.append(inputs())
    assert all(a != b for index, a in enumerate(different) for b in [plain, *different[:index]])


def test_a_second_annotation_file_counts_too(tmp_path: Path) -> None:
    questions = [{"video_name": "a", "question": "who is it", "question_id": "a_1"}]
    (tmp_path / "train_q.json").write_text(json.dumps(questions))
    answers = [{"answer": "a man", "type": 3, "question_id": "a_1"}]
    (tmp_path / "train_a.json").write_text(json.dumps(answers))
    source = SourceConfig(dataset="activitynet-qa", root=str(tmp_path))
    sources = RecipeSources(IngestConfig(datasets=(source,)), open_folder(tmp_path / "out"))
    before = sources.inputs()
    answers[0]["answer"] = "a woman"
    (tmp_path / "train_a.json").write_text(json.dumps(answers))
    assert sources.inputs() != before


def test_what_a_recipe_or_mixture_says_of_a_dataset_reaches_it(tmp_path: Path) -> None:
    root = charades(tmp_path / "data")
    source = SourceConfig(dataset="charades", root=str(root), only=("moments",))
    entry: dict[str, object] = {"name": "acts", "dataset": "charades", "only": "captions"}
    entry |= {"task": "stories", "rows": 7}
    path = tmp_path / "mixture.yaml"
    path.write_text(
        yaml.safe_dump({"datasets": [entry | {"manifest": "a.jsonl", "media_root": "."}]})
    )
    config = IngestConfig(datasets=(source,), mixture=str(path), root=str(root))
    sources = RecipeSources(config, open_folder(tmp_path / "out"))
    assert [given.only for given in sources.sources] == [("moments",), ("captions",)]
    assert [dataset.task for dataset in sources.datasets] == [None, "stories"]
    assert [dataset.rows for dataset in sources.datasets] == [None, 7]
    sources.ingest()
    rows = {name: (tmp_path / f"out/manifests/{name}.jsonl").read_text() for name in
            ("charades", "acts")}  # fmt: skip
    assert "descri" not in rows["charades"]
    assert "A person opens a door." in rows["acts"]
    assert "A person opens a door." not in rows["charades"]


# The sums


def test_the_sums_are_those_of_the_run_and_of_all_shards() -> None:
    shards = [
        ShardEntry(
            name=f"s-{n}.tar", kind="video", num_clips=2 * n, num_samples=3 * n, num_frames=5 * n,
            num_bytes=7 * n, decode_cost=1.0, sha256="",
        )
        for n in (1, 10)
    ]  # fmt: skip
    index = ShardIndex(
        format_version=1, payload="video", num_epochs=1, sampling="{}", provenance=PROVENANCE,
        samples=TableEntry(name="samples", num_rows=33, sha256=""),
        quarantine=TableEntry(name="quarantine", num_rows=4, sha256=""),
        quarantined_by_reason={"empty": 4}, shards=shards,
    )  # fmt: skip
    decided = {"num_in": 60, "num_kept": 37, "num_pruned": 11, "num_duplicates": 5}
    decided |= {"num_quarantined": 7}
    datasets = [
        {"dataset": "a", "wanted": 20, "num_in": 40, "found": 30, "kept": 20},
        {"dataset": "b", "wanted": None, "num_in": 15, "found": 17, "kept": 17},
        {"dataset": "c", "wanted": 9, "num_in": 5, "found": 0, "kept": 0},
    ]
    by_run = {"quarantined_by_reason": {"empty": 7}, "datasets": datasets}
    result = RecipeAccounting.of({"decided": decided | by_run}, index, {"a": 18, "b": 15})
    result.check()
    assert result.to_dict() == decided | {
        "quarantined": {"empty": 7}, "num_samples": 33, "num_unsharded": 4, "num_clips": 22,
        "num_shards": 2, "num_frames": 55, "num_bytes": 77,
        "rows": {"a": 18, "b": 15, "c": 0}, "wanted": {"a": 20, "c": 9},
    }  # fmt: skip
    first, second, third = result.lines()
    assert first == "60 rows in = 37 kept + 11 pruned + 5 duplicate + 7 quarantined."
    assert second.startswith("37 rows kept = 33 in shards + 4 quarantined on the way: 22 clips, 2 ")
    assert third == "Rows of the mixture: a 18 of 20, c 0 of 9."


# Its settings


def test_where_a_runs_settings_are_from_leaves_out_what_is_about_the_whole(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    given = {"ingest": {"manifests": ["a"]}, "expect": {"num_in": 1}, "measure": "centroid"}
    path.write_text(yaml.safe_dump(given | {"out": "x"}))
    kept = prune_settings(load_data_recipe(path))
    keys = {origin.key for origin in kept.origins}
    assert "measure" in keys
    assert not any(key.partition(".")[0] in {"expect", "ingest", "out"} for key in keys)


@pytest.mark.parametrize(("key", "of"), [("root", "mixture"), ("media_root", "manifests")])
def test_a_place_of_what_is_not_given_is_refused(tmp_path: Path, key: str, of: str) -> None:
    path = tmp_path / "r.yaml"
    datasets = [{"dataset": "charades", "root": "."}]
    path.write_text(yaml.safe_dump({"ingest": {"datasets": datasets, key: "/data"}, "out": "x"}))
    with pytest.raises(UserError, match=rf"ingest\.{key} is of ingest\.{of}"):
        load_data_recipe(path)


@pytest.mark.parametrize("key", ["num_clips", "num_frames", "num_samples", "clips_per_s_min"])
def test_a_recipe_may_expect_of_shards_what_prune_alone_cannot(tmp_path: Path, key: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(
        yaml.safe_dump({"ingest": {"manifests": ["a"]}, "out": "x", "expect": {key: 1}})
    )
    expect = load_data_recipe(path).config.expect
    assert expect is not None
    assert getattr(expect, key) == 1
