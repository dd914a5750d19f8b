"""docs/shards-and-loader.md says what a shard holds; these tests hold it to that."""

from __future__ import annotations

import contextlib
import gc
import io
import re
import warnings
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import pytest

from support.repo import ROOT
from support.runs import run_shard, table
from vxp_data.shard_format import ClipRecord, MixedRecord
from vxp_data.shard_index import SAMPLE_COLUMNS, ShardEntry, ShardIndex

DOCS = (ROOT / "docs" / "shards-and-loader.md").read_text(encoding="utf-8")
SECTION = DOCS.partition("## The format of shards")[2]
READERS = DOCS.partition("## Without `vxp_model`")[2].partition("## The format of shards")[0]


def field_types(kind: Any, prefix: str = "") -> dict[str, str]:
    """Every field of a record by its dotted name, with its JSON type in our docs' words."""
    found: dict[str, str] = {}
    for name, hint in get_type_hints(kind).items():
        inner = get_args(hint)[0] if get_origin(hint) is list else hint
        is_list = inner is not hint
        if hasattr(inner, "__dataclass_fields__"):
            found |= field_types(inner, f"{prefix}{name}{'[]' if is_list else ''}.")
        else:
            word = {str: "string"}.get(inner, inner.__name__)
            found[prefix + name] = f"list of {word}" if is_list else word
    return found


def documented() -> dict[str, str]:
    """Fields and types of the record's table."""
    rows = SECTION.partition("### The record")[2].partition("\n\n`samples.parquet`")[0]
    found: dict[str, str] = {}
    for names_cell, types_cell in re.findall(r"^\| (`.*?) \| (.*?) \|", rows, flags=re.MULTILINE):
        names = re.findall(r"`([^`]+)`", names_cell)
        types = [word for word in types_cell.split(", ") if word in TYPES]
        found |= dict(zip(names, types * len(names) if len(types) == 1 else types, strict=False))
    return found


TYPES = {"int", "string", "float", "bool", "list of int", "list of float"}


def test_every_field_of_the_record_is_documented_with_its_type() -> None:
    assert documented() == field_types(ClipRecord)


def test_every_field_of_the_record_of_several_media_is_documented() -> None:
    table = SECTION.partition("### The record of several media")[2].partition("\n\nIn `samples")[0]
    named = set(re.findall(r"`([a-z_]+)(?:\[\])?`", table))
    assert {field.name for field in fields(MixedRecord)} <= named
    assert "`rows[].plans[][]`" in table


def test_every_field_of_the_index_and_the_samples_table_is_named() -> None:
    named = set(re.findall(r"`([a-z_0-9]+)`", SECTION))
    assert set(SAMPLE_COLUMNS) <= named
    assert {field.name for field in fields(ShardEntry)} <= named
    not_named = {field.name for field in fields(ShardIndex)} - named
    assert not_named == {"samples", "quarantine"}  # named as files


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("library", ["webdataset", "datasets"])
def test_the_examples_print_every_row(
    mixed_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    run_shard(mixed_run, tmp_path / "shards" / "first")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    blocks = re.findall(r"```python\n(.*?)```", READERS, flags=re.DOTALL)
    (code,) = (block for block in blocks if f" {library}" in block.split("\n")[0])
    printed = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(printed):
        warnings.simplefilter("ignore")  # they leave files open
        import datasets

        datasets.disable_progress_bars()
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
        exec(compile(code, "shards-and-loader.md", "exec"), {})
        gc.collect()
    kept = {row["sample_id"] for row in table(mixed_run, "decisions") if row["decision"] == "keep"}
    samples = table(mixed_run, "samples")
    videos = {row["sample_id"] for row in samples if row["modality"] == "video"} & kept
    assert sum(line.startswith("rows/") for line in printed.getvalue().splitlines()) == len(videos)
