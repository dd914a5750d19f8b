"""The installed commands, run as a user does."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

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


def vxp_data_here(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command in this process: for what needs no process of its own, a tenth of the time.

    An error that the command does not turn into a message is raised.
    """
    from vxp_data.cli import main

    words = [VXP_DATA, *map(str, arguments)]
    out, err = io.StringIO(), io.StringIO()
    status: object = 0
    with (
        patch.object(sys, "argv", words),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as ended:
            status = ended.code or 0
    assert isinstance(status, int), status
    return subprocess.CompletedProcess(words, status, out.getvalue(), err.getvalue())
