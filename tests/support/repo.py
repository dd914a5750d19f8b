"""Where the checkout lies."""

from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
PIPELINES: Final = ROOT / "pipelines"
BENCH: Final = PIPELINES / "bench"
