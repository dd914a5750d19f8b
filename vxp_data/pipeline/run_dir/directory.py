"""Where everything of a run lies, and what a run directory promises.

It lies on a disk or in an object store. `run.json` is written last: a directory without one holds a
run that has not ended. Embeddings parts are whole files with the rows of a few clips each; they are
never changed, only added. `lock.json` keeps a second run out; see `run_lock`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import pyarrow as pa
import pyarrow.parquet as pq

from vxp_data.errors import UserError
from vxp_data.pipeline.run_dir.read_ahead import each_file
from vxp_data.schemas import RUN_FORMAT_VERSION, UPGRADED_FORMAT_VERSIONS
from vxp_data.storage.folder import File, Folder, open_folder
from vxp_data.storage.local import cannot_write

_PARTS: Final = "embeddings"
_THUMBNAILS: Final = "thumbnails"
_PART_INDEX: Final = "part_index"
_CHANGING: Final = "changing"
"""Key of run.json: the command that is changing the run, or was when it was stopped."""


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """Names of a run's files, and how they are read and written."""

    root: Folder

    @property
    def samples(self) -> File:
        """All input rows, one a row, in order."""
        return self.root.file("samples.parquet")

    @property
    def media(self) -> File:
        """Facts about each clip's file, and how its frames were got."""
        return self.root.file("media.parquet")

    @property
    def parts(self) -> Folder:
        """Folder of the embeddings parts."""
        return self.root.child(_PARTS)

    @property
    def thumbnails(self) -> Folder:
        """Folder of the contact sheets' parts, each named as the embeddings part of its clips."""
        return self.root.child(_THUMBNAILS)

    @property
    def part_index(self) -> Folder:
        """Folder of the index of the parts; see `part_index`."""
        return self.root.child(_PART_INDEX)

    @property
    def scores(self) -> File:
        """One row a clip, one column a measure."""
        return self.root.file("scores.parquet")

    @property
    def row_scores(self) -> File:
        """One row a sample of several videos, one column a measure; only where there are any."""
        return self.root.file("row_scores.parquet")

    @property
    def means(self) -> File:
        """One row a clip: the mean of its frames' embeddings; what clips are compared by."""
        return self.root.file("means.parquet")

    @property
    def selection(self) -> File:
        """One row a sample that a selector put in order; only where one did."""
        return self.root.file("selection.parquet")

    def outside_scores(self, sha256: str) -> File:
        """Scores that a user has brought, by the digest of the file that they came in."""
        return self.root.file(f"outside_scores-{sha256}.parquet")

    @property
    def decisions(self) -> File:
        """One row a sample: keep, prune, duplicate or quarantine, and why."""
        return self.root.file("decisions.parquet")

    @property
    def duplicates(self) -> File:
        """One row a clip that is a duplicate; only where they were looked for."""
        return self.root.file("duplicates.parquet")

    @property
    def filter_values(self) -> File:
        """One row a sample, one column a filter: what was measured; only where there are any."""
        return self.root.file("filter_values.parquet")

    @property
    def similarities(self) -> File:
        """How well captions fit their images, by pair; only where a filter has asked for it."""
        return self.root.file("image_text_similarity.parquet")

    @property
    def quarantine(self) -> File:
        """The rows that could not be used, with reason and message."""
        return self.root.file("quarantine.parquet")

    @property
    def plans(self) -> File:
        """One row a kept sample and epoch: which frames training sees; by `vxp-data sample`."""
        return self.root.file("plans.parquet")

    @property
    def sampling_figure(self) -> File:
        """How many frames the plans have, drawn."""
        return self.root.file("sampling.png")

    @property
    def report(self) -> File:
        """The run on one page; by `vxp-data report`."""
        return self.root.file("report.html")

    @property
    def run_json(self) -> File:
        """Settings, inputs, versions, counts and timings; written last."""
        return self.root.file("run.json")

    def part_files(self) -> list[File]:
        """Return the embeddings parts, by name.

        Raises:
            UserError: the run directory cannot be listed.
        """
        return _parts_in(self.parts)

    def thumbnail_files(self) -> list[File]:
        """Return the contact sheets' parts, by name; none where no sheets were kept."""
        return _parts_in(self.thumbnails)

    def index_files(self) -> list[File]:
        """Return the files of the parts' index, by name."""
        return _parts_in(self.part_index, "index-")

    def read_run(self, *, stopped: bool = False) -> dict[str, Any]:
        """Read run.json.

        Args:
            stopped: give it also where a command was stopped while it changed the run: for those
                commands that write anew what it left half-done.

        Raises:
            UserError: it is not there, or of another format version, or the run is half-changed.
        """
        run = self.read_json()
        self._check_format(run)
        command = run.pop(_CHANGING, None)
        if command is not None and not stopped:
            raise UserError(
                f"{self.root} holds no finished run: `{command}` was stopped in it. Run that "
                f"command again, or `vxp-data decide {self.root}` to go back to its old settings."
            )
        return run

    def read_json(self) -> dict[str, Any]:
        """Read run.json, of whatever format.

        Raises:
            UserError: it is not there, or cannot be read.
        """
        try:
            run: dict[str, Any] = json.loads(self.root.read_bytes(self.run_json.name))
        except FileNotFoundError as error:
            raise UserError(
                f"{self.root} holds no finished run: {self.run_json.name} is missing. "
                "Run `vxp-data prune ... --out` on it first, or again if it was stopped."
            ) from error
        except (OSError, ValueError) as error:
            raise UserError(f"{self.run_json} cannot be read: {error}") from error
        return run

    def check_format(self) -> None:
        """Check that a run that has ended here, if one has, is of the format that we write.

        Raises:
            UserError: it is of another, or cannot be read.
        """
        try:
            run = json.loads(self.root.read_bytes(self.run_json.name))
        except (FileNotFoundError, ValueError):  # what is no JSON will be written anew
            return
        except OSError as error:
            raise UserError(f"{self.run_json} cannot be read: {error}") from error
        self._check_format(run)

    def _check_format(self, run: dict[str, Any]) -> None:
        found = run.get("format_version")
        if found == RUN_FORMAT_VERSION:
            return
        told = f"{self.root} is of run format {found}, this version reads {RUN_FORMAT_VERSION}."
        if found in UPGRADED_FORMAT_VERSIONS:
            raise UserError(f"{told} {_run_upgrade(self.root)}")
        raise UserError(f"{told} Prune into a new directory.")

    def write_run(self, run: dict[str, Any]) -> None:
        """Write run.json: the run has ended."""
        text = json.dumps({**run, "format_version": RUN_FORMAT_VERSION}, indent=2) + "\n"
        self.root.write_text(self.run_json.name, text)

    def begin_change(self, run: dict[str, Any], command: str) -> None:
        """Record in run.json that a command changes the run; `write_run` says it is whole again.

        Args:
            run: as `read_run` gives it: what holds until then.
            command: by its name.
        """
        self.write_run({**run, _CHANGING: command})

    def remove_unfinished(self) -> None:
        """Remove half-written files of killed writers; for the holder of the run's lock.

        Raises:
            UserError: the directory cannot be listed or written to.
        """
        for folder in (self.root, self.parts, self.thumbnails, self.part_index):
            folder.remove_unfinished()


def _parts_in(folder: Folder, prefix: str = "part-") -> list[File]:
    try:
        names = folder.names()
    except OSError as error:
        raise cannot_read(str(folder), error) from error
    parts = (name for name in names if name.startswith(prefix) and name.endswith(".parquet"))
    return list(map(folder.file, parts))


def open_run(uri: str | Path) -> RunDirectory:
    """Name a run directory by a path or a URI; whether it exists is not asked.

    Raises:
        UserError: a URI of a kind that we do not speak.
    """
    return RunDirectory(open_folder(uri))


def write_table(file: File, table: pa.Table) -> None:
    """Write one Parquet file, whole."""
    make_folder(file)
    with file.folder.write_path(file.name) as path:
        pq.write_table(table, path, compression="zstd")


def write_batches(file: File, schema: pa.Schema, tables: Iterable[pa.Table]) -> int:
    """Write a Parquet file piece by piece, whole in the end; return the number of rows."""
    num_rows = 0
    make_folder(file)
    with (
        file.folder.write_path(file.name) as path,
        pq.ParquetWriter(path, schema, compression="zstd") as writer,
    ):
        for table in tables:
            writer.write_table(table)
            num_rows += table.num_rows
    return num_rows


def make_folder(file: File) -> None:
    """Make a file's folder, but none above it: a run directory that is gone is not made again."""
    if not file.folder.is_remote:
        try:
            Path(file.folder.uri).mkdir(exist_ok=True)
        except OSError as error:
            raise cannot_write(str(file), error) from error


def read_table(
    file: File, *, columns: Sequence[str] | None = None, filters: Any = None
) -> pa.Table:
    """Read a Parquet file, or some columns and rows of it.

    Raises:
        UserError: it cannot be read.
    """
    try:
        with arrow_source(file) as source:
            wanted = None if columns is None else list(columns)
            return pq.read_table(source, columns=wanted, filters=filters)
    except (OSError, pa.ArrowException) as error:  # Arrow's: it is no Parquet, or cut off
        if isinstance(error, pa.ArrowInvalid) and columns is not None:
            _refuse_older(file, columns)
        raise cannot_read(str(file), error) from error


def _refuse_older(file: File, columns: Sequence[str]) -> None:
    """Refuse a table without some columns, as a stopped run of an older format leaves them.

    Raises:
        UserError: it has not all of them, or cannot be read at all.
    """
    if missing := sorted(set(columns) - set(column_names(file))):
        raise UserError(
            f"{file} has no column {missing[0]!r}: it is of an older run format. "
            f"{_run_upgrade(_run_of(file))}"
        )


def _run_of(file: File) -> str:
    """Return the run directory that a file lies in, at its top or among the parts."""
    above, _, last = file.folder.uri.rpartition("/")
    return above if last in (_PARTS, _THUMBNAILS) else file.folder.uri


def _run_upgrade(run: Folder | str) -> str:
    return f"Run `vxp-data upgrade {run}`: it reads no video again, and loses nothing."


def column_names(file: File) -> list[str]:
    """Return the columns of a Parquet file; see `read_schema`."""
    return list(read_schema(file).names)


def read_schema(file: File) -> pa.Schema:
    """Return the columns of a Parquet file, and what it says of itself.

    Raises:
        UserError: it cannot be read.
    """
    try:
        with arrow_source(file) as source:
            return pq.read_schema(source)
    except (OSError, pa.ArrowException) as error:
        raise cannot_read(str(file), error) from error


def read_batches(file: File, *, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Read some columns of a Parquet file piece by piece.

    Raises:
        UserError: it cannot be read.
    """
    try:
        with arrow_source(file) as source:
            yield from pq.ParquetFile(source).iter_batches(columns=list(columns))
    except (OSError, pa.ArrowException) as error:  # Arrow's: it is no Parquet, or cut off
        raise cannot_read(str(file), error) from error


def read_row_groups(file: File) -> Iterator[pa.Table]:
    """Read a Parquet file in the pieces in which it was written.

    Raises:
        UserError: it cannot be read.
    """
    try:
        with arrow_source(file) as source:
            stored = pq.ParquetFile(source)
            yield from map(stored.read_row_group, range(stored.num_row_groups))
    except (OSError, pa.ArrowException) as error:  # Arrow's: it is no Parquet, or cut off
        raise cannot_read(str(file), error) from error


def arrow_source(file: File) -> BinaryIO | pa.OSFile:
    """Open a file for Arrow's threads.

    A local one without Python: a thread that still holds a Python file when the process ends would
    abort it ("terminate called without an active exception").
    """
    return file.open("rb") if file.folder.is_remote else pa.OSFile(str(file))


def read_tables(
    files: Sequence[File], *, columns: Sequence[str] | None = None
) -> Iterator[pa.Table]:
    """Read many small Parquet files, in order; remote ones several at a time.

    Raises:
        UserError: one cannot be read.
    """

    def read(file: File) -> pa.Table:
        return read_table(file, columns=columns)

    return each_file(read, files)


def cannot_read(where: str, error: Exception) -> UserError:
    """Build the error for a file of a run that cannot be read."""
    return UserError(
        f"cannot read {where}: {getattr(error, 'strerror', None) or error}. "
        "Check that the run directory is whole and readable (`vxp-data verify`), remove what is "
        "damaged, then run the same `vxp-data prune` again."
    )
