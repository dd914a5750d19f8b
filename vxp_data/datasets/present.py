"""What of a mixture is there: its manifests, their rows, the media that are missing."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vxp_data.manifests.base import AnyFile, ManifestFormat
from vxp_data.manifests.mixture import MixtureEntry, read_entries
from vxp_data.registry import MANIFEST_FORMATS
from vxp_data.storage.folder import File, open_folder

_BLOCK_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class PresentEntry:
    """A dataset of a mixture, and what of it is there."""

    entry: MixtureEntry
    share: float
    """Of the samples of training, by the weights; without any, by the rows; 0 where neither."""
    num_rows: int | None
    """Rows of its manifest; None: it is not there."""
    num_missing: int | None
    """Media that were missing when it was ingested; None: nothing says."""


def present_entries(given: str | Path, root: str | Path | None = None) -> tuple[PresentEntry, ...]:
    """Find the manifests of a mixture.

    Args:
        given: the mixture file, or the name of one that comes with vxp.
        root: where its relative paths count from; None: see `read_entries`.

    Raises:
        UserError: the file is not a mixture, or a manifest cannot be read as its format.
    """
    entries = read_entries(given, root)
    weights = [entry.weight for entry in entries]
    if not any(weights):
        weights = [entry.rows for entry in entries]
    total = sum(weight or 0 for weight in weights)
    return tuple(
        PresentEntry(
            entry=entry,
            share=(weight or 0) / total if total else 0.0,
            num_rows=_num_rows(entry),
            num_missing=_num_missing(entry.dataset.manifest),
        )
        for entry, weight in zip(entries, weights, strict=True)
    )


def _num_rows(entry: MixtureEntry) -> int | None:
    manifest = entry.dataset.manifest
    if not (manifest.is_file() or manifest.is_dir()):
        return None
    if entry.dataset.format == "jsonl":
        return _num_lines(manifest)
    reader: ManifestFormat = MANIFEST_FORMATS.load(entry.dataset.format)()
    return sum(1 for _ in reader.rows(manifest))


def _num_missing(manifest: AnyFile) -> int | None:
    """Count the list that `ingest` writes beside a manifest."""
    folder = manifest.folder if isinstance(manifest, File) else open_folder(manifest.parent)
    listed = folder.file(f"{manifest.stem}.missing.txt")
    return _num_lines(listed) if listed.is_file() else None


def _num_lines(file: AnyFile) -> int:
    with file.open("rb") as opened:
        blocks = iter(functools.partial(opened.read, _BLOCK_BYTES), b"")
        return sum(block.count(b"\n") for block in blocks)
