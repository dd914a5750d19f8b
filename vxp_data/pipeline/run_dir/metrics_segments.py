"""What is measured while a run embeds: lines of JSON, a segment for each time that it was started.

Nothing else of a run depends on them. A segment on a disk grows line by line; in a store, where
nothing can be appended to, it is put whole, and is closed for another before it is big. Segments
that a stopped run left stay beside those that follow it; once all is embedded, the next to begin
removes them.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from vxp_data.storage.folder import Folder

EMBEDDED: Final = "embedded"
"""State of a last line: nothing is left to embed."""
_SUFFIX: Final = ".jsonl"
_LINES_A_SEGMENT: Final = 200
"""In a store; a line has about 700 bytes."""
_MOST_SEGMENTS: Final = 100


def metrics_folder(root: Folder) -> Folder:
    """Return where the segments of a run lie."""
    return root.child("metrics")


class MetricsSegments:
    """Writes lines.

    Args:
        folder: of the segments; made when needed, in a run directory that is there.

    Raises:
        OSError, UserError: as every method here: it cannot be written to.
    """

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        _clear(folder)
        self._lines: list[str] = []
        self._name = _new_name()
        if not folder.is_remote:
            Path(folder.uri).mkdir(exist_ok=True)

    def write(self, line: Mapping[str, Any]) -> None:
        """Write one more line."""
        text = json.dumps(line, separators=(",", ":"), allow_nan=False) + "\n"
        if not self._folder.is_remote:
            with Path(self._folder.where(self._name)).open("a", encoding="utf-8") as file:
                file.write(text)
            return
        if len(self._lines) == _LINES_A_SEGMENT:
            self._lines, self._name = [], _new_name()
        self._lines.append(text)
        self._folder.write_text(self._name, "".join(self._lines))


def read_last_line(folder: Folder) -> dict[str, Any] | None:
    """Return the last whole line of the latest segment that has one; None where none has.

    Raises:
        OSError: the folder or a segment cannot be read.
    """
    for name in reversed(_segments(folder)):
        with suppress(FileNotFoundError):  # a run that begins has removed it
            for text in reversed(folder.read_bytes(name).split(b"\n")[:-1]):
                with suppress(ValueError):  # a disk that was full
                    line: dict[str, Any] = json.loads(text)
                    return line
    return None


def _segments(folder: Folder) -> list[str]:
    return [name for name in folder.names() if name.endswith(_SUFFIX)]


def _new_name() -> str:
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}-{secrets.token_hex(2)}{_SUFFIX}"


def _clear(folder: Folder) -> None:
    names = _segments(folder)
    last = read_last_line(folder)
    is_over = last is not None and last.get("state") == EMBEDDED
    for name in names if is_over else names[:-_MOST_SEGMENTS]:
        folder.remove(name)
