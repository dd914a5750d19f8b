"""Published answers with published scores, which lie beside the repository or nowhere."""

import gzip
import json
import os
from pathlib import Path

import pytest


def published_folder() -> Path:
    """The folder of VXP_EVAL_TRUTH, or 'eval-truth' beside that of VXP_CORPUS; skips without."""
    named = os.environ.get("VXP_EVAL_TRUTH")
    corpus = os.environ.get("VXP_CORPUS")
    folder = Path(named) if named else Path(corpus).parent / "eval-truth" if corpus else None
    if folder is None or not folder.is_dir():
        pytest.skip("VXP_EVAL_TRUTH is not set")
    return folder


def published(prefix: str) -> list[tuple[dict, list[dict]]]:
    """Every file whose name begins so: what is expected of it, and its rows."""
    folder = published_folder()
    entries = json.loads((folder / "expected.json").read_text())
    found = []
    for entry in entries:
        if entry["file"].startswith(prefix):
            with gzip.open(folder / entry["file"], "rt", encoding="utf-8") as file:
                found.append((entry, [json.loads(line) for line in file]))
    assert found
    return found
