"""Which format a manifest has: by what the user says, else by its suffix, else by its content."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Final

from vxp_data.errors import UserError
from vxp_data.manifests.base import AnyFile, KnownByContent, ManifestFormat
from vxp_data.registry import MANIFEST_FORMATS
from vxp_data.storage.folder import File

FOLDER: Final = "folder"
"""The format of every manifest that is a folder; all others are of files."""

METADATA_NAMES: Final = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
"""Files in which a folder of media says what they are, as Hugging Face's datasets have it."""


def with_metadata(path: AnyFile, format_name: str | None = None) -> AnyFile:
    """Return the file in a folder that has its rows; the path itself where there is none.

    Args:
        path: of a manifest.
        format_name: what the user says of it: where that is 'folder', its files count alone.

    Raises:
        UserError: there are several such files, or they lie in folders of the folder.
    """
    if isinstance(path, File) and _owners(path.suffix.lower()):
        return path  # a store is asked only if need be
    if format_name is not None or not path.is_dir():
        return path
    if isinstance(path, File):
        there = [path.as_folder().file(name) for name in METADATA_NAMES]
        found: Sequence[AnyFile] = [file for file in there if file.is_file()]
        inner: Sequence[AnyFile] = []
    else:
        found = [path / name for name in METADATA_NAMES if (path / name).is_file()]
        inner = sorted(file for name in METADATA_NAMES for file in path.glob(f"*/{name}"))
    if len(found) > 1 or (inner and not found):
        shown = ", ".join(str(file) for file in (found or inner)[:3])
        raise UserError(
            f"manifest {path}: is a folder whose videos are described in {shown}. Name that file "
            "(or several), or give --format folder to take the videos without their words."
        )
    return found[0] if found else path


def detect_format(path: AnyFile) -> str:
    """Return the format of a manifest: that of folders, else one to which its suffix belongs.

    Of several formats with that suffix, the first that finds its own content there has it, else the
    first that does not look; a manifest that is not there yet too.

    Raises:
        UserError: no format has the suffix; with the nearest that one has.
    """
    suffix = path.suffix.lower()
    owners = _owners(suffix)
    if owners and (isinstance(path, File) or not path.is_dir()):
        return _by_content(path, owners)  # a store is asked only if need be
    if path.is_dir():
        return FOLDER
    known = list(dict.fromkeys(s for name in MANIFEST_FORMATS.names() for s in _suffixes(name)))
    near = difflib.get_close_matches(suffix, known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise UserError(
        f"{path}: cannot tell the manifest's format from the suffix {suffix!r}, and it is no "
        f"folder.{hint} Known: {', '.join(known)}. Rename the file, or name its format (--format "
        "NAME; in a mixture or recipe, format: NAME), one of: "
        f"{', '.join(MANIFEST_FORMATS.names())}."
    )


def check_format(path: AnyFile, name: str) -> None:
    """Check that a format that a user names can be that of a manifest.

    Raises:
        UserError: there is no such format; or one of the two is of folders, and the other is not.
    """
    MANIFEST_FORMATS.require(name)
    is_folder = path.is_dir()
    if is_folder and name != FOLDER:
        raise UserError(
            f"manifest {path}: is a folder, and format {name!r} is one of files. Name the file in "
            "it, or leave the format out to take the folder's videos."
        )
    if name == FOLDER and not is_folder:
        raise UserError(f"manifest {path}: is no folder, as format {FOLDER!r} wants.")


def written_format(name: str) -> str:
    """Return the format of what a format writes: its own, if its suffix is."""
    kind: ManifestFormat = MANIFEST_FORMATS.load(name)()
    if kind.output_suffix in kind.suffixes:
        return name
    return next(iter(_owners(kind.output_suffix)), name)


def _owners(suffix: str) -> list[str]:
    """Return the formats to which a suffix belongs; those in whose own list it comes first lead."""
    owners = [name for name in MANIFEST_FORMATS.names() if suffix in _suffixes(name)]
    return sorted(owners, key=lambda name: _suffixes(name)[0] != suffix)


def _suffixes(name: str) -> tuple[str, ...]:
    suffixes: tuple[str, ...] = MANIFEST_FORMATS.load(name).suffixes
    return suffixes


def _by_content(path: AnyFile, owners: list[str]) -> str:
    if len(owners) == 1:
        return owners[0]
    unsure = []
    for name in owners:
        kind: ManifestFormat = MANIFEST_FORMATS.load(name)()
        if not isinstance(kind, KnownByContent):
            unsure.append(name)
        elif kind.recognises(path):
            return name
    return (unsure or owners)[0]
