"""Settings of a ReCoT training: typed, frozen, every field with its unit and range.

The defaults are the recommended ones for the full-size model; where the paper names no value
(section 3.2 names none but the data and 48 A100 hours), ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal, Self

from pydantic import Field, field_validator, model_validator

from vxp_data.extras import second_decoder
from vxp_data.settings.file import Loaded, Settings, SettingsFile, read_recipe


class SgmSettings(Settings):
    """The masking; None: the preset's value. See modules.masking.SGMConfig."""

    num_queries: int | None = Field(None, ge=1)
    """Learned queries of each kind."""
    ratio: float | None = Field(None, ge=0, lt=1)
    """Share of each frame's tokens that is masked."""
    ratio_start: float | None = Field(None, ge=0, lt=1)
    """Share at the first step, from where it rises or falls to `ratio`; with `ratio_ramp`."""
    ratio_ramp: float | None = Field(None, ge=0, le=1)
    """Share of the training over which the ratio goes from `ratio_start` to `ratio`."""
    unmasked_share: float | None = Field(None, ge=0, lt=1)
    """Share of the samples of which nothing is masked, drawn by the sample's seed."""
    pool: float | None = Field(None, gt=0, le=1)
    """Masked tokens are drawn from this share of lowest scores; 1: random masking."""
    grad_mode: Literal["ste", "rank", "ste+rank", "none", "additive"] | None = None
    """How the scores learn; the paper names no way, and its loss is the mean squared error alone.

    'rank': by a ranking loss of ours beside that, which asks for high scores where a masked token
    was rebuilt badly. 'ste': by the paper's loss alone, through a straight-through gate at the
    mask; it can learn the reverse. 'ste+rank': both. 'additive': scores are added to the tokens
    that stay, as the released selector does; no gate. 'none': not at all, the scores stay as
    drawn."""
    rank_weight: float | None = Field(None, ge=0)
    """Weight of the ranking loss beside the mean squared error, in the modes with 'rank'; 0.1 is
    ours."""


class ModelSettings(Settings):
    """What is trained; None: the preset's value."""

    preset: str = "3b"
    """A name in models.presets: '3b' (the paper's) or 'tiny'."""
    temporal_factor: Literal[2, 4, 8] | None = None
    """Frames that become one."""
    target_norm: Literal["none", "layernorm"] | None = None
    """What is rebuilt: the tower's tokens, or each of them layer-normalised."""
    masked_weight: float | None = Field(None, ge=0)
    """Weight of a masked token's error."""
    visible_weight: float | None = Field(None, ge=0)
    """Weight of a visible token's error."""
    sgm: SgmSettings = SgmSettings()
    checkpoint_stages: bool = False
    """Run the stages again in the backward pass: less memory, a third more time in them."""


class TowerSettings(Settings):
    """The frozen SigLIP whose tokens are rebuilt."""

    init: Literal["pretrained", "random"] = "pretrained"
    """'random': no weights are read; for tests and trials. The model card says so."""
    source: str = "google/siglip-so400m-patch14-384"
    """A folder as transformers writes it, or a hub repository."""
    revision: str | None = None
    """Commit of the hub repository; the default repository has a default."""
    chunk_frames: int = Field(32, ge=1)
    """Frames run at once."""
    cache_dir: str | None = None
    """Keep the tower's tokens here, and take them from here; None: run the tower every time."""
    cache_gib: float = Field(50.0, gt=0)
    """What the cache may hold, GiB; at 384 px and 24 x 24 tokens a frame has 1.3 MB. When it is
    full, what is not in it is computed every time."""


class SourceSettings(Settings):
    """One part of the mixture."""

    uri: str
    """A directory that `vxp-data shard` wrote: a path or a URI."""
    kinds: tuple[Literal["image", "mixed", "video", "text"], ...] = (
        "image", "mixed", "video", "text",
    )  # fmt: skip
    """Of its samples, these; 'mixed' are those of several media."""
    datasets: tuple[str, ...] | None = Field(None, min_length=1)
    """Of these manifests, by their names; None: of all. One directory may be named by several
    sources, each with datasets and a weight of its own."""
    weight: float | None = Field(None, gt=0)
    """Share of the samples, against the other sources' weights. None, for all or for none of them:
    as many as there are."""


class DataSettings(Settings):
    """What is trained on, and how it is read."""

    sources: tuple[SourceSettings, ...] = Field(min_length=1)
    workers: int = Field(4, ge=0)
    """Processes that decode ahead, for each training process; 0: none."""
    prefetch_batches: int = Field(4, ge=1)
    """Batches that each worker decodes ahead."""
    max_broken: int = Field(100, ge=0)
    """Clips that may be broken, in each process; each is replaced and named."""
    max_bad_share: float = Field(0.05, ge=0, le=1)
    """Share of the rows that cannot be learned from and are left out; more, and nothing starts. As
    many as `manifest.max_bad_share` lets into a run: beyond that, something went wrong when the
    rows were made."""
    mixture: str | None = None
    """A mixture file, or the name of one that comes with vxp (video_xl_pro_sft): its rows are told
    beside those of the sources; None: nothing to compare with."""
    decoder: str = "pyav"
    """A name in vxp_data.registry.DECODERS."""
    fallback: str | None = Field(default_factory=second_decoder)
    """Tried once where the decoder fails; None: no second try. 'decord', where it is installed."""
    timeout_s: float = Field(60.0, gt=0)
    """Wall-clock limit of a decode, seconds."""
    memory_mib: int = Field(4096, ge=64)
    """What a decode may allocate, MiB."""

    @model_validator(mode="after")
    def _weights_for_all_or_none(self) -> Self:
        given = [source.weight is not None for source in self.sources]
        if any(given) and not all(given):
            raise ValueError("data.sources: give every source a weight, or none")
        return self


class VisualSourceSettings(SourceSettings):
    """One part of the mixture, of which text alone is no use."""

    kinds: tuple[Literal["image", "video"], ...] = ("image", "video")
    """Of its samples, these."""


class ReCoTDataSettings(DataSettings):
    """The same, and how much of a video is shown."""

    sources: tuple[VisualSourceSettings, ...] = Field(min_length=1)
    window_frames: int = Field(16, ge=1)
    """Frames of a video that are shown: a run of its plan, drawn anew in every epoch."""


class BatchSettings(Settings):
    """How many samples make a step."""

    global_samples: int = Field(80, ge=1)
    """Samples of a step, over all processes: with a quarter images, 80 are 260 groups."""
    micro_samples: int = Field(4, ge=1)
    """Samples that a process runs at once. Bounds memory; the losses do not depend on it."""


class OptimSettings(Settings):
    """AdamW, and its rate over the steps."""

    lr: float = Field(1e-4, gt=0)
    """Highest learning rate."""
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = Field(1e-8, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    """Of kernels and matrices; biases, norms, codes and queries have none."""
    clip_norm: float = Field(1.0, gt=0)
    """Longest gradient."""
    warmup: float = Field(0.03, ge=0, le=1)
    """Share of the steps over which the rate rises, in a straight line."""
    final_lr: float = Field(0.0, ge=0, le=1)
    """Where the cosine ends, as a share of `lr`."""

    @model_validator(mode="after")
    def _betas_in_range(self) -> Self:
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError("optim.betas must lie in [0, 1)")
        return self


class ReCoTOptimSettings(OptimSettings):
    """The same, and the masking's own rate."""

    sgm_lr_mult: float = Field(5.0, ge=0)
    """The masking's rate is this many times higher."""


class EngineSettings(Settings):
    """DeepSpeed."""

    zero_stage: Literal[0, 1, 2] = 2
    """What is divided among the processes: nothing, the optimizer's state, the gradients too. 3,
    the weights too, is refused: each process would have to run the same modules equally often."""
    offload: Literal["none", "torch", "deepspeed"] = "none"
    """Keep the optimizer's state in main memory and step there, by torch's AdamW or by DeepSpeed's,
    which is faster and compiled at its first use (3 minutes; needs a C++ compiler)."""
    bucket_mib: int = Field(400, ge=1)
    """Gradients that are reduced at once, MiB."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """'auto': bf16 on CUDA; fp32 on a CPU, whose bf16 convolutions are slow."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """'auto' takes CUDA where there is a GPU."""

    @field_validator("zero_stage", mode="before")
    @classmethod
    def _weights_stay_whole(cls, value: Any) -> Any:
        if value == 3:
            raise ValueError(
                "3 is not possible here: it gathers weights module by module, so every process "
                "must run the same modules equally often, and one whose samples have more frames, "
                "or none, does not. Use engine.zero_stage=2 with engine.offload=torch; if the "
                "weights alone do not fit, lora.rank or optim.freeze"
            )
        return value

    @model_validator(mode="after")
    def _offload_needs_zero(self) -> Self:
        if self.offload != "none" and self.zero_stage == 0:
            raise ValueError("engine.offload needs engine.zero_stage 1 or 2")
        return self


class RunSettings(Settings):
    """How long, where to, and what is saved on the way."""

    out: str
    """Directory of the run."""
    steps: int | None = Field(None, ge=1)
    """Length of the training, steps; None: `epochs` decides."""
    epochs: float = Field(1.0, gt=0)
    """Length of the training; an epoch holds every sample and is rounded up to whole steps."""
    seed: int = 0
    """Of all that is drawn: new weights, order, windows, masks, what the selector leaves out."""
    checkpoint_steps: int = Field(500, ge=1)
    """Steps between checkpoints."""
    keep_checkpoints: int = Field(2, ge=1)
    """Checkpoints kept."""


class ReCoTRunSettings(RunSettings):
    """The same, with images, and batches that may fail."""

    out: str = "runs/recot"
    picture_steps: int = Field(500, ge=0)
    """Steps between images of the mask; 0: none."""
    max_bad_batches: int = Field(0, ge=0)
    """Batches whose loss is no number that may be left out, each named; one more ends the run."""


class TrainRecipe(Settings):
    """What the recipes of all trainings have."""

    data: DataSettings
    batch: BatchSettings = BatchSettings()
    optim: OptimSettings = OptimSettings()
    engine: EngineSettings = EngineSettings()
    run: RunSettings

    def total_steps(self, epoch_samples: int) -> int:
        """Return the length of the training.

        Args:
            epoch_samples: samples of an epoch, a multiple of the step's.
        """
        if self.run.steps is not None:
            return self.run.steps
        return max(1, math.ceil(self.run.epochs * epoch_samples / self.batch.global_samples))


class ReCoTRecipe(TrainRecipe):
    """All of it."""

    model: ModelSettings = ModelSettings()
    tower: TowerSettings = TowerSettings()
    data: ReCoTDataSettings
    optim: ReCoTOptimSettings = ReCoTOptimSettings()
    run: ReCoTRunSettings = ReCoTRunSettings()


MAY_CHANGE: Final = frozenset(
    {
        "data.sources",
        "data.workers",
        "data.prefetch_batches",
        "data.max_broken",
        "data.max_bad_share",
        "data.mixture",
        "data.decoder",
        "data.fallback",
        "data.timeout_s",
        "data.memory_mib",
        "batch.micro_samples",
        "engine.bucket_mib",
        "engine.device",
        "run.out",
        "run.checkpoint_steps",
        "run.keep_checkpoints",
    }
)
"""What another run of any recipe may change and still go on where the first was: of the data, the
loader itself checks that it is the same."""

RECOT_MAY_CHANGE: Final = MAY_CHANGE | {
    "model.checkpoint_stages",
    "tower.source",
    "tower.chunk_frames",
    "tower.cache_dir",
    "tower.cache_gib",
    "run.picture_steps",
    "run.max_bad_batches",
}
"""With what ReCoT's may: of the tower, its weights' digest tells."""

RECIPES: Final = SettingsFile(ReCoTRecipe, example="batch.micro_samples=2")


def load_recipe(path: Path, overrides: Sequence[tuple[str, str, Any]] = ()) -> Loaded[ReCoTRecipe]:
    """Read a recipe and lay the command line over it.

    Args:
        path: a YAML file.
        overrides: (dotted key, value, origin), later ones win.

    Raises:
        UserError: not a YAML mapping, an unknown key, a value out of its range.
    """
    return RECIPES.read(read_recipe(path), str(path), overrides)
