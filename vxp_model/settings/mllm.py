"""Settings of a training of Video-XL-Pro: which stage, from what, on what, how long."""

from __future__ import annotations

from typing import Any, Final, Literal, Self

from pydantic import Field, model_validator

from vxp_data.settings.file import Settings, SettingsFile
from vxp_model.settings.recot import (
    MAY_CHANGE,
    BatchSettings,
    DataSettings,
    OptimSettings,
    RunSettings,
    SourceSettings,
    TrainRecipe,
)

Part = Literal["tower", "dts", "projector", "selector", "language_model"]
LossMean = Literal["token", "sample"]

Turns = Literal["first", "split"]

ALL_PARTS: Final[tuple[Part, ...]] = ("tower", "dts", "projector", "selector", "language_model")
TRAINED: Final[dict[str, tuple[Part, ...]]] = {"align": ("projector",), "sft": ALL_PARTS}
"""What each stage trains; paper section 4.2."""


class StartSettings(Settings):
    """Where the weights come from."""

    model: str | None = None
    """Folder of a whole model, as a stage before this one has written it; then nothing else is
    read."""
    llm: str | None = None
    """Folder of a Qwen2, 2.5 or 3 model with its tokenizer, as transformers writes it."""
    tower: str | None = None
    """Folder or hub repository of SigLIP, such as google/siglip-so400m-patch14-384."""
    tower_revision: str | None = None
    """Commit of the hub repository; the default repository has a default."""
    recot: str | None = None
    """Folder that `vxp-model recot` wrote: the compressor."""
    init: Literal["pretrained", "random"] = "pretrained"
    """'random': parts of which nothing is named start from chance, and the model says so; else they
    are refused. Projector and selector are always new where no model is named."""
    preset: str = "3b"
    """Shapes of parts that start from chance: '3b', '7b' or 'tiny'."""
    temporal_factor: Literal[1, 2, 4, 8] | None = None
    """Frames that become one. 1: no compressor, every frame has its own time text and tokens, the
    baseline of the paper's Table 5; None: as the named compressor or model has it, else the
    preset's 4."""

    @model_validator(mode="after")
    def _compressor_has_frames_to_compress(self) -> Self:
        if self.temporal_factor == 1 and self.recot is not None:
            raise ValueError(
                f"start.recot names a compressor, {self.recot}, and start.temporal_factor 1 is "
                "training without one: leave one of them out"
            )
        return self


class MllmDataSettings(DataSettings):
    """The same. Frames are those of the shards' plans."""

    length_window: int = Field(0, ge=0)
    """In each stretch of so many samples, those with about as many frames come together; 0: off."""
    turns: Turns = "first"
    """What a sample with several answers becomes. 'first': one sequence, whose visual tokens are
    selected by its first question. 'split': a sequence for each answer, selected by its own
    question, with the earlier turns before it. Frames are encoded once, but the language model
    reads the video anew for each, and has all sequences of a sample at once."""


class MllmOptimSettings(OptimSettings):
    """The same, with what is trained."""

    lr: float = Field(1e-5, gt=0)
    """Highest learning rate; paper section 4.2: 5e-4 to align, 1e-5 to fine-tune."""
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = Field(0.0, ge=0)
    """Of kernels and matrices; paper App. B: 0."""
    freeze: tuple[Part, ...] = ()
    """Parts that the stage would train, and that stay as they are."""
    rate_mults: dict[str, float] = Field(default_factory=dict)
    """Part -> its rate, against `lr`; 1 for the others."""

    @model_validator(mode="after")
    def _rates_of_parts(self) -> Self:
        for part, mult in self.rate_mults.items():
            if part not in ALL_PARTS or mult <= 0:
                raise ValueError(
                    f"optim.rate_mults has {part}: {mult}; wanted parts of {', '.join(ALL_PARTS)}, "
                    "and rates above 0"
                )
        return self


class MllmBatchSettings(BatchSettings):
    """The same, and how samples lie beside each other."""

    global_samples: int = Field(64, ge=1)
    """Samples of a step, over all processes; paper section 4.2."""
    micro_samples: int = Field(1, ge=1)
    """Samples that a process runs at once. Bounds memory; the losses do not depend on it."""
    packed: bool = False
    """Put the samples that run at once one behind the other, each seeing itself alone, instead of
    padding them to the longest: the losses are the same, and nothing is computed for padding."""


class LoraSettings(Settings):
    """Small matrices beside the language model's, trained in its place."""

    rank: int = Field(0, ge=0)
    """Of each pair; 0: no LoRA, the language model itself is trained."""
    alpha: int = Field(32, ge=1)
    """Each product counts alpha / rank times."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Of what goes into the pairs."""
    targets: tuple[str, ...] = (
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
    )  # fmt: skip
    """Names of the modules that get one."""


class MllmRunSettings(RunSettings):
    """The same, with a directory of its own."""

    out: str = "runs/sft"


class ValidationSettings(Settings):
    """Held-out rows, looked at while the model is trained."""

    sources: tuple[SourceSettings, ...] = ()
    """Shards of rows that `data.sources` has not; none: nothing is looked at."""
    steps: int = Field(500, ge=1)
    """Steps from one validation to the next; after the last step there always is one."""
    samples: int | None = Field(None, ge=1)
    """Rows that are looked at, the same every time; None: all."""


class SelectorSettings(Settings):
    """What the selector leaves out in training; see SelectorConfig."""

    drop_min: float = Field(0.05, ge=0, lt=1)
    """Least share of a sample's visual tokens that is left out."""
    drop_max: float = Field(0.30, ge=0, lt=1)
    """Greatest share; paper section 3.3."""
    full_share: float = Field(0.0, ge=0, le=1)
    """Share of samples of which nothing is left out."""
    drops_images: bool = False
    """Images' tokens may go too, here and when the model answers; else videos' alone, for an image
    is one group, and nothing in it repeats."""
    drops_untrained: bool = False
    """Leave tokens out also while the selector knows nothing: of weights from chance, and not
    trained here, as in the stage 'align'. The paper says "in training" and may mean both stages."""

    @model_validator(mode="after")
    def _least_is_not_above_greatest(self) -> Self:
        if self.drop_min > self.drop_max:
            raise ValueError("selector.drop_min is above selector.drop_max")
        return self


class MllmRecipe(TrainRecipe):
    """All of it."""

    stage: Literal["align", "sft"]
    """'align' trains the projector alone, 'sft' everything that is not frozen."""
    loss: LossMean = "sample"
    """What is minimised: 'sample', the mean over a step's samples of each one's mean over its label
    tokens, so that an answer of one letter counts as much as a caption; 'token', the mean over all
    label tokens of the step. Samples without a label count nothing. The reference fine-tunes one
    sample at once, which is 'sample'; manifests/runs/loss-weight.json compares them."""
    start: StartSettings = StartSettings()
    data: MllmDataSettings
    batch: MllmBatchSettings = MllmBatchSettings()
    optim: MllmOptimSettings = MllmOptimSettings()
    lora: LoraSettings = LoraSettings()
    run: MllmRunSettings = MllmRunSettings()
    validation: ValidationSettings = ValidationSettings()
    selector: SelectorSettings = SelectorSettings()
    context_limit: int | None = Field(None, ge=1)
    """Positions of a prompt and its answer: above it, visual tokens are left out. None: what
    `start.llm` says of itself (max_position_embeddings), else the model's or the preset's."""
    checkpoint_layers: bool = False
    """Run layers again in the backward pass: less memory, a third more time."""
    chunk_frames: int | None = Field(None, ge=1)
    """Frames that the tower and the compressor take at once: bounds memory, changes at most the
    last bits; None: the model's own number."""
    peak_tflops: float | None = Field(None, gt=0)
    """The card's peak, for the utilisation in the log; None: its maker's figure for bf16, where the
    card is known."""

    def trained_parts(self) -> tuple[Part, ...]:
        """Return the parts that are trained, of those that a model may have."""
        absent = ("dts",) if self.start.temporal_factor == 1 else ()
        left_out = (*absent, *self.optim.freeze)
        return tuple(part for part in TRAINED[self.stage] if part not in left_out)

    @model_validator(mode="after")
    def _something_is_trained(self) -> Self:
        if not self.trained_parts():
            raise ValueError(f"optim.freeze leaves nothing to train in the stage {self.stage!r}")
        if odd := sorted(set(self.optim.rate_mults) - set(self.trained_parts())):
            raise ValueError(f"optim.rate_mults names what is not trained: {', '.join(odd)}")
        if self.lora.rank and "language_model" not in self.trained_parts():
            raise ValueError("lora.rank is above 0, and the language model is not trained")
        return self


MLLM_MAY_CHANGE: Final = MAY_CHANGE | {
    "start.model",
    "start.llm",
    "start.tower",
    "start.recot",
    "checkpoint_layers",
    "batch.packed",
    "chunk_frames",
    "peak_tflops",
    "validation.sources",
    "validation.steps",
    "validation.samples",
}
"""With what this training's may: a digest tells that the weights to start from are the same."""

MLLM_RECIPES: Final[SettingsFile[MllmRecipe]] = SettingsFile(
    MllmRecipe, free_maps=("optim.rate_mults",), example="batch.micro_samples=2"
)


def as_override(stage: str | None) -> list[tuple[str, str, Any]]:
    """Return the command line's `--stage` as a setting."""
    return [] if stage is None else [("stage", stage, "--stage")]
