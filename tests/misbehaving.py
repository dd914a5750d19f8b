"""Offer the decoder of `misbehaving/` to this process and to every process that it starts."""

import os
from pathlib import Path

import pytest

MODULE_FOLDER = Path(__file__).with_suffix("")
ENTRY_POINT = "[vxp_data.decoders]\nmisbehaving = misbehaving_decoder:MisbehavingDecoder\n"


def offer_decoder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Register the decoder 'misbehaving' as a third party does: by an installed entry point.

    Args:
        folder: an empty one, which takes the package's metadata.
        monkeypatch: takes all back; a process that Ray has already started does not see it.
    """
    metadata = folder / "misbehaving-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: misbehaving\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(ENTRY_POINT)
    paths = [str(folder), str(MODULE_FOLDER)]
    inherited = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([*paths, *([inherited] if inherited else [])]))
    for path in paths:
        monkeypatch.syspath_prepend(path)
