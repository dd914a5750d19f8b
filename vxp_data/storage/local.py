"""Local files that are either there whole or not at all."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from vxp_data.errors import UserError

_UNFINISHED: Final = re.compile(r"\..+\.[0-9a-f]{8}\.part")
_ERRNO: Final = re.compile(r"Detail: \[errno ([0-9]+)\]")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Return a path beside `path` to write to; rename it over `path` when the block ends well.

    Raises:
        UserError: the folder cannot be written to, or the disk is full.
    """
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        raise cannot_write(str(path), error) from error
    finally:
        with suppress(OSError):  # where nothing can be written, nothing is there
            beside.unlink()


def create_file(path: Path, data: bytes) -> bool:
    """Write a small file unless there is one; whoever sees it sees all of it.

    Returns:
        Whether it was written.

    Raises:
        OSError: the folder cannot be written to, or the disk is full.
    """
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with beside.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        try:
            path.hardlink_to(beside)
        except FileExistsError:
            return False
        except OSError:  # a file system without links
            return _create_in_place(path, data)
    finally:
        beside.unlink(missing_ok=True)
    return True


def remove_unfinished(folder: Path) -> None:
    """Remove the files that `whole_file` and `create_file` had begun when they were killed.

    A writer that still lives loses its file, and fails.

    Raises:
        UserError: the folder cannot be listed or written to.
    """
    try:
        for path in folder.iterdir() if folder.is_dir() else ():
            if _UNFINISHED.fullmatch(path.name):
                path.unlink(missing_ok=True)
    except OSError as error:
        raise cannot_write(str(folder), error) from error


def _create_in_place(path: Path, data: bytes) -> bool:
    try:
        with path.open("xb") as file:
            file.write(data)
    except FileExistsError:
        return False
    return True


def cannot_write(where: str, error: OSError) -> UserError:
    """Build the error for a file that cannot be written where it should lie."""
    return UserError(
        f"cannot write {where}: {_words(error)}. What was written before is whole; "
        "make room or choose another --out, then run the same command again."
    )


def _words(error: OSError) -> str:
    """Return the system's own words, also where Arrow has wrapped them."""
    wrapped = _ERRNO.search(str(error))
    return os.strerror(int(wrapped[1])) if wrapped else error.strerror or str(error)


def local_file_version(path: str) -> str:
    """Return a file's size and modification time as one text; '' where it is not there."""
    try:
        status = Path(path).stat()
    except OSError:
        return ""
    return f"{status.st_size}-{status.st_mtime_ns}"
