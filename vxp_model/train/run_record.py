"""run.json of a run directory: settings and where each is from, versions, how far the run is."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from vxp_data.settings.file import Loaded
from vxp_model import __version__

RUN_NAME: Final = "run.json"


def versions() -> dict[str, str]:
    """Return the versions that a training depends on."""
    return {
        "vxp": __version__,
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "deepspeed", "transformers")},
    }


def write_run_record(
    loaded: Loaded[Any], out: Path, *, steps_done: int, more: Mapping[str, Any]
) -> None:
    """Write it, whole or not at all.

    Args:
        loaded: the recipe.
        out: the run directory.
        steps_done: of the training.
        more: further facts.
    """
    content = {
        "settings": loaded.config.model_dump(mode="json"),
        "origins": {origin.key: origin.origin for origin in loaded.origins},
        "versions": versions(),
        "steps_done": steps_done,
        **more,
    }
    beside = out / f".{RUN_NAME}.part"
    beside.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    beside.replace(out / RUN_NAME)
