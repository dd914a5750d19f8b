"""What a machine of a test's cluster leaves behind when it first works."""

import os
import time
from pathlib import Path


def mark(stage: str) -> None:
    """Leave the time of this machine's first work at a stage, where somebody wants to know."""
    folder, node = os.environ.get("VXP_TEST_MARKS"), os.environ.get("VXP_TEST_NODE")
    if folder and node:
        path = Path(folder) / f"{node} {stage}"
        try:
            with path.open("x") as file:
                file.write(str(time.time()))
        except FileExistsError:
            pass


def dawdle(stage: str, times: int = 1) -> None:
    """Take as long as the environment says that a piece of work takes."""
    time.sleep(times * float(os.environ.get(f"VXP_TEST_{stage.upper()}_S", "0")))
