"""The JSON Schemas in manifests/schemas/: up to date, and true of what is really written."""

from __future__ import annotations

import json
import math
import shutil
import tarfile
from pathlib import Path
from typing import Any

import make_schemas
import pytest
from jsonschema import Draft202012Validator

from support.repo import ROOT
from support.runs import table
from vxp_data.core.thresholds import parse_keep
from vxp_data.pipeline.redecide import redecide
from vxp_data.settings.safe_yaml import load_yaml

NAMES = [path.name.split(".")[0] for path in (ROOT / "manifests/schemas").glob("*.schema.json")]


def errors(name: str, value: Any) -> list[str]:
    path = ROOT / f"manifests/schemas/{name}.schema.json"
    validator = Draft202012Validator(json.loads(path.read_text(encoding="utf-8")))
    return [f"{error.json_path}: {error.message:.200}" for error in validator.iter_errors(value)]


def test_they_are_up_to_date() -> None:
    assert sorted(NAMES) == sorted(make_schemas.RECORDS)
    stale = [
        name
        for name in NAMES
        if make_schemas.path_of(name).read_text(encoding="utf-8") != make_schemas.text_of(name)
    ]
    assert not stale, "run: make schemas"


@pytest.mark.parametrize("name", NAMES)
def test_they_are_schemas(name: str) -> None:
    schema = json.loads((ROOT / f"manifests/schemas/{name}.schema.json").read_text())
    Draft202012Validator.check_schema(schema)
    assert schema["additionalProperties"] is False


RECIPES = {
    "prune_recipe": ["prune.yaml", "filters.yaml", "demo.yaml"],
    "probe_recipe": ["probe.yaml"],
    "data_recipe": [
        f"{folder}/{name}_data.yaml"
        for folder in ("smoke", "video_xl_pro")
        for name in ("recot", "pretrain", "sft")
    ],
    "recot_recipe": ["video_xl_pro/recot.yaml", "smoke/recot.yaml"],
    "train_recipe": ["video_xl_pro/align.yaml", "video_xl_pro/sft.yaml", "smoke/sft.yaml"],
}


@pytest.mark.parametrize(("name", "files"), RECIPES.items())
def test_recipes_fit(name: str, files: list[str]) -> None:
    for file in files:
        recipe = load_yaml((ROOT / "pipelines" / file).read_text(encoding="utf-8"))
        assert errors(name, recipe) == [], file
        assert errors(name, recipe | {"no_such_section": 1}) != []


def test_what_lies_in_manifests_fits() -> None:
    for name, pattern in (
        ("dataset", "datasets/*.yaml"),
        ("mixture", "mixtures/*.yaml"),
        ("weights", "weights.yaml"),
    ):
        files = sorted((ROOT / "manifests").glob(pattern))
        assert files
        for file in files:
            assert errors(name, load_yaml(file.read_text(encoding="utf-8"))) == [], file


def test_the_weights_file_is_read_by_its_record() -> None:
    from vxp_data.datasets.record import WeightsFile

    text = (ROOT / "manifests/weights.yaml").read_text(encoding="utf-8")
    weights = WeightsFile.model_validate(load_yaml(text)).weights
    unpinned = [held for held in weights.values() if not (held.revision or held.sha256)]
    assert unpinned
    assert all("pin at first download" in held.pin for held in unpinned)


def as_json(row: dict[str, Any]) -> dict[str, Any]:
    """Return a table's row as JSON has it: no NaN."""
    return {
        name: None if isinstance(value, float) and math.isnan(value) else value
        for name, value in row.items()
    }


def test_a_run_fits(mixed_run: Path) -> None:
    run = json.loads((mixed_run / "run.json").read_text())
    assert errors("run", run) == []
    assert errors("run", {**run, "decided": {**run["decided"], "num_in": "many"}}) != []
    assert errors("run", {name: held for name, held in run.items() if name != "sampler"}) != []
    decisions = table(mixed_run, "decisions")
    assert decisions
    assert [problem for row in decisions for problem in errors("decision", as_json(row))] == []


def test_a_selection_fits(mixed_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(mixed_run, tmp_path / "run"))
    changes: dict[str, Any] = {"measure": None, "thresholds": {}, "default": parse_keep("0.5")}
    redecide(str(run), select={"default": "random"}, **changes)
    rows = table(run, "selection")
    assert rows
    assert [problem for row in rows for problem in errors("selection", as_json(row))] == []
    assert errors("run", json.loads((run / "run.json").read_text())) == []


def test_shards_fit(mixed_shards: Path) -> None:
    index = json.loads((mixed_shards / "index.json").read_text())
    assert errors("index", index) == []
    assert errors("index", {**index, "num_epochs": "2"}) != []
    clips = []
    for shard in index["shards"]:
        with tarfile.open(mixed_shards / shard["name"]) as tar:
            for member in tar:
                if member.name.endswith(".json"):
                    held = tar.extractfile(member)
                    assert held is not None
                    clips.append(json.load(held))
    assert clips
    for clip in clips:
        assert errors("clip", clip) == []
    assert errors("clip", {**clips[0], "rows": None}) != []
