"""What a run's samples were read of: a run that was stopped does not read its manifests again.

It is a small file beside samples.parquet, written after it and removed when the run has ended.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any, Final

from vxp_data.manifests.samples import ManifestCounts, TaskRules
from vxp_data.pipeline.run_dir.directory import RunDirectory
from vxp_data.schemas import RUN_FORMAT_VERSION
from vxp_data.storage.file_versions import file_versions

_NAME: Final = "samples_read.json"


def made_of(datasets: Sequence[Mapping[str, str]], rules: TaskRules) -> dict[str, Any] | None:
    """Return all that decides which samples are read, but for where media lie.

    Args:
        datasets: as run.json has them.
        rules: how rows name their task.

    Returns:
        JSON; None where a manifest is no file, so that nothing tells whether it has changed.
    """
    versions = file_versions([facts["manifest"] for facts in datasets])
    if not all(versions.values()) or any(facts["format"] == "folder" for facts in datasets):
        return None
    return {
        "versions": [version("vxp"), RUN_FORMAT_VERSION],
        "datasets": [{**facts, "version": versions[facts["manifest"]]} for facts in datasets],
        "rules": dataclasses.asdict(rules),
    }


def kept_counts(run: RunDirectory, made: Mapping[str, Any] | None) -> list[ManifestCounts] | None:
    """Return what was counted in each manifest when the samples that are there were read.

    Args:
        run: perhaps with samples of a prune that was stopped.
        made: of the samples that are wanted; see `made_of`.

    Returns:
        None where there are none, or others.
    """
    try:
        kept = json.loads(run.root.read_bytes(_NAME))
    except (OSError, ValueError):
        return None
    if made is None or kept["made_of"] != made or not run.samples.is_file():
        return None
    return [_counts(values) for values in kept["counts"]]


def keep_counts(
    run: RunDirectory, made: Mapping[str, Any] | None, counts: Sequence[ManifestCounts]
) -> None:
    """Record of what the samples were read, unless it cannot be told whether that has changed.

    Where rows name media without a suffix, another file of that name may come to lie there.
    """
    if made is None or any(each.stems for each in counts):
        return
    fields = [field.name for field in dataclasses.fields(ManifestCounts)]
    values = [{name: getattr(each, name) for name in fields} for each in counts]
    kept = {"made_of": made, "counts": values}
    run.root.write_text(_NAME, json.dumps(kept) + "\n")


def forget_counts(run: RunDirectory) -> None:
    """Remove the record: the samples are about to be read, or the run has ended."""
    run.root.remove(_NAME)


def _counts(values: Mapping[str, Any]) -> ManifestCounts:
    counts = ManifestCounts(**values)
    for field in dataclasses.fields(counts):
        if field.default_factory is Counter:
            setattr(counts, field.name, Counter(values[field.name]))
    return counts
