"""Settings of a run: typed, frozen, every field with its unit and range; YAML plus `--set a.b=c`.

Precedence: default < recipe < command line. `Origin` remembers where each value came from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from vxp_data.core.thresholds import ThresholdSpec, parse_keep, parse_threshold
from vxp_data.errors import UserError, unknown_name
from vxp_data.registry import DECODERS, ENCODERS, FRAME_SAMPLERS, MEASURES, Registry


class Settings(BaseModel):
    """Base of every settings class."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class TasksConfig(Settings):
    """How a row's task subset is found: a dataset's own task, a field of the row, else rules."""

    field: str | None = None
    """Field of the row that names its task, dots for nesting; None: rules over the conversation."""
    map: dict[str, str] = {}
    """From the field's values to task names; a value not listed is the task's name itself, if it is
    one that is known, and falls to the rules otherwise."""


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
        return _known(FRAME_SAMPLERS, name)


class DecodeConfig(Settings):
    """How files are decoded."""

    decoder: str = "pyav"
    """A name in registry.DECODERS."""
    fallback: str | None = "decord"
    """Tried once where the decoder fails on a file that passed the gate; None: no second try."""
    timeout_s: float = Field(60.0, gt=0)
    """Wall-clock limit of a probe or decode, seconds; a decode gets 20 ms more for each frame that
    the video has."""
    memory_mib: int = Field(2048, ge=64)
    """What a decode may allocate beyond its libraries, MiB; 8K needs about 1000."""

    @field_validator("decoder", "fallback")
    @classmethod
    def _known_decoder(cls, name: str | None) -> str | None:
        return name if name is None else _known(DECODERS, name)


class EncoderConfig(Settings):
    """What turns frames into vectors; see encoders.base.EncoderSettings for the fields."""

    name: str = "siglip"
    """A name in registry.ENCODERS."""
    model: str = "ViT-SO400M-14-SigLIP-384"
    """open_clip model, for 'siglip'."""
    pretrained: str = "webli"
    """open_clip tag of that model's weights."""
    checkpoint: str = ""
    """Local weights instead: a folder with open_clip_config.json, or a weights file of `model`."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """'auto' takes CUDA where there is a GPU."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """'auto': bf16 on CUDA, fp32 on CPU."""
    batch_frames: int = Field(64, ge=1)
    """Frames per forward pass, across videos."""

    @field_validator("name")
    @classmethod
    def _known_encoder(cls, name: str) -> str:
        return _known(ENCODERS, name)


class ClusterConfig(Settings):
    """Where the job runs."""

    address: str | None = None
    """None: a local Ray, started and stopped by the command. Else what ray.init takes: 'auto',
    'ray://host:10001'."""
    num_cpus: int | None = Field(None, ge=1)
    """Cores a local Ray may use; None: all of them."""
    num_gpus: int | None = Field(None, ge=0)
    """GPUs a local Ray may use; None: all of them."""
    object_store_mib: int = Field(1024, ge=80)
    """Shared memory of a local Ray, MiB: frames on their way to the encoder."""


class ExpectConfig(Settings):
    """What a run must give; exit code 3 and the difference where it does not."""

    num_in: int | None = None
    """Input rows, exactly."""
    num_kept: int | None = None
    """Kept rows, exactly."""
    num_quarantined: int | None = None
    """Quarantined rows, exactly."""
    quarantined: dict[str, int] | None = None
    """Quarantined rows by reason, exactly."""
    videos_per_s_min: float | None = None
    """A floor, far below the usual."""


class PruneConfig(Settings):
    """All settings of `vxp-data prune`."""

    tasks: TasksConfig = TasksConfig()
    """Task subsets."""
    frames: FramesConfig = FramesConfig()
    """Frame sampling."""
    decode: DecodeConfig = DecodeConfig()
    """Decoding."""
    encoder: EncoderConfig = EncoderConfig()
    """Embedding."""
    measure: str = "mean_pairwise"
    """The similarity measure that decides, a name in registry.MEASURES; all are stored."""
    thresholds: dict[str, str] = {"default": "keep 0.5"}
    """By task, and 'default' for the others: '0.80' a score, 'q0.5' a quantile of the scores,
    'keep 0.5' a share of the rows, 'keep 1000' a number of rows."""
    cluster: ClusterConfig = ClusterConfig()
    """Where the job runs."""
    expect: ExpectConfig | None = None
    """What the run must give."""

    @field_validator("measure")
    @classmethod
    def _known_measure(cls, name: str) -> str:
        return _known(MEASURES, name)

    @field_validator("thresholds")
    @classmethod
    def _readable_thresholds(cls, thresholds: dict[str, str]) -> dict[str, str]:
        for task, text in thresholds.items():
            try:
                threshold_spec(text)
            except UserError as error:
                raise ValueError(f"{task}: {error}") from error
        return {"default": "keep 0.5"} | thresholds

    @model_validator(mode="after")
    def _fallback_is_another(self) -> Self:
        if self.decode.fallback == self.decode.decoder:
            raise ValueError(
                f"decode.fallback is {self.decode.fallback!r}, the same as decode.decoder; "
                "name another decoder, or null for none"
            )
        return self

    def threshold_specs(self) -> dict[str, ThresholdSpec]:
        """Give the thresholds by task, without 'default'."""
        return {
            task: threshold_spec(text)
            for task, text in self.thresholds.items()
            if task != "default"
        }

    def default_threshold(self) -> ThresholdSpec:
        """Give the threshold of every task that has none of its own."""
        return threshold_spec(self.thresholds["default"])


def threshold_spec(text: str) -> ThresholdSpec:
    """Read a threshold as recipes write it: 'keep 0.5', '0.80', 'q0.5'."""
    if text.startswith("keep "):
        return parse_keep(text.removeprefix("keep ").strip())
    return parse_threshold(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """A dotted key, its value, and where the value came from."""

    key: str
    value: object
    origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedConfig:
    """The settings of a run, and the origin of each value."""

    config: PruneConfig
    origins: tuple[Origin, ...]


_DEFAULT: Final = "default"


def load_config(
    recipe: Path | None, overrides: Sequence[tuple[str, str, Any]] = ()
) -> LoadedConfig:
    """Read a recipe and lay the command line over it.

    Args:
        recipe: a YAML file, or None for the defaults.
        overrides: (dotted key, value, origin), later ones win.

    Raises:
        UserError: a file that is not a YAML mapping; an unknown key, with the nearest known one; a
            value out of its range.
    """
    tree: dict[str, Any] = {}
    origin_of: dict[str, str] = {}
    if recipe is not None:
        tree = _read_yaml(recipe)
        origin_of = {key: str(recipe) for key, _ in _leaves(tree)}
    for key, value, origin in overrides:
        _check_key(key, origin)
        _put(tree, key.split("."), value, origin)
        origin_of[key] = origin
    _check_tree(tree, str(recipe))
    try:
        config = PruneConfig.model_validate(tree)
    except ValidationError as error:
        raise UserError(_readable(error, origin_of)) from error
    origins = [
        Origin(key=key, value=value, origin=_origin(key, origin_of))
        for key, value in _leaves(config.model_dump(mode="json"))
    ]
    return LoadedConfig(config=config, origins=tuple(origins))


def parse_set(text: str) -> tuple[str, Any, str]:
    """Read one `--set a.b=c`; the value is YAML, so that 3, true and null are what they look like.

    Raises:
        UserError: no '=' in it, or a value that is not YAML.
    """
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UserError(f"--set takes key=value, got {text!r}. Example: --set frames.num_frames=8")
    try:
        return key, yaml.safe_load(value), f"--set {text}"
    except yaml.YAMLError as error:
        raise UserError(f"--set {text!r}: the value is not YAML: {error}") from error


def known_keys(model: type[BaseModel] = PruneConfig, prefix: str = "") -> Iterator[str]:
    """Give every dotted key that a recipe may set."""
    for name, field in model.model_fields.items():
        kind = _settings_class(field.annotation)
        yield f"{prefix}{name}"
        if kind is not None:
            yield from known_keys(kind, f"{prefix}{name}.")


_FREE_MAPS: Final = ("thresholds", "tasks.map", "expect.quarantined")


def _settings_class(annotation: Any) -> type[BaseModel] | None:
    for candidate in (annotation, *getattr(annotation, "__args__", ())):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def _check_key(key: str, origin: str) -> None:
    if key in known_keys() or any(key.startswith(f"{free}.") for free in _FREE_MAPS):
        return
    error = unknown_name("setting", key, known_keys())
    raise UserError(f"{origin}: {error}")


def _check_tree(tree: Mapping[str, Any], origin: str) -> None:
    for key, _ in _leaves(tree):
        parts = key.split(".")
        for depth in range(1, len(parts) + 1):
            _check_key(".".join(parts[:depth]), origin)


def _put(tree: dict[str, Any], path: list[str], value: Any, origin: str) -> None:
    for name in path[:-1]:
        inner = tree.setdefault(name, {})
        if inner is None:
            inner = tree[name] = {}
        if not isinstance(inner, dict):
            raise UserError(f"{origin}: {name!r} is {inner!r} in the recipe, not a section")
        tree = inner
    tree[path[-1]] = value


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{key}.")
        else:
            yield key, value


def _origin(key: str, origin_of: Mapping[str, str]) -> str:
    while key:
        if key in origin_of:
            return origin_of[key]
        key = key.rpartition(".")[0]
    return _DEFAULT


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"recipe {path}: no such file") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"recipe {path}: cannot be read as YAML: {error}") from error
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise UserError(f"recipe {path}: wanted sections (key: value), got {type(tree).__name__}")
    return tree


def _readable(error: ValidationError, origin_of: Mapping[str, str]) -> str:
    lines = []
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"] if part != "[key]")
        message = problem["msg"].removeprefix("Value error, ")
        lines.append(f"{_origin(key, origin_of)}: {key}: {message}; got {problem['input']!r}")
    return "\n".join(lines)


def _known(registry: Registry, name: str) -> str:
    try:
        registry.require(name)
    except UserError as error:
        raise ValueError(str(error)) from error
    return name
