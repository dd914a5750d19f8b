"""Several datasets at once: a YAML file that lists them, as LLaVA-NeXT's training mixtures do."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vxp_data.errors import UserError, unknown_name
from vxp_data.manifests.base import cannot_open, not_utf8, type_name
from vxp_data.manifests.formats import FOLDER, detect_format, with_metadata
from vxp_data.manifests.samples import Dataset
from vxp_data.registry import MANIFEST_FORMATS
from vxp_data.settings.columns import check_columns
from vxp_data.settings.safe_yaml import load_yaml
from vxp_data.shipped_files import MIXTURES
from vxp_data.storage.folder import find_file, find_folder

_KEYS: Final = ("name", "manifest", "media_root", "task", "format", "dataset", "only")
_NUMBERS: Final = ("weight", "rows")
_COLUMNS: Final = "columns"
_ALIASES: Final = {"json_path": "manifest"}
"""LLaVA-NeXT's word for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MixtureEntry:
    """One dataset of a mixture, and what training and its makers should know besides."""

    dataset: Dataset
    weight: float | None
    """Share in training against the other entries'; pruning does not look at it."""
    source: str
    """Name of the public dataset that `vxp-data ingest` makes the manifest of; '' for none."""
    only: tuple[str, ...]
    """The annotation files of it that are meant; none: all."""

    @property
    def rows(self) -> int | None:
        """How many rows are meant to stay; None: it states none."""
        return self.dataset.rows


def read_mixture(path: Path) -> list[Dataset]:
    """Read the datasets of a mixture file, in its order.

    The file is `datasets: [{name, manifest, media_root, task?, format?, ...}]`. `json_path`, as
    LLaVA-NeXT has it, is another name of `manifest`; `format` is told by the manifest's suffix
    and content where it is not given; `media_root` may be left out where the manifest is a
    folder, which then is its own. Relative paths count from the mixture file's folder; URIs of
    stores may stand for either. `columns` says which of the rows' columns is what
    (`{video: path}`), `rows` how many are meant to stay. See `MixtureEntry` for `weight`, `dataset`
    (its `source`) and `only`.

    Raises:
        UserError: the file cannot be read, a key is unknown or missing, a value is no text, a
            format is unknown, or two datasets have one name.
    """
    return [entry.dataset for entry in read_entries(path)]


def read_entries(given: str | Path, root: str | Path | None = None) -> list[MixtureEntry]:
    """Read a mixture file with all that its entries say.

    Args:
        given: the file, or the name of one that comes with vxp.
        root: where relative paths count from; None: the file's folder, for a name the working
            directory.

    Raises:
        UserError: see `read_mixture`; or a number is none or out of its range.
    """
    path = MIXTURES.find(given)
    if root is None:
        root = path.parent if path == Path(given) else Path()
    entries: list[MixtureEntry] = []
    for number, entry in enumerate(_entries(path), start=1):
        where = f"{path}: dataset {number}"
        texts, numbers = _texts(where, entry), _numbers(where, entry)
        rows = None if "rows" not in numbers else int(numbers["rows"])
        dataset = _dataset(root, where, texts, _columns(where, entry), rows)
        if dataset.name in {earlier.dataset.name for earlier in entries}:
            raise UserError(
                f"{where}: the name {dataset.name!r} is taken by an earlier dataset, and sample "
                "ids begin with it. Give each dataset its own name."
            )
        entries.append(
            MixtureEntry(
                dataset=dataset,
                weight=numbers.get("weight"),
                source=texts.get("dataset", ""),
                only=tuple(texts.get("only", "").split()),
            )
        )
    return entries


def _entries(path: Path) -> list[object]:
    try:
        document = load_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise cannot_open(path, error) from error
    except UnicodeDecodeError as error:
        raise not_utf8(path) from error
    except ValueError as error:
        raise UserError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(document, Mapping) or "datasets" not in document:
        raise UserError(
            f"{path}: got {type_name(document)} without the key 'datasets', wanted "
            "'datasets: [{name, manifest, media_root}, ...]'."
        )
    for key in document:
        if key != "datasets":
            raise UserError(f"{path}: {unknown_name('key', str(key), ['datasets'])}")
    entries = document["datasets"]
    if not isinstance(entries, list) or not entries:
        raise UserError(
            f"{path}: 'datasets' is {type_name(entries)}, wanted a list of one or more datasets."
        )
    return entries


def _texts(where: str, entry: object) -> dict[str, str]:
    """Return an entry's keys by our names, and its values as text."""
    if not isinstance(entry, Mapping):
        raise UserError(f"{where}: got {type_name(entry)}, wanted {{name, manifest, media_root}}.")
    texts: dict[str, str] = {}
    for key, value in entry.items():
        name = _ALIASES.get(key, key)
        if name in _NUMBERS or name == _COLUMNS:
            continue
        if name not in _KEYS:
            known = (*_KEYS, *_NUMBERS, _COLUMNS, *_ALIASES)
            raise UserError(f"{where}: {unknown_name('key', str(key), known)}")
        if name in texts:
            raise UserError(f"{where}: has both 'manifest' and 'json_path', which mean the same.")
        if value is None and name in ("task", "format", "dataset", "only"):
            continue
        if not isinstance(value, str) or not value:
            got = repr(value) if value == "" else type_name(value)
            raise UserError(f"{where}: {key!r} is {got}, wanted text (in quotes if need be).")
        texts[name] = value
    return texts


def _numbers(where: str, entry: object) -> dict[str, float]:
    """Return an entry's numbers."""
    numbers: dict[str, float] = {}
    for key, value in entry.items() if isinstance(entry, Mapping) else ():
        if key not in _NUMBERS or value is None:
            continue
        good = isinstance(value, int | float) and not isinstance(value, bool)
        if not good or not 0 < value < math.inf or (key == "rows" and value != int(value)):
            wanted = "a whole number" if key == "rows" else "a number"
            raise UserError(f"{where}: {key!r} is {value!r:.80}, wanted {wanted} above 0.")
        numbers[key] = value
    return numbers


def _columns(where: str, entry: object) -> dict[str, str]:
    """Return what an entry says of its rows' columns."""
    columns = entry.get(_COLUMNS) if isinstance(entry, Mapping) else None
    if columns is None:
        return {}
    if not isinstance(columns, Mapping):
        raise UserError(
            f"{where}: 'columns' is {type_name(columns)}, wanted {{KIND: COLUMN}}, such as "
            "{video: path, question: prompt}."
        )
    found = {str(kind): "" if name is None else str(name) for kind, name in columns.items()}
    try:
        check_columns(found)
    except UserError as error:
        raise UserError(f"{where}: columns: {error}") from error
    return found


def _dataset(
    folder: str | Path,
    where: str,
    texts: dict[str, str],
    columns: dict[str, str],
    rows: int | None,
) -> Dataset:
    for key in ("name", "manifest"):
        if key not in texts:
            raise _missing(where, key, texts)
    try:
        manifest = with_metadata(find_file(_below(folder, texts["manifest"])), texts.get("format"))
        kind = texts.get("format") or detect_format(manifest)
        MANIFEST_FORMATS.require(kind)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    if "media_root" not in texts and kind != FOLDER:
        raise _missing(where, "media_root", texts)
    return Dataset(
        name=texts["name"],
        manifest=manifest,
        format=kind,
        media_root=find_folder(_below(folder, texts.get("media_root", str(manifest)))),
        task=texts.get("task"),
        columns=columns,
        rows=rows,
    )


def _below(folder: str | Path, path: str) -> str:
    """Count a path from a folder or prefix; a URI stays what it is."""
    if "://" in path:
        return path
    return f"{folder}/{path}" if "://" in str(folder) else str(Path(folder) / path)


def _missing(where: str, key: str, texts: dict[str, str]) -> UserError:
    return UserError(
        f"{where}: the key {key!r} is missing; it has {', '.join(texts) or 'none'}. "
        "Wanted: name, manifest, media_root, and if need be task, format."
    )
