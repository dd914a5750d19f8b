"""Offer decoders that stand in for the one on a GPU, where there is none."""

from pathlib import Path

import pytest

from support import misbehaving
from support.distributions import install, offer

MODULE_FOLDER = Path(__file__).with_name("gpu_stand_in_plugins")
ENTRY_POINTS = """\
[vxp_data.decoders]
nvdec-on-cpu = gpu_stand_ins_decoders:NvdecOnCpu
misbehaving-on-gpu = gpu_stand_ins_decoders:MisbehavingOnGpu
"""


def offer_stand_ins(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Register them as a third party does, for this process and all it starts.

    Args:
        folder: an empty one, for the package's metadata, marks and sockets.
        monkeypatch: takes all back.
    """
    install(folder, "gpu_stand_ins", ENTRY_POINTS)
    (folder / "marks").mkdir()
    monkeypatch.setenv(misbehaving.MARKS, str(folder / "marks"))
    support = MODULE_FOLDER.parents[1]
    offer(monkeypatch, folder, MODULE_FOLDER, misbehaving.MODULE_FOLDER, support)
