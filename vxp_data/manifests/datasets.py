"""From the command line's manifests to named datasets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from vxp_data.errors import UserError
from vxp_data.manifests.base import AnyFile, cannot_open
from vxp_data.manifests.formats import (
    FOLDER,
    METADATA_NAMES,
    check_format,
    detect_format,
    with_metadata,
)
from vxp_data.manifests.mixture import read_mixture
from vxp_data.manifests.samples import Dataset
from vxp_data.registry import MANIFEST_FORMATS
from vxp_data.storage.folder import File, find_file, find_folder

_MIXTURE_SUFFIXES: Final = frozenset({".yaml", ".yml"})


def resolve_datasets(
    manifests: Sequence[str | Path],
    media_root: str | Path | None,
    format_name: str | None = None,
    columns: Mapping[str, str] | None = None,
) -> list[Dataset]:
    """Resolve the command line's manifests to named datasets; a YAML mixture stands for several.

    Args:
        manifests: annotation files, folders of videos, mixtures; paths, or URIs of stores.
        media_root: where relative media paths count from; None: each manifest's own folder.
        format_name: of all of them; None: each one's own, told by its suffix and content.
        columns: which column is what, in all of them but folders of videos and those datasets of a
            mixture that say so themselves.

    Raises:
        UserError: a file is missing, or of no known format, or not of the kind that the format is
            one of; a mixture is given together with a format.
    """
    found = _found_datasets(manifests, media_root, format_name)
    return [
        replace(dataset, columns=columns)
        if columns and not dataset.columns and dataset.format != FOLDER
        else dataset
        for dataset in found
    ]


def _found_datasets(
    manifests: Sequence[str | Path], media_root: str | Path | None, format_name: str | None
) -> list[Dataset]:
    if format_name is not None:
        MANIFEST_FORMATS.require(format_name)
    datasets: list[Dataset] = []
    for uri in manifests:
        path = with_metadata(find_file(uri), format_name)
        if isinstance(path, File):
            datasets.append(_remote_dataset(path, media_root, format_name, datasets))
            continue
        if not path.exists():
            raise UserError(f"manifest {path}: no such file or folder.")
        if _is_mixture(path, format_name):
            datasets += read_mixture(path)
            continue
        root = path if path.is_dir() else find_folder(media_root or path.parent)
        if isinstance(root, Path) and not root.is_dir():
            raise UserError(f"--media-root {root}: no such folder.")
        datasets.append(
            Dataset(
                name=_free_name(_name_of(path), datasets),
                manifest=path.resolve(),
                format=_format_of(path, format_name),
                media_root=root.resolve() if isinstance(root, Path) else root,
            )
        )
    return datasets


def _is_mixture(path: AnyFile, format_name: str | None) -> bool:
    if path.suffix.lower() not in _MIXTURE_SUFFIXES:
        return False
    if format_name is None:
        return True
    if path.suffix.lower() in MANIFEST_FORMATS.load(format_name).suffixes:
        return False
    raise UserError(
        f"manifest {path}: is a mixture, which names the format of each of its datasets, and got "
        f"the format {format_name!r} besides. Leave it out, or give the mixture alone."
    )


def _format_of(path: AnyFile, format_name: str | None) -> str:
    if format_name is None:
        return detect_format(path)
    check_format(path, format_name)
    return format_name


def _remote_dataset(
    path: File,
    media_root: str | Path | None,
    format_name: str | None,
    datasets: Sequence[Dataset],
) -> Dataset:
    if _is_mixture(path, format_name):
        raise UserError(
            f"manifest {path}: a mixture is read from a disk. Copy it here; what it lists may stay."
        )
    try:
        kind = _format_of(path, format_name)
        if kind != FOLDER:
            path.folder.size_bytes(path.name)  # before anything of an earlier run is removed
    except OSError as error:
        raise cannot_open(path, error) from error
    own_root = path.as_folder() if kind == FOLDER else path.parent
    return Dataset(
        name=_free_name(_name_of(path), datasets),
        manifest=path,
        format=kind,
        media_root=find_folder(media_root) if media_root and kind != FOLDER else own_root,
    )


def _name_of(path: AnyFile) -> str:
    """Name a dataset by its file; by its folder where all such files have one name."""
    if path.name in METADATA_NAMES:
        folder = path.parent
        return (folder.name if isinstance(folder, Path) else Path(folder.uri).name) or path.stem
    return path.stem or path.name


def _free_name(name: str, datasets: Sequence[Dataset]) -> str:
    taken = {dataset.name for dataset in datasets}
    numbered = (name if i == 1 else f"{name}-{i}" for i in range(1, len(taken) + 2))
    return next(candidate for candidate in numbered if candidate not in taken)
