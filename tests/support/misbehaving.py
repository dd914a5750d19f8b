"""Offer the decoder, sampler and encoder of `misbehaving/` to this process and all it starts."""

import os
from pathlib import Path

import pytest

MODULE_FOLDER = Path(__file__).with_name("misbehaving_plugins")
ENTRY_POINTS = """\
[vxp_data.decoders]
misbehaving = misbehaving_decoder:MisbehavingDecoder
[vxp_data.frame_samplers]
misbehaving = misbehaving_sampler:sample
[vxp_data.encoders]
misbehaving = misbehaving_encoder:MisbehavingEncoder
"""
MARKS = "VXP_TEST_MARKS"
"""Environment variable: folder where what happens once only leaves its mark."""


def offer_misbehaving(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Register all that is called 'misbehaving' as a third party does: by installed entry points.

    Args:
        folder: an empty one, which takes the package's metadata and the marks.
        monkeypatch: takes all back; a process that Ray has already started does not see it.
    """
    metadata = folder / "misbehaving-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: misbehaving\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(ENTRY_POINTS)
    (folder / "marks").mkdir()
    monkeypatch.setenv(MARKS, str(folder / "marks"))
    paths = [str(folder), str(MODULE_FOLDER), str(MODULE_FOLDER.parents[1])]
    inherited = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([*paths, *([inherited] if inherited else [])]))
    for path in paths:
        monkeypatch.syspath_prepend(path)
