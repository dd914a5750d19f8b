"""What run.json says of a run: settings, inputs, versions, counts, timings."""

from __future__ import annotations

import dataclasses
import math
import platform
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Final

from vxp_data.core.budgets import Budget, Target
from vxp_data.core.dataset_rows import DatasetRows
from vxp_data.encoders.base import EncoderSpec
from vxp_data.errors import ExpectationError
from vxp_data.manifests.samples import Dataset, ManifestCounts
from vxp_data.pipeline.curate.decide import Decided
from vxp_data.pipeline.run_dir.samples import dataset_facts
from vxp_data.pipeline.run_dir.summary import SubsetSummary
from vxp_data.settings.prune import ExpectConfig, LoadedConfig

if TYPE_CHECKING:  # the commands that decide again need no decoder
    from vxp_data.pipeline.embed.job import EmbedTotals

_VERSIONS_OF: Final = (
    "vxp", "av", "decord", "numpy", "onnxruntime", "open_clip_torch", "pyarrow", "ray", "timm",
    "torch",
)  # fmt: skip
_NAMES_SHOWN: Final = 20
"""Of files that have changed; all are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneResult:
    """What a run gave, for the summary."""

    out: str
    """As the user named it."""
    decided: Decided
    counts: ManifestCounts
    num_files: int
    """Files that were read in this run; the others had embeddings already."""
    changed: tuple[str, ...]
    """Files whose content is another than in the run before."""
    totals: EmbedTotals
    wall_s: float
    measure: str


def threshold_text(spec: Target) -> str:
    """Write a threshold as recipes have it."""
    if isinstance(spec, Budget):
        return f"budget {spec}"
    return f"keep {spec}" if spec.policy in ("share", "count", "mixture") else str(spec)


def run_record(
    result: PruneResult,
    loaded: LoadedConfig,
    datasets: Sequence[Dataset],
    spec: EncoderSpec,
    sampler: str,
    embed_s: float,
) -> dict[str, Any]:
    """Return what run.json says of a prune that has ended."""
    return {
        "command": "prune",
        "ended_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "config": loaded.config.model_dump(mode="json"),
        "config_origin": {o.key: o.origin for o in loaded.origins if o.origin != "default"},
        "datasets": [dataset_facts(dataset) for dataset in datasets],
        "encoder": dataclasses.asdict(spec),
        "sampler": sampler,
        "manifests": {f.name: getattr(result.counts, f.name) for f in fields(result.counts)},
        "decided": decided_record(result.decided),
        "changed_files": changed_record(result.changed),
        "timings": {
            "wall_s": round(result.wall_s, 3),
            "embed_wall_s": round(embed_s, 3),
            "files_read": result.num_files,
            "clips_embedded": result.totals.clips,
            "probe_cpu_s": round(result.totals.probe_cpu_s, 3),
            "decode_cpu_s": round(result.totals.decode_cpu_s, 3),
            "embed_cpu_s": round(result.totals.embed_cpu_s, 3),
            "bytes_fetched": result.totals.bytes_fetched,
            "decode_workers": result.totals.decode_workers,
            "embed_workers": result.totals.embed_workers,
            "on_gpu": result.totals.on_gpu,
        },
        "versions": _versions(),
    }


def _versions() -> dict[str, str]:
    """Return the versions of Python and of those packages that are installed."""
    versions = {"python": platform.python_version()}
    for name in _VERSIONS_OF:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions


def decided_record(decided: Decided) -> dict[str, Any]:
    """Return the decisions' counts as JSON takes them."""
    record = dataclasses.asdict(decided)
    record["outputs"] = list(decided.outputs)
    for subset in record["subsets"]:
        if not math.isfinite(subset["threshold"]):
            subset["threshold"] = None  # JSON has no NaN
    return record


def decided_from_record(record: Mapping[str, Any]) -> Decided:
    """Return the decisions' counts again from what `decided_record` gave."""
    subsets = tuple(
        SubsetSummary(**(subset | {"threshold": _number(subset["threshold"])}))
        for subset in record["subsets"]
    )
    datasets = tuple(DatasetRows(**dataset) for dataset in record.get("datasets", ()))
    others = {"subsets": subsets, "datasets": datasets, "outputs": tuple(record["outputs"])}
    return Decided(**{**record, **others})


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def changed_record(changed: Sequence[str]) -> dict[str, Any]:
    """Return the files that were read again because they have changed: how many, and the first."""
    return {"number": len(changed), "first": list(changed[:_NAMES_SHOWN])}


_COUNTED: Final = ("num_in", "num_kept", "num_pruned", "num_duplicates", "num_quarantined")
_FLOOR: Final = "_min"


def expected_counts(decided: Mapping[str, Any]) -> dict[str, Any]:
    """Return of `decided_record` what an `expect:` may name."""
    counts = {name: decided[name] for name in _COUNTED}
    return counts | {"quarantined": decided["quarantined_by_reason"]}


def speed_per_s(number: int, seconds: float) -> float | None:
    """Return a speed for `check_expectations`; None where nothing was done."""
    return number / seconds if number else None


def check_expectations(expect: ExpectConfig, got: Mapping[str, Any]) -> None:
    """Compare a run that has ended with its recipe's `expect:`.

    Args:
        expect: what was wanted; names that end in `_min` are floors, the others exact.
        got: the same names, of floors without their ending; None where there was nothing to time.

    Raises:
        ExpectationError: it is not as expected; the message has every difference.
    """
    lines = []
    for name, wanted in expect.model_dump(exclude_none=True).items():
        value = got[name.removesuffix(_FLOOR)]
        if not name.endswith(_FLOOR) and value != wanted:
            lines.append(f"  {name}: expected {wanted}, got {value}")
        elif name.endswith(_FLOOR) and value is not None and value < wanted:
            lines.append(f"  {name}: expected {wanted} or more, got {value:.2f}")
    if lines:
        raise ExpectationError(
            "the run has ended and is written, but not as the recipe expects:\n" + "\n".join(lines)
        )
