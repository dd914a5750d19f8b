"""Settings of a prune, every field with its unit and range, read from YAML and the command line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, Final, Literal, Self

from pydantic import Field, field_validator, model_validator

from vxp_data.core.budgets import Target, parse_budget
from vxp_data.core.cost_model import CostModel
from vxp_data.core.dataset_rows import is_cut_by_rows
from vxp_data.core.filters import check_bounds
from vxp_data.core.sampling_plans import SamplingRule
from vxp_data.core.thresholds import parse_keep, parse_threshold
from vxp_data.errors import UserError
from vxp_data.extras import second_decoder
from vxp_data.records import MediaLimits
from vxp_data.registry import AUTO_ENCODER, DECODERS, ENCODERS, FRAME_SAMPLERS, MEASURES
from vxp_data.settings.cluster import ClusterConfig
from vxp_data.settings.columns import check_columns
from vxp_data.settings.curation import (
    BoundsConfig,
    DuplicatesConfig,
    MixtureConfig,
    ScoresConfig,
    SelectionConfig,
    check_selectors,
)
from vxp_data.settings.file import Loaded, Settings, SettingsFile, known_name, read_recipe
from vxp_data.settings.shard import ShardConfig


class TasksConfig(Settings):
    """How a row's task subset is found: a dataset's own task, a field of the row, else rules."""

    field: str | None = None
    """Field of the row that names its task, dots for nesting; None: rules over the conversation."""
    map: dict[str, str] = {}
    """From the field's values to task names; a value not listed is the task's name itself, if it is
    one that is known, and falls to the rules otherwise."""


class ManifestConfig(Settings):
    """How rows are read, and how many of them may be unusable."""

    columns: dict[str, str] = {}
    """Which column of the rows is what, where it has another name than the usual ones: `{video:
    clip.path, question: prompt, answer: gt}`, dots for nesting; '' says that rows have none. See
    settings.columns.COLUMN_KINDS for what there is. Datasets of a mixture may have their own."""
    max_bad_share: float = Field(0.05, ge=0, le=1)
    """Largest share of a manifest's rows that cannot be used (`bad_row`, `forbidden`); beyond it a
    run ends before anything is decoded."""

    @field_validator("columns")
    @classmethod
    def _known_columns(cls, columns: dict[str, str]) -> dict[str, str]:
        try:
            check_columns(columns)
        except UserError as error:
            raise ValueError(str(error)) from error
        return columns


class FramesConfig(Settings):
    """Which frames of a video are embedded."""

    sampler: str = "uniform"
    """A name in registry.FRAME_SAMPLERS."""
    num_frames: int = Field(20, ge=1, le=1000)
    """Frames per video; paper section 3.3: 20."""
    seek: Literal["exact", "keyframe", "auto"] = "exact"
    """'exact': the sampler's frames. 'keyframe': the key frames nearest to them, several times
    cheaper. 'auto': key frames where enough of them lie near enough, else exact."""

    @field_validator("sampler")
    @classmethod
    def _known_sampler(cls, name: str) -> str:
        return known_name(FRAME_SAMPLERS, name)


_LIMITS: Final = MediaLimits()


class DecodeConfig(Settings):
    """How files are decoded."""

    decoder: str = "pyav"
    """A name in registry.DECODERS."""
    fallback: str | None = Field(default_factory=second_decoder)
    """Tried once where the decoder fails on a file that passed the gate; None: no second try.
    'decord', where that is installed."""
    nvdec_gain: float = Field(1.5, ge=0)
    """With a decoder on a GPU: a clip goes there of whose work an NVDEC engine does at least as
    much as so many cores; the others go to cores. 0: all that the card can decode. See
    core.decode_costs; docs/performance.md says which gain balances a machine."""
    timeout_s: float = Field(60.0, gt=0)
    """Wall-clock limit of a probe or decode, seconds; a decode gets 20 ms more for each frame that
    the video has."""
    memory_mib: int = Field(2048, ge=64)
    """What a decode may allocate beyond its libraries, MiB; 8K needs about 1000."""
    max_inexact_share: float | None = Field(None, ge=0, le=1)
    """Greatest share of a clip's frames that may be replaced by the nearest earlier one because
    they could not be decoded; a clip with more is quarantined as `inexact`. None: they are counted
    only, in `frames_exact`. Asked when a clip is decoded; `filters.exact_share` judges clips that
    are decoded already."""
    max_pixels: int = Field(_LIMITS.max_pixels, ge=1)
    """Largest coded image, width x height: 134 megapixels, four times 8K. A file beyond this or
    the next three is quarantined as `too_large`."""
    max_frames: int = Field(_LIMITS.max_frames, ge=1)
    """Most frames of a video: four days at 60 frames a second."""
    max_streams: int = Field(_LIMITS.max_streams, ge=1, le=1000)
    """Most streams of a file, of all kinds."""
    max_duration_s: float = Field(_LIMITS.max_duration_s, gt=0)
    """Longest video, seconds: a week."""

    @field_validator("decoder", "fallback")
    @classmethod
    def _known_decoder(cls, name: str | None) -> str | None:
        return name if name is None else known_name(DECODERS, name)

    def limits(self) -> MediaLimits:
        """Return the limits on a file as the decoders take them."""
        return MediaLimits(
            max_pixels=self.max_pixels,
            max_frames=self.max_frames,
            max_streams=self.max_streams,
            max_duration_s=self.max_duration_s,
        )


class FetchConfig(Settings):
    """How files in object stores are brought to where they are decoded."""

    scratch_dir: str = ""
    """Folder on a disk of the worker's machine for the file being read, which is removed right
    after; '': the system's own for temporary files ($TMPDIR)."""
    max_bytes: int = Field(8 << 30, ge=1 << 20)
    """Most bytes that are fetched of one file; each worker needs as much room, at most. A file of
    which more is needed is quarantined as `too_large`."""
    attempts: int = Field(6, ge=1, le=100)
    """Requests for the same bytes before a file is quarantined as `fetch_failed`; pauses between
    them double from 0.2 s to 10 s."""
    timeout_s: float = Field(30.0, gt=0)
    """A connection that is silent for so long is broken."""


class EncoderConfig(Settings):
    """What turns frames into vectors; see encoders.base.EncoderSettings for the fields."""

    name: str = AUTO_ENCODER
    """A name in registry.ENCODERS; of a family, the prefix and the model: 'timm:resnet50'. 'auto':
    'siglip' if its weights are on this machine, else 'efficientnet_lite0' if that is installed,
    else 'thumbnail'; a run keeps the one that it began with, and records it."""
    model: str = "ViT-SO400M-14-SigLIP-384"
    """open_clip model, for 'siglip'."""
    pretrained: str = "webli"
    """open_clip tag of the model's weights, for 'siglip' and 'open_clip:'."""
    checkpoint: str = ""
    """Local weights. For 'siglip' and 'open_clip:' instead of the hub's: a folder with
    open_clip_config.json, or a weights file of the model. For 'timm:' a weights file, for
    'transformers' a model's folder."""
    weights_sha256: str = Field("", pattern=r"^([0-9a-f]{64})?$")
    """The SHA-256 that the weights file must have, 64 hex digits; '': any will do."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """'auto' takes CUDA where there is a GPU."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """'auto': bf16 on CUDA, fp32 on CPU; fp32 on both for 'efficientnet_lite0'."""
    batch_frames: int = Field(64, ge=1)
    """Frames per forward pass, across videos."""

    @field_validator("name")
    @classmethod
    def _known_encoder(cls, name: str) -> str:
        return name if name == AUTO_ENCODER else known_name(ENCODERS, name)


class ThumbnailsConfig(Settings):
    """Small images of the frames that were embedded, for `vxp-data report`."""

    max_bytes: int = Field(16_384, ge=0)
    """Most bytes of a clip's contact sheet; the usual is 4,000 to 8,000. 0: none are kept. Changes
    no embedding: clips that have embeddings already get no sheet."""


class ExpectConfig(Settings):
    """What a run must give; exit code 3 and the difference where it does not."""

    num_in: int | None = None
    """Input rows, exactly."""
    num_kept: int | None = None
    """Kept rows, exactly."""
    num_pruned: int | None = None
    """Pruned rows, exactly."""
    num_duplicates: int | None = None
    """Rows that are duplicates or in evaluation sets, exactly."""
    num_quarantined: int | None = None
    """Quarantined rows, exactly."""
    quarantined: dict[str, int] | None = None
    """Quarantined rows by reason, exactly."""
    videos_per_s_min: float | None = None
    """A floor, far below the usual; holds for runs that embed something."""


class PruneConfig(Settings):
    """All settings of `vxp-data prune`."""

    tasks: TasksConfig = TasksConfig()
    """Task subsets."""
    manifest: ManifestConfig = ManifestConfig()
    """Rows and their columns."""
    frames: FramesConfig = FramesConfig()
    """Frame sampling."""
    decode: DecodeConfig = DecodeConfig()
    """Decoding."""
    fetch: FetchConfig = FetchConfig()
    """Fetching from object stores."""
    encoder: EncoderConfig = EncoderConfig()
    """Embedding."""
    thumbnails: ThumbnailsConfig = ThumbnailsConfig()
    """Images for the report."""
    measure: str = "mean_pairwise"
    """The similarity measure that decides, a name in registry.MEASURES; all are stored."""
    thresholds: dict[str, str] = {"default": "keep 0.5"}
    """By task, and 'default' for the others: '0.80' a score, 'q0.5' a quantile of the scores,
    'knee' where the scores begin to climb or to level off, 'keep 0.5' a share of the rows, 'keep
    1000' a number of rows, 'keep mixture' of each dataset as many rows as its mixture states,
    'budget frames=2M' what a budget pays for (units: rows, frames, tokens, gpu_hours, videos,
    hours, bytes); the default's budget is one for all subsets together."""
    mixture: MixtureConfig = MixtureConfig()
    """How many rows of each dataset stay, after all else."""
    select: dict[str, str] = {}
    """By task, and 'default' for the others: a name in registry.SELECTORS, which puts rows in the
    order in which they are taken; 'none', or nothing: `measure` does."""
    selection: SelectionConfig = SelectionConfig()
    """How selectors see the rows."""
    scores: ScoresConfig = ScoresConfig()
    """The user's own scores, that `vxp-data decide --scores` puts here."""
    budget_weights: dict[str, float] = {}
    """By task, above 0: in the default's budget, 2 keeps twice the share of this subset."""
    costs: CostModel = CostModel()
    """From frames to tokens and GPU hours, for budgets and `vxp-data plan`."""
    sampling: SamplingRule = SamplingRule()
    """How many frames training sees of a video; `vxp-data sample` and `shard` read this section,
    pruning does not."""
    shard: ShardConfig = ShardConfig()
    """Shards; `vxp-data shard` reads this section, pruning does not."""
    filters: dict[str, BoundsConfig] = {}
    """By a name in registry.FILTERS: what rows must have to stay, before any threshold, e.g.
    `duration_s: {min: 2, max: 180}`; null takes one off again. Where a row is out of several, the
    first gives the reason."""
    duplicates: DuplicatesConfig = DuplicatesConfig()
    """Near-duplicates."""
    cluster: ClusterConfig = ClusterConfig()
    """Where the job runs."""
    expect: ExpectConfig | None = None
    """What the run must give."""

    @field_validator("measure")
    @classmethod
    def _known_measure(cls, name: str) -> str:
        return known_name(MEASURES, name)

    @field_validator("thresholds")
    @classmethod
    def _readable_thresholds(cls, thresholds: dict[str, str]) -> dict[str, str]:
        for task, text in thresholds.items():
            try:
                threshold_spec(text)
            except UserError as error:
                raise ValueError(f"thresholds.{task}: {error}") from error
        return {"default": "keep 0.5"} | thresholds

    @field_validator("filters", mode="before")
    @classmethod
    def _without_null(cls, filters: Any) -> Any:
        if not isinstance(filters, Mapping):
            return filters
        return {name: bounds for name, bounds in filters.items() if bounds is not None}

    @field_validator("filters")
    @classmethod
    def _fitting_filters(cls, filters: dict[str, BoundsConfig]) -> dict[str, BoundsConfig]:
        for name, given in filters.items():
            try:
                check_bounds(name, given.bounds())
            except UserError as error:
                raise ValueError(str(error)) from error
        return filters

    @model_validator(mode="after")
    def _selectors_get_shares(self) -> Self:
        try:
            check_selectors(
                self.select, self.threshold_specs(), self.default_threshold(), self.selection.per
            )
        except UserError as error:
            raise ValueError(str(error)) from error
        return self

    @model_validator(mode="after")
    def _fallback_is_another(self) -> Self:
        if self.decode.fallback == self.decode.decoder:
            raise ValueError(
                f"decode.fallback is {self.decode.fallback!r}, the same as decode.decoder; "
                "name another decoder, or null for none"
            )
        return self

    def threshold_specs(self) -> dict[str, Target]:
        """Return the thresholds by task, without 'default'."""
        return {
            task: threshold_spec(text)
            for task, text in self.thresholds.items()
            if task != "default"
        }

    def has_keep_mixture(self) -> bool:
        """Whether the rows that a mixture states are the threshold of some task."""
        targets = (self.default_threshold(), *self.threshold_specs().values())
        return any(is_cut_by_rows(target) for target in targets)

    def default_threshold(self) -> Target:
        """Return the threshold of every task that has none of its own."""
        return threshold_spec(self.thresholds["default"])


def threshold_spec(text: str) -> Target:
    """Read a threshold as recipes write it: 'keep 0.5', '0.80', 'q0.5', 'budget frames=2M'."""
    if text.startswith("budget "):
        return parse_budget(text.removeprefix("budget ").strip())
    if text.startswith("keep "):
        return parse_keep(text.removeprefix("keep ").strip())
    return parse_threshold(text)


LoadedConfig = Loaded[PruneConfig]

FREE_MAPS: Final = (
    "thresholds", "select", "budget_weights", "filters", "tasks.map", "manifest.columns",
    "expect.quarantined", "expect.rows", "mixture.datasets",
)  # fmt: skip
"""Sections whose keys the user chooses."""

PRUNE_RECIPES: Final = SettingsFile(PruneConfig, free_maps=FREE_MAPS, example="frames.num_frames=8")


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
        return PRUNE_RECIPES.read(deepcopy(dict(run_settings)), "run.json", overrides)
    return PRUNE_RECIPES.read({} if recipe is None else read_recipe(recipe), str(recipe), overrides)


def parse_set(text: str) -> tuple[str, Any, str]:
    """Read one `--set a.b=c`; see `SettingsFile.parse_set`."""
    return PRUNE_RECIPES.parse_set(text)


def known_keys() -> Iterator[str]:
    """Return every dotted key that a recipe may set."""
    return PRUNE_RECIPES.known_keys()
