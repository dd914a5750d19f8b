"""Offer the decoder, sampler and encoder of `misbehaving/` to this process and all it starts."""

from pathlib import Path

import pytest

from support.distributions import install, offer

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
    install(folder, "misbehaving", ENTRY_POINTS)
    (folder / "marks").mkdir()
    monkeypatch.setenv(MARKS, str(folder / "marks"))
    offer(monkeypatch, folder, MODULE_FOLDER, MODULE_FOLDER.parents[1])
