"""A data recipe: the settings of `vxp-data prune`, `sample` and `shard`, what goes in, where to.

`vxp-data run RECIPE` does it all; see `pipeline.recipe_run`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Self

from pydantic import Field, model_validator

from vxp_data.settings.file import Loaded, Settings, SettingsFile, read_recipe
from vxp_data.settings.prune import FREE_MAPS, ExpectConfig, LoadedConfig, PruneConfig


class SourceConfig(Settings):
    """A public dataset, as `vxp-data ingest` takes it."""

    dataset: str
    """A name in manifests/datasets, or the path of such a YAML file."""
    root: str
    """Folder or prefix with its annotation files and media."""
    only: tuple[str, ...] = ()
    """Some of its annotation files; none given: all that are there."""


class IngestConfig(Settings):
    """What goes in. Paths count from where the command is run."""

    manifests: tuple[str, ...] = ()
    """As `vxp-data prune` takes them: files, folders of videos, YAML mixtures, URIs of stores."""
    media_root: str | None = None
    """Where relative media paths count from; None: each manifest's own folder."""
    format: str | None = None
    """Format of all manifests, as `--format`; None: told by each one's suffix and content."""
    datasets: tuple[SourceConfig, ...] = ()
    """Public datasets; their manifests are written to `manifests/` in the recipe's folder. Their
    rows name their task: `tasks.field: task`."""
    mixture: str | None = None
    """A mixture of public datasets (and of others): a file, or a name in manifests/mixtures."""
    root: str | None = None
    """Where the mixture's paths count from; None: its own folder, for a name where the command is
    run."""
    extract_media: bool = False
    """Write media that stand inside annotation files below their dataset's root."""

    @model_validator(mode="after")
    def _something_goes_in(self) -> Self:
        if not self.manifests and not self.datasets and self.mixture is None:
            raise ValueError("ingest has no manifests, no datasets and no mixture; name some")
        for name, value in (("media_root", self.media_root), ("format", self.format)):
            if value is not None and not self.manifests:
                raise ValueError(f"ingest.{name} is of ingest.manifests, of which there are none")
        if self.root is not None and self.mixture is None:
            raise ValueError("ingest.root is of ingest.mixture, which is not given")
        return self


class DataExpectConfig(ExpectConfig):
    """What the whole must give; exit code 3 and the differences where it does not."""

    num_samples: int | None = None
    """Rows in shards, exactly."""
    num_clips: int | None = None
    """Clips in shards, exactly."""
    num_shards: int | None = None
    """Shards of all kinds, exactly."""
    num_frames: int | None = None
    """Planned frames of the first stored epoch, exactly."""
    num_bytes: int | None = None
    """Of all shards, exactly: the same videos and versions give the same bytes."""
    rows: dict[str, int] | None = None
    """Rows in shards by dataset, exactly."""
    clips_per_s_min: float | None = None
    """A floor for writing shards, where all of them were written."""


class DataRecipe(PruneConfig):
    """All of it; the sections of a prune recipe stand beside these."""

    ingest: IngestConfig
    """What goes in."""
    out: str = Field(min_length=1)
    """Folder or URI of what comes out: `run/`, `shards/`, and `recipe.json`, which tells the steps
    that are done."""
    expect: DataExpectConfig | None = None
    """What the whole must give."""


DATA_RECIPES: Final = SettingsFile(DataRecipe, free_maps=FREE_MAPS, example="frames.num_frames=8")
_OWN: Final = frozenset(DataRecipe.model_fields) - frozenset(PruneConfig.model_fields)


def load_data_recipe(
    path: Path, overrides: Sequence[tuple[str, str, Any]] = ()
) -> Loaded[DataRecipe]:
    """Read a data recipe and lay the command line over it; see `recipes.load_config`.

    Raises:
        UserError: a file that is not a YAML mapping; an unknown key, with the nearest known one; a
            value out of its range, or missing.
    """
    return DATA_RECIPES.read(read_recipe(path), str(path), overrides)


def is_data_recipe(path: Path) -> bool:
    """Whether this is a data recipe, not one of `prune` alone: it says what goes in.

    Raises:
        UserError: a file that is not a YAML mapping.
    """
    return "ingest" in read_recipe(path)


def prune_settings(loaded: Loaded[DataRecipe]) -> LoadedConfig:
    """Return the part of a data recipe that a run directory keeps.

    Without `expect`: the whole is held against it, at its end.
    """
    left_out = _OWN | {"expect"}
    tree = loaded.config.model_dump(mode="json", exclude=set(left_out))
    return Loaded(
        config=PruneConfig.model_validate(tree),
        origins=tuple(o for o in loaded.origins if o.key.partition(".")[0] not in left_out),
    )
