"""Whether there is a CUDA device: as torch says it, and without torch."""

import subprocess
import sys
from pathlib import Path

import pytest

from support.repo import ROOT


def child(code: str, *folders: Path) -> list[str]:
    """Run code in a fresh process that finds modules in these folders first; return its lines."""
    path = ":".join(str(folder) for folder in (*folders, ROOT))
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, check=True, env={"PYTHONPATH": path},
    )  # fmt: skip
    return done.stdout.splitlines()


def test_torch_says_the_same() -> None:
    told, without_torch, torch_says = child(
        "import sys\n"
        "from vxp_data.cuda import has_cuda\n"
        "print(has_cuda())\n"
        "print('torch' not in sys.modules)\n"
        "import torch\n"
        "print(torch.cuda.is_available())"
    )
    assert told == torch_says
    assert without_torch == "True"


ASK = """
import ctypes, sys

class Driver:
    def cuInit(self, flags):
        return {init}
    def cuDriverGetVersion(self, version):
        version._obj.value = {version}
        return 0
    def cuDeviceGetCount(self, count):
        count._obj.value = {count}
        return {init}

def load(name):
    assert name == 'libcuda.so.1'
    if {version} == 0:
        raise OSError('no such library')
    return Driver()

ctypes.CDLL = load
from vxp_data.cuda import has_cuda
print(has_cuda(), 'torch' in sys.modules)
"""


@pytest.mark.parametrize(
    ("build", "driver", "told"),
    [
        ({"cuda": "13.2", "hip": None}, {"init": 0, "version": 13020, "count": 2}, "True False"),
        # minor versions of a major one run on each other's drivers
        ({"cuda": "13.2", "hip": None}, {"init": 0, "version": 13000, "count": 1}, "True False"),
        ({"cuda": "12.8", "hip": None}, {"init": 0, "version": 13000, "count": 1}, "True False"),
        ({"cuda": "13.2", "hip": None}, {"init": 0, "version": 12080, "count": 1}, "False False"),
        ({"cuda": "13.2", "hip": None}, {"init": 0, "version": 13020, "count": 0}, "False False"),
        # 100: no device, as with CUDA_VISIBLE_DEVICES=''
        ({"cuda": "13.2", "hip": None}, {"init": 100, "version": 13020, "count": 1}, "False False"),
        ({"cuda": "13.2", "hip": None}, {"init": 0, "version": 0, "count": 0}, "False False"),
        ({"cuda": None, "hip": None}, {"init": 0, "version": 13020, "count": 1}, "False False"),
        ({"cuda": None, "hip": "7.1"}, {"init": 0, "version": 0, "count": 0}, "torch's True"),
        (None, {"init": 0, "version": 13020, "count": 1}, "torch's True"),
    ],
)
def test_it_is_told_by_the_build_and_the_driver(
    tmp_path: Path, build: dict[str, str | None] | None, driver: dict[str, int], told: str
) -> None:
    package = tmp_path / "torch"
    package.mkdir()
    (package / "__init__.py").write_text(
        'class cuda:\n    @staticmethod\n    def is_available():\n        return "torch\'s"'
    )
    if build is not None:
        (package / "version.py").write_text("".join(f"{k} = {v!r}\n" for k, v in build.items()))
    assert child(ASK.format(**driver), tmp_path) == [told]


@pytest.mark.parametrize(
    ("visible", "names"),
    [(None, ["0", "1", "2"]), ("3,GPU-7a, 5", ["3", "GPU-7a", "5"]), ("4,5,6,7", ["4", "5", "6"])],
)
def test_devices_have_the_names_by_which_one_can_be_chosen(
    tmp_path: Path, visible: str | None, names: list[str]
) -> None:
    package = tmp_path / "torch"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "version.py").write_text("cuda = '13.2'\nhip = None\n")
    chosen = (
        "" if visible is None else f"import os\nos.environ['CUDA_VISIBLE_DEVICES'] = {visible!r}\n"
    )
    code = chosen + ASK.format(init=0, version=13020, count=3)
    code += "from vxp_data.cuda import visible_devices\nprint(visible_devices())"
    assert child(code, tmp_path)[-1] == repr(names)


def test_without_torch_there_is_none() -> None:
    code = "import sys\nsys.modules['torch'] = None\n" + ASK
    assert child(code.format(init=0, version=13020, count=1)) == ["False True"]
