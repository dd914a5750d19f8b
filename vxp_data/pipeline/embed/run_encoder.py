"""Which encoder a run has: the one named, or that it began with, or the best that is here."""

from __future__ import annotations

from typing import Any, Final, TypeVar

from vxp_data.core.filter_rules.texts import IMAGE_TEXT_SIMILARITY
from vxp_data.encoders.base import Encoder
from vxp_data.encoders.choose import CHOSEN_FROM, Choice, choose_encoder
from vxp_data.engines.base import Engine
from vxp_data.errors import UserError
from vxp_data.pipeline.run_dir.directory import RunDirectory, read_table
from vxp_data.registry import AUTO_ENCODER, ENCODERS
from vxp_data.settings.file import Loaded, Origin
from vxp_data.settings.prune import EncoderConfig, PruneConfig

_OF_WEIGHTS: Final = ("model", "pretrained", "checkpoint", "weights_sha256")
"""Settings that say which weights: kept with the encoder that a run began with."""

ConfigT = TypeVar("ConfigT", bound=PruneConfig)


def settle_encoder(
    loaded: Loaded[ConfigT], run: RunDirectory | None
) -> tuple[Loaded[ConfigT], Choice | None]:
    """Put a name in the place of 'auto'.

    Args:
        loaded: settings.
        run: where the run is, or will be; None: there is none.

    Returns:
        The settings with the encoder's name, and how it was chosen; None where it was named.

    Raises:
        UserError: the run directory cannot be read.
    """
    config = loaded.config
    if config.encoder.name != AUTO_ENCODER:
        return loaded, None
    begun = None if run is None or _names_weights(config.encoder) else _begun_with(run, config)
    if begun is not None:
        choice = Choice(name=begun.name, why="none is named, and this run began with it")
    else:
        choice = _choose(config)
        begun = config.encoder.model_copy(update={"name": choice.name})
    origins = tuple(
        Origin(key=o.key, value=choice.name, origin=f"auto: {choice.why}")
        if o.key == "encoder.name"
        else o
        for o in loaded.origins
    )
    settled = config.model_copy(update={"encoder": begun})
    return Loaded(config=settled, origins=origins), choice


def settle_device(config: ConfigT, engine: Engine) -> ConfigT:
    """Put a device in the place of 'auto': that of the machines where the encoders will run.

    With it every process resolves `encoder.precision` alike, and none mixes two.

    Args:
        config: with the encoder's name.
        engine: what runs the job; may wait for a GPU.

    Raises:
        UserError: as `Engine.encoder_device`; or the encoder cannot be described.
    """
    encoder_class: type[Encoder] = ENCODERS.load(config.encoder.name)
    on_cores = config.encoder.model_copy(update={"device": "cpu"})
    if encoder_class.describe(on_cores).in_decode_task:
        return config.model_copy(update={"encoder": on_cores})
    device = engine.encoder_device(config.encoder.device)
    encoder = config.encoder.model_copy(update={"device": device})
    return config.model_copy(update={"encoder": encoder})


def _choose(config: PruneConfig) -> Choice:
    if _names_weights(config.encoder):
        return Choice(name="siglip", why="none is named, and the settings name weights of it")
    if IMAGE_TEXT_SIMILARITY.name in config.filters:
        why = f"none is named, and the filter {IMAGE_TEXT_SIMILARITY.name} needs its text side"
        return Choice(name="siglip", why=why)
    return choose_encoder(config.encoder)


def _names_weights(encoder: EncoderConfig) -> bool:
    return _weights_of(encoder) != _weights_of(EncoderConfig())


def _weights_of(encoder: EncoderConfig) -> dict[str, Any]:
    return encoder.model_dump(include=set(_OF_WEIGHTS))


def _begun_with(run: RunDirectory, config: PruneConfig) -> EncoderConfig | None:
    """Return the encoder of a run that has ended, or was stopped; None: of neither."""
    try:
        recorded = run.read_json()["config"]["encoder"]
        kept = EncoderConfig.model_validate(recorded)
    except (UserError, KeyError, TypeError, ValueError):
        return _begun_by_parts(run, config.encoder)
    now = config.encoder.model_dump(include={"device", "batch_frames"})
    if config.encoder.precision != EncoderConfig().precision:
        now["precision"] = config.encoder.precision
    return kept.model_copy(update=now) if kept.name != AUTO_ENCODER else None


def _begun_by_parts(run: RunDirectory, encoder: EncoderConfig) -> EncoderConfig | None:
    """Tell by its first part which of the encoders that are chosen from embedded for a run."""
    files = run.part_files()
    if not files:
        return None
    (made_by, *_) = read_table(files[0], columns=["encoder"])["encoder"].to_pylist()
    for name in CHOSEN_FROM:
        named = encoder.model_copy(update={"name": name})
        encoder_class: type[Encoder] = ENCODERS.load(name)
        for device in ("cpu", "cuda"):  # the precision is the job's, not this machine's
            try:
                there = named.model_copy(update={"device": device})
                if encoder_class.describe(there).fingerprint == made_by:
                    return named
            except UserError:  # it is not installed here
                continue
    return None
