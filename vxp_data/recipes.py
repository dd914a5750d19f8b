"""Recipes of the data commands: `vxp_data.config.PruneConfig` from YAML and the command line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, Final

from vxp_data.config import PruneConfig
from vxp_data.settings_file import Loaded, SettingsFile, read_yaml

LoadedConfig = Loaded[PruneConfig]

FREE_MAPS: Final = (
    "thresholds", "budget_weights", "filters", "tasks.map", "expect.quarantined"
)  # fmt: skip
"""Sections whose keys the user chooses."""

_FILE: Final = SettingsFile(PruneConfig, free_maps=FREE_MAPS, example="frames.num_frames=8")


def load_config(
    recipe: Path | None,
    overrides: Sequence[tuple[str, str, Any]] = (),
    run_settings: Mapping[str, Any] | None = None,
) -> LoadedConfig:
    """Read a recipe and lay the command line over it.

    Args:
        recipe: a YAML file, or None for the defaults.
        overrides: (dotted key, value, origin), later ones win.
        run_settings: instead of a recipe, the settings that a finished run has in its run.json.

    Raises:
        UserError: a file that is not a YAML mapping; an unknown key, with the nearest known one; a
            value out of its range.
    """
    if run_settings is not None:
        return _FILE.read(deepcopy(dict(run_settings)), "run.json", overrides)
    return _FILE.read({} if recipe is None else read_yaml(recipe), str(recipe), overrides)


def parse_set(text: str) -> tuple[str, Any, str]:
    """Read one `--set a.b=c`; see `SettingsFile.parse_set`."""
    return _FILE.parse_set(text)


def known_keys() -> Iterator[str]:
    """Give every dotted key that a recipe may set."""
    return _FILE.known_keys()
