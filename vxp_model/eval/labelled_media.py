"""Images and videos with the name of a class: a folder, a tar, or a set of `datasets`."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Final

from vxp_data.core.seeds import hash64
from vxp_model.errors import UserError

IMAGES: Final = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
VIDEOS: Final = frozenset({".mp4", ".mkv", ".webm", ".mov", ".avi", ".m4v", ".mpg", ".mpeg"})
_SET: Final = "datasets:"
_CLASS: Final = ".cls"


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledMedia:
    """A media that is read when it is needed."""

    name: str
    label: str
    is_image: bool
    read: Callable[[], bytes]


def find_media(
    source: str, *, media_column: str | None = None, label_column: str = "label"
) -> list[LabelledMedia]:
    """List the media of a set.

    Args:
        source: see `probe_settings.LabelledSettings.train`.
        media_column: of a `datasets` set; None: 'video' or 'image'.
        label_column: of a `datasets` set.

    Returns:
        media: sorted by name, at least one.

    Raises:
        UserError: there is no such set, or nothing in it has a class.
    """
    if source.startswith(_SET):
        found = _of_datasets(source.removeprefix(_SET), media_column, label_column)
    elif Path(source).is_dir():
        found = _of_folder(Path(source))
    elif Path(source).is_file():
        found = _of_tar(Path(source))
    else:
        raise UserError(
            f"{source!r} is neither a folder nor a tar. A set of the datasets library is written "
            f"{_SET}NAME or {_SET}NAME:SPLIT."
        )
    if not found:
        kinds = ", ".join(sorted(IMAGES | VIDEOS))
        raise UserError(
            f"{source!r} holds no image or video with a class (wanted: CLASS/NAME with one of "
            f"{kinds}; in a tar also KEY{_CLASS} beside KEY.jpg)."
        )
    return sorted(found, key=lambda media: media.name)


def split_media(
    media: Sequence[LabelledMedia], *, test_share: float, seed: int
) -> tuple[list[LabelledMedia], list[LabelledMedia]]:
    """Hold back a share of each class; which, follows from the seed and the names alone.

    Args:
        media: of all classes.
        test_share: of each class; at least one, and one stays.
        seed: another seed holds back others.

    Returns:
        train, test: sorted by name.

    Raises:
        UserError: a class has a single media.
    """
    train, test = [], []
    for label, own in _by_class(media, seed).items():
        if len(own) < 2:
            raise UserError(f"class {label!r} has one media: give data.test, or leave it out.")
        held = min(max(round(test_share * len(own)), 1), len(own) - 1)
        test += own[:held]
        train += own[held:]
    return _sorted(train), _sorted(test)


def draw_per_class(media: Sequence[LabelledMedia], *, most: int, seed: int) -> list[LabelledMedia]:
    """Keep at most so many media of each class, drawn by the seed."""
    return _sorted([one for own in _by_class(media, seed).values() for one in own[:most]])


def _by_class(media: Sequence[LabelledMedia], seed: int) -> dict[str, list[LabelledMedia]]:
    classes: dict[str, list[LabelledMedia]] = {}
    for one in sorted(media, key=lambda one: hash64("probe", seed, one.name)):
        classes.setdefault(one.label, []).append(one)
    return classes


def _sorted(media: list[LabelledMedia]) -> list[LabelledMedia]:
    return sorted(media, key=lambda one: one.name)


def _of_folder(root: Path) -> list[LabelledMedia]:
    found = []
    for folder, _, names in os.walk(root, followlinks=True):
        for name in names:
            path = Path(folder, name)
            is_image = _is_image(name)
            if path.parent != root and is_image is not None:
                found.append(
                    LabelledMedia(
                        name=path.relative_to(root).as_posix(),
                        label=path.parent.name,
                        is_image=is_image,
                        read=path.read_bytes,
                    )
                )
    return found


def _of_tar(path: Path) -> list[LabelledMedia]:
    try:
        with tarfile.open(path, mode="r:") as tar:
            members = {i.name: (i.offset_data, i.size) for i in tar if i.isfile()}
    except (OSError, tarfile.TarError) as error:
        raise UserError(f"{str(path)!r} cannot be read as an uncompressed tar: {error}") from error
    found = []
    for name, (start, size) in members.items():
        is_image = _is_image(name)
        if is_image is None:
            continue
        inside = PurePosixPath(name)
        beside = name.removesuffix(inside.suffix) + _CLASS
        label = inside.parent.name
        if beside in members:
            label = _read_range(path, *members[beside]).decode(errors="replace").strip()
        if label:
            read = partial(_read_range, path, start, size)
            found.append(LabelledMedia(name=name, label=label, is_image=is_image, read=read))
    return found


def _read_range(path: Path, start: int, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(size)


def _of_datasets(name: str, media_column: str | None, label_column: str) -> list[LabelledMedia]:
    import datasets  # type: ignore[import-untyped]

    path, _, split = name.partition(":")
    try:
        if Path(path, "state.json").is_file():
            table = datasets.load_from_disk(path)
        elif Path(path, "dataset_dict.json").is_file():
            table = datasets.load_from_disk(path)[split or "train"]
        else:
            table = datasets.load_dataset(path, split=split or "train")
    except Exception as error:
        raise UserError(
            f"the set {name!r} of the datasets library cannot be had: {type(error).__name__}: "
            f"{error}. Fetch it where there is network (load_dataset, then save_to_disk) and name "
            f"the folder: {_SET}FOLDER."
        ) from error
    columns = table.column_names
    media = media_column or next((c for c in ("video", "image", "img") if c in columns), "")
    if media not in columns or label_column not in columns:
        raise UserError(
            f"{name!r} has the columns {', '.join(columns)}: set data.media_column and "
            "data.label_column."
        )
    kind = table.features[media]
    if not isinstance(kind, datasets.Image | datasets.Video):
        raise UserError(f"column {media!r} of {name!r} is {kind}, wanted Image or Video.")
    table = table.cast_column(media, type(kind)(decode=False))
    names = getattr(table.features[label_column], "names", None)
    return [
        LabelledMedia(
            name=f"{number:09d}",
            label=str(label if names is None else names[label]),
            is_image=isinstance(kind, datasets.Image),
            read=partial(_read_cell, table, number, media),
        )
        for number, label in enumerate(table[label_column])
    ]


def _read_cell(table: Any, number: int, column: str) -> bytes:
    cell = table[number][column]
    return bytes(cell["bytes"]) if cell["bytes"] is not None else Path(cell["path"]).read_bytes()


def _is_image(name: str) -> bool | None:
    """Whether a file is an image (True) or a video (False); None: neither, or hidden."""
    path = PurePosixPath(name)
    suffix = path.suffix.lower()
    if path.name.startswith(".") or suffix not in IMAGES | VIDEOS:
        return None
    return suffix in IMAGES
