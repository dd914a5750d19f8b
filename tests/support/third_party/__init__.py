"""A small package of somebody else's, and how a test installs it."""

from pathlib import Path

import pytest

from support.distributions import install, offer

FOLDER = Path(__file__).parent


def install_third_party(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install `acme_curation` for this process and all it starts.

    Args:
        folder: an empty one, which takes the package's metadata.
        monkeypatch: takes it back.
    """
    entry_points = (FOLDER / "entry_points.txt").read_text(encoding="utf-8")
    offer(monkeypatch, install(folder, "acme_curation", entry_points), FOLDER)
