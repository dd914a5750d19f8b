"""From the annotation files of a public dataset to one manifest that `vxp-data prune` reads."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Final

from vxp_data.conversation import question_answer_pairs
from vxp_data.core.tasks import classify_conversation
from vxp_data.datasets.catalogue import load_record
from vxp_data.datasets.layouts.base import (
    Annotation,
    AnnotationLayout,
    LlavaRow,
    SkippedRow,
    SourceRow,
)
from vxp_data.datasets.locate import FileLocator
from vxp_data.datasets.media import MediaFinder
from vxp_data.datasets.record import AnnotationFile, DatasetRecord
from vxp_data.datasets.rows import manifest_row, row_json
from vxp_data.datasets.sources import ReadRow, read_companion, read_rows
from vxp_data.errors import UserError, unknown_name
from vxp_data.manifests.base import AnyFile, RowError
from vxp_data.manifests.conversation import read_turns
from vxp_data.manifests.row_media import IMAGE_COLUMNS, VIDEO_COLUMNS
from vxp_data.registry import ANNOTATION_LAYOUTS
from vxp_data.storage.folder import File, Folder, find_file, open_folder

_SUFFIX: Final = ".jsonl"
_MESSAGE_CHARS: Final = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class FileResult:
    """What became of the rows of one entry of `DatasetRecord.files`.

    `num_read` is the sum of the rows that gave something, `skipped` and `num_rejected`.
    """

    name: str
    paths: tuple[str, ...]
    """The files that were read, below the root."""
    num_read: int
    num_written: int
    """Rows of the manifest; a row of the source may give several."""
    num_rejected: int
    """Broken rows; each is listed in the file of rejected rows."""
    skipped: Mapping[str, int]
    """Rows that are not wanted, by why: those of another split."""
    expected: int | None
    """How many rows the source states; None: it does not."""
    expected_source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestResult:
    """What `ingest_dataset` wrote."""

    dataset: str
    manifest: str
    """JSON Lines of LLaVA's rows; `media_root` is where their media paths count from."""
    media_root: str
    missing: str
    """Text: the media that are not there, a path below the root a line."""
    rejected: str
    """JSON Lines: `{file, where, reason, message}` of each broken row."""
    num_rows: int
    """Rows in the manifest."""
    rows_by_task: Mapping[str, int]
    num_media: int
    """Different media that the rows name."""
    num_missing: int
    num_extracted: int
    """Media written out of annotation files."""
    files: tuple[FileResult, ...]
    absent: tuple[str, ...]
    """Names of optional annotation files that are not there."""

    @property
    def num_rejected(self) -> int:
        """Broken rows of all files."""
        return sum(file.num_rejected for file in self.files)


def ingest_dataset(
    dataset: str | Path,
    *,
    root: str | Path,
    out: str | Path,
    only: Collection[str] = (),
    extract_media: bool = False,
    progressed: Callable[[int], None] | None = None,
) -> IngestResult:
    """Write the manifest of a public dataset, and beside it what is missing or broken.

    Rows are read and written one at a time; what is held does not grow with their number but for
    some 100 bytes of each different media. The manifest appears when all is done, or not at all.
    The same files give the same bytes.

    Args:
        dataset: a name in `manifests/datasets/`, or the path of such a YAML file.
        root: the folder or prefix with the dataset's annotation files and media.
        out: the manifest to write, `NAME.jsonl`; `NAME.missing.txt` and `NAME.rejected.jsonl` are
            written beside it.
        only: names of `DatasetRecord.files`; none: all that are there.
        extract_media: where media stand inside annotation files (FineVideo, LLaVA-OneVision), write
            those that are not there as files below the root.
        progressed: hears the number of rows read, every 10,000.

    Raises:
        UserError: the dataset is unknown; annotation files are missing, with what to download from
            where; one cannot be read as its layout; the manifest cannot be written.
    """
    record = load_record(dataset)
    folder, target = open_folder(root), _target(out)
    if not folder.is_remote and not Path(folder.uri).is_dir():
        raise UserError(f"--root {root}: no such folder.")
    found = find_files(record, folder, only)
    media = MediaFinder(folder)
    results: list[FileResult] = []
    tasks: Counter[str] = Counter()
    with ExitStack() as stack:
        manifest, missing, rejected = (
            stack.enter_context(target.folder.write(name)) for name in _names(target)
        )
        writer = _Writer(manifest, missing, rejected, media, tasks, extract_media, progressed)
        results += [writer.ingest(entry) for entry in found.entries]
        num_rows, num_missing = writer.num_rows, writer.num_missing
    paths = [target.folder.where(name) for name in _names(target)]
    return IngestResult(
        dataset=record.name,
        manifest=paths[0],
        missing=paths[1],
        rejected=paths[2],
        media_root=folder.uri,
        num_rows=num_rows,
        rows_by_task=dict(sorted(tasks.items())),
        num_media=media.num_media,
        num_missing=num_missing,
        num_extracted=media.num_extracted,
        files=tuple(results),
        absent=found.absent,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry of a record's files, with the files that are there."""

    name: str
    file: AnnotationFile
    paths: tuple[tuple[str, AnyFile], ...]
    """(path below the root, file), in order."""
    companion: AnyFile | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundFiles:
    """The annotation files of a dataset that are there, and optional ones that are not."""

    entries: tuple[Entry, ...]
    absent: tuple[str, ...]


def find_files(record: DatasetRecord, root: Folder, only: Collection[str] = ()) -> FoundFiles:
    """Find the annotation files of a dataset.

    Raises:
        UserError: one that is required, or was asked for, is not there; with what to download from
            where; or there is none at all.
    """
    for name in only:
        if name not in record.files:
            raise unknown_name(f"file of dataset {record.name!r}", name, record.files)
    entries: list[Entry] = []
    absent, lacking = [], []
    locator = FileLocator(root)
    for name, file in record.files.items():
        if only and name not in only:
            continue
        paths = locator.annotations(file, {path for entry in entries for path, _ in entry.paths})
        companion = locator.companion(file, paths[0][0]) if paths and file.companion else None
        if paths and (companion or not file.companion):
            entries.append(
                Entry(
                    name=name,
                    file=file,
                    paths=paths,
                    companion=companion,
                )
            )
        elif file.required or name in only:
            lacks = [file.path] * (not paths) + [file.companion] * (bool(paths))
            lacking.append((name, lacks or [file.path], file))
        else:
            absent.append(name)
    if lacking or not entries:
        wanted = lacking or [(name, [file.path], file) for name, file in record.files.items()]
        lines = [
            f"  {', '.join(paths)} ({name}): {file.download.how} From: {file.download.url}"
            for name, paths, file in wanted
        ]
        raise UserError(
            f"{record.name}: these annotation files are not below {root}:\n" + "\n".join(lines)
        )
    return FoundFiles(entries=tuple(entries), absent=tuple(absent))


def _target(out: str | Path) -> File:
    found = find_file(out)
    if found.suffix != _SUFFIX:
        raise UserError(
            f"--out {out}: the manifest is JSON Lines; give it a name that ends in {_SUFFIX}."
        )
    return found if isinstance(found, File) else open_folder(found.parent).file(found.name)


def _names(target: File) -> tuple[str, str, str]:
    """Name what is written; the manifest first, so that it is finished last."""
    return target.name, f"{target.stem}.missing.txt", f"{target.stem}.rejected.jsonl"


@dataclass(slots=True)
class _Writer:
    """Turns rows into rows; counts what becomes of them."""

    manifest: BinaryIO
    missing: BinaryIO
    rejected: BinaryIO
    media: MediaFinder
    tasks: Counter[str]
    extract_media: bool
    progressed: Callable[[int], None] | None
    num_read: int = 0
    num_rows: int = 0
    num_missing: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    num_rejected: int = 0

    def ingest(self, entry: Entry) -> FileResult:
        """Write all rows of an entry.

        Raises:
            UserError: a file cannot be read as its layout.
        """
        layout: AnnotationLayout = ANNOTATION_LAYOUTS.load(entry.file.layout)
        companion: Mapping[str, Any] = {}
        if entry.companion is not None:
            companion = read_companion(entry.companion, layout.companion)
        before = (self.num_read, self.num_rows, self.num_rejected)
        self.skipped = Counter()
        for path, file in entry.paths:
            folder = "" if "/" not in path else str(PurePosixPath(path).parent)
            for row in read_rows(file, layout, with_media=self.extract_media):
                self._row(row, path, folder, entry.file, layout, companion)
        return FileResult(
            name=entry.name,
            paths=tuple(path for path, _ in entry.paths),
            num_read=self.num_read - before[0],
            num_written=self.num_rows - before[1],
            num_rejected=self.num_rejected - before[2],
            skipped=dict(sorted(self.skipped.items())),
            expected=entry.file.expected.rows,
            expected_source=entry.file.expected.source,
        )

    def _row(
        self,
        row: ReadRow,
        path: str,
        folder: str,
        file: AnnotationFile,
        layout: AnnotationLayout,
        companion: Mapping[str, Any],
    ) -> None:
        self.num_read += 1
        if self.progressed is not None and self.num_read % 10_000 == 0:
            self.progressed(self.num_read)
        try:
            if row.problem:
                raise RowError(row.problem)
            source = SourceRow(
                fields=row.fields,
                key=row.key,
                companion=companion,
                split=file.split,
                prompt=file.prompt,
            )
            rows = [self._finished(found, file, folder) for found in layout.convert(source)]
        except SkippedRow as skip:
            self.skipped[str(skip)] += 1
            return
        except RowError as error:
            self._reject(path, row.where, error)
            return
        for data, names, task in rows:
            if row.media is not None and names:
                self.media.extract(names[0], row.media)
            for name in names:
                if self.media.is_newly_missing(name):
                    self.missing.write(name.encode() + b"\n")
                    self.num_missing += 1
            self.manifest.write(data + b"\n")
            self.num_rows += 1
            self.tasks[task] += 1

    def _finished(
        self, found: Annotation | LlavaRow, file: AnnotationFile, folder: str
    ) -> tuple[bytes, list[str], str]:
        """Return a row's bytes, the media that it names, and its task.

        Raises:
            RowError: its media may not be opened, or it holds what JSON does not have.
        """
        if isinstance(found, Annotation):
            if found.media:
                found = replace(found, media=self.media.name(file, folder, found.media))
            names = [found.media] if found.media else []
        else:
            found, names = self._ordered(found, file, folder)
        row = manifest_row(found, file.task)
        try:
            data = row_json(row)
        except (TypeError, ValueError) as error:
            raise RowError(f"the row cannot be written as JSON: {error}") from error
        pairs = question_answer_pairs(read_turns(row))
        task = file.task or classify_conversation(pairs).task.value
        return data, names, task

    def _ordered(
        self, found: LlavaRow, file: AnnotationFile, folder: str
    ) -> tuple[LlavaRow, list[str]]:
        """Rewrite a row to name its media by their paths below the root."""
        fields, names = dict(found.fields), []
        for column in (*VIDEO_COLUMNS, *IMAGE_COLUMNS):
            value = fields.get(column)
            values: Sequence[object] = value if isinstance(value, list) else [value]
            ordered = [
                self.media.name(file, folder, held)
                for held in values
                if isinstance(held, str) and held
            ]
            if ordered:
                fields[column] = ordered if isinstance(value, list) else ordered[0]
                names += ordered
        return LlavaRow(fields=fields), names

    def _reject(self, path: str, where: str, error: RowError) -> None:
        self.num_rejected += 1
        told = {
            "file": path,
            "where": where,
            "reason": error.reason.value,
            "message": str(error)[:_MESSAGE_CHARS],
        }
        self.rejected.write(json.dumps(told, ensure_ascii=True).encode() + b"\n")
