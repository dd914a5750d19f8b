"""Write the JSON Schemas of our records to manifests/schemas/: `make schemas`.

They follow from the classes that write and read the records, so that nothing is said twice; a test
fails when they are stale, and validates real outputs by them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, NotRequired

import pyarrow as pa
from pydantic import TypeAdapter
from typing_extensions import TypedDict

from vxp_data.datasets.record import DatasetRecord, WeightsFile
from vxp_data.encoders.base import EncoderSpec
from vxp_data.manifests.samples import ManifestCounts
from vxp_data.pipeline.curate.decide import Decided
from vxp_data.schemas import DECISION_SCHEMA, SELECTION_SCHEMA
from vxp_data.settings.data import DataRecipe
from vxp_data.settings.prune import PruneConfig
from vxp_data.shard_format import ClipRecord, MixedRecord
from vxp_data.shard_index import ShardIndex
from vxp_model.settings.mllm import MllmRecipe
from vxp_model.settings.probe import ProbeRecipe
from vxp_model.settings.recot import ReCoTRecipe

FOLDER: Final = Path(__file__).parents[1] / "manifests" / "schemas"
_DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"

Schema = dict[str, Any]


class Changed(TypedDict):
    """Files whose content changed since the run before."""

    number: int
    first: list[str]


class Timings(TypedDict):
    """Where the time of a prune went."""

    wall_s: float
    embed_wall_s: float
    files_read: int
    clips_embedded: int
    probe_cpu_s: float
    decode_cpu_s: float
    embed_cpu_s: float
    bytes_fetched: int
    decode_workers: int
    embed_workers: int
    on_gpu: bool


class Sampled(TypedDict):
    """What `vxp-data sample` planned last."""

    num_epochs: int
    num_rows: int
    num_text_rows: int
    num_frames: int


class Run(TypedDict):
    """run.json of a run directory; written last."""

    command: Literal["prune"]
    ended_at: str
    config: PruneConfig
    config_origin: dict[str, str]
    datasets: list[dict[str, str]]
    encoder: EncoderSpec
    sampler: str
    manifests: ManifestCounts
    decided: Decided
    changed_files: Changed
    timings: Timings
    versions: dict[str, str]
    format_version: int
    sampled: NotRequired[Sampled]
    changing: NotRequired[str]


class MixtureEntry(TypedDict):
    """A dataset of a mixture; see docs/datasets-and-mixtures.md."""

    name: str
    manifest: NotRequired[str]
    json_path: NotRequired[str]
    media_root: NotRequired[str]
    task: NotRequired[str | None]
    format: NotRequired[str | None]
    dataset: NotRequired[str | None]
    only: NotRequired[str | None]
    columns: NotRequired[dict[str, str] | None]
    weight: NotRequired[float | None]
    rows: NotRequired[int | None]


class Mixture(TypedDict):
    """A mixture of datasets, as `vxp-data prune` and `mixture show` read it."""

    datasets: list[MixtureEntry]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One schema: of what, and how it is made."""

    title: str
    make: Callable[[], Schema]


def main() -> None:
    """Write all schemas; remove those of records that are no more."""
    FOLDER.mkdir(exist_ok=True)
    for stale in FOLDER.glob("*.schema.json"):
        if stale.name.removesuffix(".schema.json") not in RECORDS:
            stale.unlink()
    for name in RECORDS:
        path_of(name).write_text(text_of(name), encoding="utf-8")
    print(f"{len(RECORDS)} schemas: {FOLDER}")


def path_of(name: str) -> Path:
    """Return the file of a schema."""
    return FOLDER / f"{name}.schema.json"


def text_of(name: str) -> str:
    """Return a schema as its file has it."""
    record = RECORDS[name]
    schema = {"$schema": _DRAFT, **record.make(), "title": record.title}
    return json.dumps(schema, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _written(kind: Any) -> Schema:
    """Return the schema of what we write: every field is there, and no other."""
    return _closed(TypeAdapter(kind).json_schema(mode="serialization"))


def _read(kind: Any) -> Schema:
    """Return the schema of what we read: fields with a default may be left out."""
    return _closed(TypeAdapter(kind).json_schema(mode="validation"))


def _run() -> Schema:
    schema = _written(Run)
    threshold = schema["$defs"]["SubsetSummary"]["properties"]["threshold"]
    threshold["type"] = ["number", "null"]  # NaN, where nothing was cut
    return schema


def _closed(schema: Any) -> Any:
    """Forbid other properties in objects with named ones."""
    if isinstance(schema, dict):
        if "properties" in schema and isinstance(schema["properties"], dict):
            schema.setdefault("additionalProperties", False)
        for value in schema.values():
            _closed(value)
    elif isinstance(schema, list):
        for value in schema:
            _closed(value)
    return schema


def _row(table: Any) -> Schema:
    """Return the schema of a row of a table; numbers that may be missing are null."""
    properties = {}
    for field in table:
        if pa.types.is_floating(field.type):
            properties[field.name] = {"type": ["number", "null"]}
        elif pa.types.is_integer(field.type):
            properties[field.name] = {"type": "integer"}
        else:
            properties[field.name] = {"type": "string"}
    return _closed({"type": "object", "properties": properties, "required": list(table.names)})


RECORDS: Final = {
    "clip": Record(title="<key>.json in a shard", make=lambda: _written(ClipRecord)),
    "dataset": Record(title="manifests/datasets/*.yaml", make=lambda: _read(DatasetRecord)),
    "decision": Record(title="A row of decisions.parquet", make=lambda: _row(DECISION_SCHEMA)),
    "index": Record(title="index.json of shards", make=lambda: _written(ShardIndex)),
    "mixed": Record(
        title="<key>.json in a shard of kind mixed", make=lambda: _written(MixedRecord)
    ),
    "mixture": Record(title="A mixture of datasets", make=lambda: _read(Mixture)),
    "probe_recipe": Record(title="A recipe of vxp-model probe", make=lambda: _read(ProbeRecipe)),
    "data_recipe": Record(title="A recipe of vxp-data run", make=lambda: _read(DataRecipe)),
    "prune_recipe": Record(title="A recipe of vxp-data prune", make=lambda: _read(PruneConfig)),
    "recot_recipe": Record(title="A recipe of vxp-model recot", make=lambda: _read(ReCoTRecipe)),
    "selection": Record(title="A row of selection.parquet", make=lambda: _row(SELECTION_SCHEMA)),
    "run": Record(title="run.json of a run directory", make=_run),
    "train_recipe": Record(title="A recipe of vxp-model train", make=lambda: _read(MllmRecipe)),
    "weights": Record(title="manifests/weights.yaml", make=lambda: _read(WeightsFile)),
}

if __name__ == "__main__":
    sys.exit(main())
