"""Figures are drawn wherever the program runs."""

from __future__ import annotations

import os
import subprocess
import sys

DRAW = """
import io
from vxp_data.report.figures import new_figure
file = io.BytesIO()
new_figure(figsize=(1, 1)).savefig(file, format="png")
print(file.getvalue()[:4])
"""


def test_a_figure_needs_no_home_folder_and_says_nothing_of_it():
    env = {**os.environ, "HOME": "/proc/1/nowhere"}
    for name in ("MPLCONFIGDIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
        env.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-c", DRAW], capture_output=True, text=True, env=env, check=True
    )
    assert (done.stdout, done.stderr) == ("b'\\x89PNG'\n", "")
