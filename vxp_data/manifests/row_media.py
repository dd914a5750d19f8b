"""Which media a row names, in its columns and in its conversation, and where it names them."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from vxp_data.manifests.base import RowError, is_given, type_name
from vxp_data.manifests.conversation_shapes import IN_TEXT, part_kind, turns_in
from vxp_data.manifests.media_path import IMAGE_SUFFIXES, checked_name, is_url
from vxp_data.records import Modality

VIDEO_COLUMNS: Final = (
    *("video", "videos", "video_path", "video_paths", "video_file", "video_files"),
    *("video_file_name", "video_filename"),
)
IMAGE_COLUMNS: Final = (
    *("image", "images", "image_path", "image_paths", "image_file", "image_files"),
    *("image_file_name", "image_filename"),
)
VIDEO_URL_COLUMNS: Final = ("video_url",)
IMAGE_URL_COLUMNS: Final = ("image_url",)
"""Columns that mostly hold what must be downloaded first; a path there is one like any other."""
FILE_COLUMNS: Final = (
    *("path", "file_name", "file", "filename", "file_path", "filepath", "media", "media_path"),
    "medias",
)
"""Columns that name a file of either kind: an image by its suffix, else a video."""
STEM_COLUMNS: Final = ("video_name", "video_id", "videoID", "vid")
"""Columns that name a video by its file without the suffix, or with it; numbers too."""
WEBVID_COLUMNS: Final = ("page_dir", "videoid")
"""WebVid's, whose files lie at `<page_dir>/<videoid>.mp4`."""
WEBVID_URL: Final = "contentUrl"
COLUMNS: Final = (
    *VIDEO_COLUMNS,
    *VIDEO_URL_COLUMNS,
    *IMAGE_COLUMNS,
    *IMAGE_URL_COLUMNS,
    *FILE_COLUMNS,
    *STEM_COLUMNS,
    *WEBVID_COLUMNS,
    WEBVID_URL,
)
"""Every column read here."""

Place = tuple[str | int, ...]
"""Keys and indices that lead to a value in a row; see `IN_TEXT`."""

_HELD_IN: Final = (
    *(
        "path",
        "url",
        "file_name",
        "file",
        "video",
        "image",
        "video_url",
        "image_url",
        "input_video",
    ),
    *("input_image", "video_path", "image_path"),
)
"""The keys of an object that stands for a media, of which the first that holds something counts."""
_MP4: Final = ".mp4"
_OWN_MEDIA: Final[Mapping[str, Modality]] = {
    **dict.fromkeys(VIDEO_COLUMNS, Modality.VIDEO),
    **dict.fromkeys(IMAGE_COLUMNS, Modality.IMAGE),
}
"""Keys by which a turn may name its media."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedMedia:
    """One media that a row names, not yet looked for."""

    modality: Modality
    name: str
    """As the row has it: a path, relative to the media root or absolute."""
    place: Place
    """Where in the row it stands."""
    is_stem: bool = False
    """Whether the name may lack its suffix; see `MediaPaths.resolve_stem`."""
    also: tuple[Place, ...] = ()
    """Where else in the row it is named."""

    def edits(self, name: str, fields: Mapping[str, object]) -> dict[Place, object]:
        """Return what must stand where for the row to name another media."""
        edits: dict[Place, object] = dict.fromkeys(self.also, name)
        if not self.is_stem:
            return edits | {self.place: name}
        stem = name.removesuffix(_MP4)
        if self.place != (WEBVID_COLUMNS[1],) or not is_given(fields.get(WEBVID_COLUMNS[0])):
            return edits | {self.place: _like(value_at_place(fields, self.place), stem)}
        folder, file = posixpath.split(stem)
        page, video = WEBVID_COLUMNS
        return edits | {(page,): folder, (video,): _like(fields[video], file)}


def find_media(fields: Mapping[str, object]) -> tuple[NamedMedia, ...]:
    """Return all media that a row names; videos before images, else in the row's order.

    Columns of several names for the same (`video`, `video_path`) are alternatives: the first that
    holds something counts. Parts of the conversation that name a media stand for themselves, and
    may name what the columns name.

    Raises:
        RowError: a column or part holds no path, or the columns name other media than the parts.
    """
    in_columns = tuple(_in_columns(fields))
    in_parts = tuple(_in_parts(fields))
    if not (in_columns and in_parts):
        return in_columns or in_parts
    if sorted(map(_normal, in_columns)) != sorted(map(_normal, in_parts)):
        raise RowError(
            f"column {in_columns[0].place[0]!r} names {_names(in_columns)}, and the conversation "
            f"{_names(in_parts)}. Take the wrong one out"
        )
    left = list(in_parts)
    named = []
    for media in in_columns:
        twin = left.pop([_normal(part) for part in left].index(_normal(media)))
        named.append(replace(media, also=(twin.place,)))
    return tuple(named)


def value_at_place(row: object, place: Place) -> object:
    """Return what stands at a place of a row; None where the row has no such place."""
    for key in place:
        if key == IN_TEXT and isinstance(row, str):
            row = json.loads(row)
        elif isinstance(row, Mapping):
            row = row.get(str(key))
        elif isinstance(row, list) and isinstance(key, int) and 0 <= key < len(row):
            row = row[key]
        else:
            return None
    return row


def _like(old: object, new: str) -> object:
    """Return a number where there was one, as a column of numbers wants it."""
    is_number = isinstance(old, int) and not isinstance(old, bool)
    return int(new) if is_number and new.isdecimal() else new


def _normal(media: NamedMedia) -> tuple[str, str]:
    return media.modality, posixpath.normpath(media.name)


def _names(media: Sequence[NamedMedia]) -> str:
    return ", ".join(repr(one.name) for one in media[:3]) + (", ..." if len(media) > 3 else "")


def _in_columns(fields: Mapping[str, object]) -> Iterator[NamedMedia]:
    videos = _first(fields, VIDEO_COLUMNS, Modality.VIDEO)
    videos = videos or _first(fields, VIDEO_URL_COLUMNS, Modality.VIDEO, urls=False)
    images = _first(fields, IMAGE_COLUMNS, Modality.IMAGE)
    images = images or _first(fields, IMAGE_URL_COLUMNS, Modality.IMAGE, urls=False)
    if not (videos or images):
        yield from (found := _first(fields, FILE_COLUMNS, None) or _by_id(fields))
        if found:
            return
    yield from videos or _first(fields, VIDEO_URL_COLUMNS, Modality.VIDEO)
    yield from images or _first(fields, IMAGE_URL_COLUMNS, Modality.IMAGE)
    if not (videos or images) and is_given(fields.get(WEBVID_URL)):
        yield from _first(fields, (WEBVID_URL,), Modality.VIDEO)


def _by_id(fields: Mapping[str, object]) -> list[NamedMedia]:
    page, video = WEBVID_COLUMNS
    if is_given(fields.get(video)):
        name = _id_text(video, fields[video])
        folder = fields.get(page)
        if is_given(folder):
            name = f"{checked_name(page, folder)}/{name}"
        return [NamedMedia(modality=Modality.VIDEO, name=name, place=(video,), is_stem=True)]
    for column in STEM_COLUMNS:
        if is_given(fields.get(column)):
            name = _id_text(column, fields[column])
            return [NamedMedia(modality=_by_suffix(name), name=name, place=(column,), is_stem=True)]
    return []


def _id_text(column: str, value: object) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool) and value == value // 1:
        value = str(int(value))
    return checked_name(column, value)


def _first(
    fields: Mapping[str, object],
    columns: Sequence[str],
    modality: Modality | None,
    *,
    urls: bool = True,
) -> list[NamedMedia]:
    """Return the media in the first of some columns that holds any.

    Args:
        fields: the row.
        columns: in the order in which they count.
        modality: of what they name; None: its suffix tells.
        urls: False: what is a URL is read over.
    """
    for column in columns:
        if column not in fields:
            continue
        found = list(_held(column, fields[column], (column,), modality))
        if found and (urls or not any(is_url(media.name) for media in found)):
            return found
    return []


def _held(
    what: str, value: object, place: Place, modality: Modality | None
) -> Iterator[NamedMedia]:
    """Return the media in a value: a path, an object that has one, a list, or such a list as text.

    Raises:
        RowError: there is something else in it.
    """
    if not is_given(value):
        return
    if isinstance(value, str) and value[:1] != "[":
        name = checked_name(what, value)
        yield NamedMedia(modality=modality or _by_suffix(name), name=name, place=place)
        return
    listed = _listed(value)
    if listed is not None:
        at = (*place, IN_TEXT) if isinstance(value, str) else place
        yield from _each(what, listed, at, modality)
        return
    if isinstance(value, Mapping):
        key = next((key for key in _HELD_IN if is_given(value.get(key))), None)
        if key is None:
            if any(is_given(held) for held in value.values()) or not value:
                raise RowError(f"{what} is an object, wanted the path of a file")
            return  # a column of objects without this row's: {'bytes': None, 'path': None}
        kind = value.get("type")
        told = {"video": Modality.VIDEO, "image": Modality.IMAGE}.get(str(kind or key)[:5])
        yield from _held(what, value[key], (*place, key), told or modality)
        return
    name = checked_name(what, value)
    yield NamedMedia(modality=modality or _by_suffix(name), name=name, place=place)


def _listed(value: object) -> list[object] | None:
    """Return the list that a value is, or that its text is as JSON; None where it is no list."""
    if isinstance(value, list):
        return value
    if not isinstance(value, str) or not value.startswith("[") or not value.endswith("]"):
        return None
    try:
        listed = json.loads(value)
    except (ValueError, RecursionError):
        return None  # a file's name may begin so
    return listed if isinstance(listed, list) else None


def _each(
    what: str, values: list[object], place: Place, modality: Modality | None
) -> Iterator[NamedMedia]:
    if not any(is_given(value) for value in values):
        return
    named = []
    for index, value in enumerate(values):
        found = list(_held(what, value, (*place, index), modality))
        if not found:
            raise RowError(f"{what}: item {index + 1} is {type_name(value)}, wanted a path")
        named += found
    pictures = [media for media in named if media.name.lower().endswith(IMAGE_SUFFIXES)]
    if modality is Modality.VIDEO and len(pictures) == len(named) > 1:
        raise RowError(
            f"{what} names a video by {len(named)} pictures, wanted the path of a video. "
            "Join them (ffmpeg), or name them as images"
        )
    yield from named


def _in_parts(fields: Mapping[str, object]) -> Iterator[NamedMedia]:
    """Return the media that the parts of a conversation name, and those of its turns' own keys."""
    for place, turn in turns_in(fields):
        if not isinstance(turn, dict):
            continue  # reading the words says what is wrong
        for key, content in turn.items():
            if key in _OWN_MEDIA:
                yield from _held(key, content, (*place, key), _OWN_MEDIA[key])
            elif isinstance(content, str) or key not in ("content", "value"):
                continue
            elif isinstance(content, Mapping):
                yield from _in_part((*place, key), content)
            elif isinstance(content, list):
                for index, part in enumerate(content):
                    if isinstance(part, Mapping):
                        yield from _in_part((*place, key, index), part)


def _in_part(place: Place, part: Mapping[str, object]) -> Iterator[NamedMedia]:
    what = f"{place[0]}: {place[-2]!r}" if len(place) > 1 else str(place[0])
    kind = part_kind(what, part)
    if kind == "text":
        return
    key = next((key for key in _HELD_IN if is_given(part.get(key))), None)
    if key is not None:  # else a place for what a column names
        yield from _held(f"{what}: {key}", part[key], (*place, key), Modality(kind))


def _by_suffix(name: str) -> Modality:
    return Modality.IMAGE if name.lower().endswith(IMAGE_SUFFIXES) else Modality.VIDEO
