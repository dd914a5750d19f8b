"""From the command line's manifests to named datasets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from vxp_data.errors import UserError
from vxp_data.manifests.base import cannot_open
from vxp_data.manifests.mixture import read_mixture
from vxp_data.manifests.samples import Dataset, detect_format
from vxp_data.storage.folder import File, find_file, find_folder

_MIXTURE_SUFFIXES: Final = frozenset({".yaml", ".yml"})


def resolve_datasets(
    manifests: Sequence[str | Path], media_root: str | Path | None
) -> list[Dataset]:
    """Resolve the command line's manifests to named datasets; a YAML mixture stands for several.

    Args:
        manifests: annotation files, folders of videos, mixtures; paths, or URIs of stores.
        media_root: where relative media paths count from; None: each manifest's own folder.

    Raises:
        UserError: a file is missing or of no known format.
    """
    datasets: list[Dataset] = []
    for uri in manifests:
        path = find_file(uri)
        if isinstance(path, File):
            datasets.append(_remote_dataset(path, media_root, datasets))
            continue
        if not path.exists():
            raise UserError(f"manifest {path}: no such file or folder.")
        if path.suffix.lower() in _MIXTURE_SUFFIXES:
            datasets += read_mixture(path)
            continue
        root = path if path.is_dir() else find_folder(media_root or path.parent)
        if isinstance(root, Path) and not root.is_dir():
            raise UserError(f"--media-root {root}: no such folder.")
        datasets.append(
            Dataset(
                name=_free_name(path.stem or path.name, datasets),
                manifest=path.resolve(),
                format=detect_format(path),
                media_root=root.resolve() if isinstance(root, Path) else root,
            )
        )
    return datasets


def _remote_dataset(
    path: File, media_root: str | Path | None, datasets: Sequence[Dataset]
) -> Dataset:
    if path.suffix.lower() in _MIXTURE_SUFFIXES:
        raise UserError(
            f"manifest {path}: a mixture is read from a disk. Copy it here; what it lists may stay."
        )
    try:
        kind = detect_format(path)
        if kind != "folder":
            path.folder.size_bytes(path.name)  # before anything of an earlier run is removed
    except OSError as error:
        raise cannot_open(path, error) from error
    own_root = path.as_folder() if kind == "folder" else path.parent
    return Dataset(
        name=_free_name(path.stem, datasets),
        manifest=path,
        format=kind,
        media_root=find_folder(media_root) if media_root and kind != "folder" else own_root,
    )


def _free_name(name: str, datasets: Sequence[Dataset]) -> str:
    taken = {dataset.name for dataset in datasets}
    numbered = (name if i == 1 else f"{name}-{i}" for i in range(1, len(taken) + 2))
    return next(candidate for candidate in numbered if candidate not in taken)
