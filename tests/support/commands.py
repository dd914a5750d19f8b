"""The installed commands, run as a user does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

VXP_DATA = str(Path(sys.executable).with_name("vxp-data"))


def vxp_data(*arguments: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Run the installed command."""
    return subprocess.run(
        [VXP_DATA, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env={**os.environ, **more},
    )
