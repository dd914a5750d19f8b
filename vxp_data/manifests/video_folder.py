"""A folder of video files, without annotations: every file is a row."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from vxp_data.errors import UserError
from vxp_data.manifests.base import AnyFile, ManifestRow, cannot_open
from vxp_data.manifests.json_lines import JsonLines
from vxp_data.manifests.media_path import VIDEO_SUFFIXES
from vxp_data.manifests.renamed_media import NONE_RENAMED, Renaming
from vxp_data.storage.folder import File


class VideoFolder:
    """The videos below a folder, by path; see `base.ManifestFormat`.

    A row is `{"id": path, "video": path}` with the path relative to the folder, so that what is
    written is a JSON Lines manifest of the same media root. Hidden files and folders are left
    out, and links to folders are not entered (a link to a file is a row).
    """

    suffixes: tuple[str, ...] = ()
    output_suffix = ".jsonl"

    def rows(self, path: AnyFile) -> Iterator[ManifestRow]:
        """Return a row for every video, by relative path; all paths are held."""
        if not path.is_dir():
            raise UserError(
                f"{path}: no such folder. The format 'folder' wants a folder of video files."
            )
        for index, name in enumerate(sorted(_videos(path))):
            fields = {"id": name, "video": name}
            yield ManifestRow(
                index=index,
                where=f"row {index}",
                annotation=_row_json(fields),
                fields=fields,
            )

    def write(
        self,
        out: Path,
        source: AnyFile,
        rows: Iterable[tuple[int, bytes]],
        renamed: Mapping[int, Renaming] = NONE_RENAMED,
    ) -> int:
        """Write the rows as JSON Lines."""
        return JsonLines().write(out, source, rows, renamed)


def _videos(folder: AnyFile) -> Iterator[str]:
    if isinstance(folder, File):
        yield from _remote_videos(folder)
        return

    def stop(error: OSError) -> None:
        raise cannot_open(Path(error.filename), error)

    for here, folders, files in os.walk(folder, onerror=stop):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if not name.startswith(".") and Path(name).suffix.lower() in VIDEO_SUFFIXES:
                yield (Path(here) / name).relative_to(folder).as_posix()


def _remote_videos(folder: File) -> Iterator[str]:
    try:
        names = folder.as_folder().walk()
    except OSError as error:
        raise cannot_open(folder, error) from error
    for name in names:
        is_hidden = any(part.startswith(".") for part in name.split("/"))
        if not is_hidden and Path(name).suffix.lower() in VIDEO_SUFFIXES:
            yield name


def _row_json(fields: dict[str, str]) -> bytes:
    try:
        return json.dumps(fields, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # a name that is not UTF-8 on disk
        return json.dumps(fields).encode()
