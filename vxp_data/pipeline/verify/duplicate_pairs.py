"""The part of `verify` about filters and duplicates: they are worked out anew, and compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from vxp_data.errors import UserError
from vxp_data.manifests.base import ManifestRow
from vxp_data.manifests.renamed_media import Renaming, media_name
from vxp_data.manifests.samples import Dataset
from vxp_data.pipeline.curate.exclude import Excluded, exclude, exclusion_rule, relinked_samples
from vxp_data.pipeline.run_dir.directory import RunDirectory, read_table
from vxp_data.records import Outcome
from vxp_data.settings.prune import PruneConfig


def check_duplicates(
    run: RunDirectory, samples: pa.Table, record: dict[str, Any], add: Callable[[str], None]
) -> Excluded | None:
    """Find the duplicates of a run anew, compare them with what it holds.

    Args:
        run: its directory.
        samples: its samples.
        record: its run.json.
        add: takes a problem.

    Returns:
        What the duplicates found make of the samples; None where they cannot be looked for.
    """
    config = PruneConfig.model_validate(record["config"])
    try:
        rule = exclusion_rule(
            config, encoder=record["encoder"]["fingerprint"], sampler=record["sampler"]
        )
        excluded = exclude(run, samples, rule)
        duplicates = excluded.duplicates
        there = read_table(run.duplicates) if run.duplicates.is_file() else None
    except UserError as error:
        add(str(error))
        return None
    if there is None or duplicates is None:
        is_same = there is None and duplicates is None
    else:  # an older version's lacks the last column
        is_same = there == duplicates.select(
            [name for name in duplicates.column_names if name in there.column_names]
        )
    if not is_same:
        is_old = there is not None and "found_by" not in there.column_names
        add(
            "duplicates.parquet: its rows are not those that the embeddings give"
            + (f"; an older version found them, `vxp-data decide {run.root}` does anew" * is_old)
        )
    return excluded


def renamed_rows(
    run: RunDirectory, samples: pa.Table, decisions: pa.Table, dataset: Dataset
) -> dict[int, Renaming]:
    """Return the kept rows of a dataset that must name another media, by index among them."""
    kept = pc.equal(decisions["decision"], Outcome.KEEP.value)
    mine = samples.filter(pc.and_(kept, pc.equal(samples["dataset"], dataset.name)))
    uris = relinked_samples(run, mine)["media_uri"]
    changed = pc.not_equal(uris, mine["media_uri"]).to_pylist()
    return {
        index: Renaming(
            name=media_name(dataset.media_root, uris[index].as_py()), columns=dataset.columns
        )
        for index, is_changed in enumerate(changed)
        if is_changed
    }


def with_own_names(
    rows: Iterator[ManifestRow], wanted: Iterator[bytes], renamed: dict[int, Renaming]
) -> Iterator[tuple[bytes | None, bytes | None]]:
    """Pair wanted rows with those that are there; a renamed one is right if it has its new name."""
    index = 0
    while True:
        row, annotation = next(rows, None), next(wanted, None)
        if row is None and annotation is None:
            return
        got = None if row is None else row.annotation
        if row is not None and index in renamed and not renamed[index].edits(row.fields):
            got = annotation
        yield annotation, got
        index += 1
