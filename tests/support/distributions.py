"""Packages of others, as if pip had installed them: their entry points are found on the path."""

import os
from pathlib import Path

import pytest


def install(folder: Path, name: str, entry_points: str) -> Path:
    """Write what pip leaves of an installed package beside its modules.

    Args:
        folder: goes on the path of whoever shall have the package; its modules lie there too.
        name: of the distribution.
        entry_points: as in entry_points.txt.

    Returns:
        The folder.
    """
    metadata = folder / f"{name}-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(entry_points)
    return folder


def offer(monkeypatch: pytest.MonkeyPatch, *folders: Path) -> None:
    """Put folders on the path of this process and of all it starts."""
    paths = [str(folder) for folder in folders]
    inherited = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([*paths, *([inherited] if inherited else [])]))
    for path in reversed(paths):
        monkeypatch.syspath_prepend(path)
