"""Settings of an evaluation: which benchmarks, what the model sees, how it is asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, Self

from pydantic import Field, field_validator, model_validator

from vxp_data.settings.file import Settings, SettingsFile


class FrameSettings(Settings):
    """Which frames of a video are shown; null: what the preset says."""

    fps: float | None = Field(None, gt=0)
    """Frames per second."""
    num_frames: int | None = Field(None, ge=1)
    """So many at equal distances instead of a rate."""
    max_frames: int | None = Field(None, ge=1)
    """Where the rate gives more, so many at equal distances."""
    multiple_of: int | None = Field(None, ge=1)
    """Leave out frames at the end until their number is a multiple of this; never all."""
    frame_px: int | None = Field(None, ge=28)
    """Side of the square to which frames are squashed, for models of transformers; null: the
    video's own size. Our models have a side of their own."""


class PromptSettings(Settings):
    """How questions are put; null: what the preset says, else the benchmark's first style."""

    style: str | None = None
    """'official', 'lmms-eval', 'video-xl': see `vxp-model benchmarks NAME`."""
    system: str | None = None
    """A system turn for every question, instead of the benchmark's own or the model's."""
    template: str | None = None
    """A prompt of your own for every question: text with {question}, {options} (a line each, 'A.
    red') and {inline_options} ('(A) red (B) blue'). The benchmark's system turn goes with its own
    prompt."""
    reply_start: str | None = None
    """What replies are made to begin with; with a template, nothing unless it is said here."""

    @field_validator("template")
    @classmethod
    def _fields_are_known(cls, template: str | None) -> str | None:
        if template is not None:
            try:
                template.format(question="", options="", inline_options="")
            except (KeyError, IndexError, ValueError) as error:
                raise ValueError(
                    "a template may have {question}, {options} and {inline_options}, and no other "
                    f"braces: {error!r}"
                ) from error
        return template


class AnswerSettings(Settings):
    """How answers are made."""

    by: Literal["generation", "likelihood"] = "generation"
    """The model writes; or the likeliest of the options is its answer."""
    keep_ratio: float | None = Field(None, gt=0, le=1)
    """Share of visual tokens that the selector keeps; null: as many as the context allows."""
    context_limit: int | None = Field(None, ge=1)
    """Positions of prompt and answer; null: the model's own."""
    batch: int = Field(1, ge=1)
    """Questions about one video that are answered at once."""
    max_new_tokens: int | None = Field(None, ge=1)
    """Longest reply; null: what the benchmark's prompt says."""
    chunk_positions: int = Field(1024, ge=1)
    """Of a prompt read at once, where questions are asked one by one."""
    window: int | None = Field(None, ge=0)
    """Keep so many of the last visual tokens while reading; null: all."""


class BenchmarkSettings(Settings):
    """One benchmark of a run, and what is special to it."""

    name: str
    """In `vxp-model benchmarks`."""
    data: str
    """Folder with its annotation files."""
    media: str | None = None
    """Folder or URI of its videos; null: `data`."""
    frames: FrameSettings = FrameSettings()
    prompt: PromptSettings = PromptSettings()
    only: dict[str, tuple[str, ...]] = {}
    """Ask the questions of these parts alone: {task: [PQA, AC]}."""


class EvalRecipe(Settings):
    """All of it."""

    model: str = ""
    """Folder of a model of ours; 'transformers:FOLDER' of any video-text model of that library; or
    'answers:FILE' with replies made elsewhere."""
    device: str = "auto"
    """'cuda', 'cpu'; 'auto': a GPU where there is one."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """'auto': bfloat16 on a GPU, else float32."""
    preset: str = "paper"
    """A name in PRESETS: frames and prompts as somebody published them."""
    benchmarks: tuple[BenchmarkSettings, ...] = Field((), min_length=1)
    frames: FrameSettings = FrameSettings()
    """Of all benchmarks that say nothing else."""
    prompt: PromptSettings = PromptSettings()
    answer: AnswerSettings = AnswerSettings()
    limit: int | None = Field(None, ge=1)
    """Ask the first so many questions of each benchmark."""
    allow_partial: bool = False
    """Go on where files hold other numbers of questions than were published."""
    sweep: dict[str, tuple[Any, ...]] = {}
    """Settings that are tried with several values: {answer.keep_ratio: [1.0, 0.5, 0.1]}; every
    combination is a run of its own below `out`."""
    out: str = "runs/eval"
    """Run directory."""

    @model_validator(mode="after")
    def _names_are_known_and_once(self) -> Self:
        if self.preset not in PRESETS:
            raise ValueError(f"preset {self.preset!r} is none of {', '.join(sorted(PRESETS))}")
        names = [one.name for one in self.benchmarks]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"benchmarks names {', '.join(twice)} twice")
        if empty := [key for key, values in self.sweep.items() if not values]:
            raise ValueError(f"sweep: {', '.join(empty)} has no value to try")
        return self

    def resolved(self, benchmark: BenchmarkSettings) -> Resolved:
        """Return what holds for one benchmark: its own, else the recipe's, else the preset's."""
        preset = PRESETS[self.preset]
        layers = [preset.get("*", {}), preset.get(benchmark.name, {})]
        layers += [
            {"frames": one.frames.model_dump(), "prompt": one.prompt.model_dump()}
            for one in (self, benchmark)
        ]
        merged: dict[str, dict[str, Any]] = {"frames": {}, "prompt": {}}
        for layer in layers:
            for section, values in layer.items():
                merged[section] |= {k: v for k, v in values.items() if v is not None}
        told = _told(self.frames, benchmark.frames)
        if "fps" in told and "num_frames" not in told:
            merged["frames"].pop("num_frames", None)  # a preset's number beside the user's rate
        return Resolved(
            frames=FrameSettings(**merged["frames"]), prompt=PromptSettings(**merged["prompt"])
        )


class Resolved(Settings):
    """What one benchmark is asked with, whoever said so."""

    frames: FrameSettings
    prompt: PromptSettings


def _told(*given: FrameSettings) -> set[str]:
    return {name for one in given for name, value in one.model_dump().items() if value is not None}


_Preset = Mapping[str, Mapping[str, Mapping[str, Any]]]

PRESETS: Final[Mapping[str, _Preset]] = {
    # 1 fps (paper, section 4.2); no cap is stated, so the selector brings what is too long to the
    # context. The cap bounds memory only: two hours and a quarter.
    "paper": {"*": {"frames": {"fps": 1.0, "max_frames": 8192}}},
    # Video-XL-2's copy of lmms-eval: 1 fps, capped by benchmark, whole groups of four.
    "video_xl_2": {
        "*": {
            "frames": {"fps": 1.0, "max_frames": 400, "multiple_of": 4},
            "prompt": {"style": "lmms-eval"},
        },
        "mlvu": {"frames": {"max_frames": 256}},
        "mlvu_test": {"frames": {"max_frames": 256}},
        "lvbench": {"frames": {"max_frames": 600}},
    },
    # Video-XL's own scripts: 1 fps, options in brackets, MLVU's system line.
    "video_xl": {
        "*": {"frames": {"fps": 1.0, "max_frames": 2048}, "prompt": {"style": "video-xl"}}
    },
    # What most tables of lmms-eval were made with.
    "lmms_eval": {"*": {"frames": {"num_frames": 32}, "prompt": {"style": "lmms-eval"}}},
}
"""Name -> benchmark, or '*' for all -> section -> values. A style that a benchmark does not have
falls back to its first."""

EVAL_RECIPES: Final = SettingsFile(
    EvalRecipe, free_maps=("sweep",), example="answer.keep_ratio=0.5"
)


def points_of(sweep: Mapping[str, tuple[Any, ...]]) -> Iterator[dict[str, Any]]:
    """Return every combination of a sweep's values, the last axis fastest; one empty without."""
    points: list[dict[str, Any]] = [{}]
    for key, values in sweep.items():
        points = [point | {key: value} for point in points for value in values]
    yield from points
