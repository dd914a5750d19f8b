"""What of a long experiment is finished, so that the same command goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


class Finished:
    """Results by name, in a JSON file: each is written as soon as it is there."""

    def __init__(self, path: Path) -> None:
        """Read the file, if there is one."""
        self._path = path
        self._found = json.loads(path.read_text()) if path.is_file() else {}

    def get(self, key: str, compute: Callable[..., T], *given: Any) -> T:
        """Return what the file has, or compute and keep it."""
        if key not in self._found:
            self._found[key] = compute(*given)
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_text(json.dumps(self._found, indent=1))
        value: T = self._found[key]
        return value
