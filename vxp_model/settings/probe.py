"""Settings of a probe: how well frozen features tell classes apart."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field

from vxp_data.settings.file import Settings, SettingsFile
from vxp_model.settings.recot import TowerSettings


class LabelledSettings(Settings):
    """What is classified."""

    train: str
    """A folder or tar of images or videos in one folder a class; a tar with `<key>.cls` beside
    each; or `datasets:NAME[:SPLIT]`, a set of the datasets library or its folder on the disk."""
    test: str | None = None
    """The same; None: `test_share` of `train` is held back."""
    test_share: float = Field(0.2, gt=0, lt=1)
    """Of each class, at least one media."""
    media_column: str | None = None
    """Of a `datasets` set; None: 'video' or 'image'."""
    label_column: str = "label"
    """Of a `datasets` set."""
    num_frames: int = Field(16, ge=1)
    """Of a video, at equal distances; a shorter one repeats its last."""
    max_per_class: int | None = Field(None, ge=1)
    """Media of a class that are used, drawn by the seed; None: all."""


class MlpSettings(Settings):
    """The two-layer classifier."""

    hidden: int = Field(512, ge=1)
    """Width of the layer between."""
    epochs: int = Field(50, ge=1)
    batch: int = Field(256, ge=1)
    """Media of a step."""
    lr: float = Field(1e-3, gt=0)
    """Of AdamW; a cosine to 0."""
    weight_decay: float = Field(0.05, ge=0)


class ProbeRecipe(Settings):
    """All of it."""

    preset: str = "3b"
    """Shape of the tower: a name in models.presets."""
    tower: TowerSettings = TowerSettings()
    models: tuple[str, ...] = ()
    """Folders that `vxp-model recot` wrote, of any temporal factor; beside the tower alone."""
    data: LabelledSettings
    cells: int = Field(1, ge=1)
    """Tokens are averaged in so many cells a side, each for itself; 1: over the whole grid."""
    over_time: Literal["mean", "all"] = "mean"
    """Average over frames, or groups of frames; or put them one after another."""
    mask_ratio: float = Field(0.5, gt=0, lt=1)
    """Share of tokens hidden, at random, where the reconstruction is measured."""
    mlp: MlpSettings = MlpSettings()
    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1)
    """A classifier is trained with each."""
    seed: int = 0
    """Of the split, the masks and a random tower: of that one, the training's `run.seed`."""
    batch_media: int = Field(16, ge=1)
    """Media that are run at once."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    out: str = "runs/probe"
    """Directory for probe.json."""


PROBE_RECIPES: Final = SettingsFile(ProbeRecipe, example="mlp.epochs=100")
