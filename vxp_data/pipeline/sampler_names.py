"""What names a run's frame sampling now, by what named it in run formats 4 to 6.

A digest does not tell of what it was made. So all settings that there may have been are tried: a
stopped run has none on record, and parts may be of earlier settings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any, Final, get_args

from vxp_data.core.frame_sampling import SELECTION_VERSION, Seek
from vxp_data.encoders.base import fingerprint
from vxp_data.pipeline.prune import sampler_fingerprint
from vxp_data.registry import DECODERS, FRAME_SAMPLERS
from vxp_data.settings.prune import DecodeConfig, FramesConfig, PruneConfig

_MOST_FRAMES: Final = 1000
"""Most frames a clip that the formats allowed."""

_Settings = tuple[Mapping[str, Any], str, int]
"""Of the frames, the decoder, and by which rule frames were selected."""


class SamplerNames:
    """Tells new names by old ones.

    Args:
        record: run.json, where the run has ended.
    """

    def __init__(self, record: Mapping[str, Any] | None) -> None:
        kinds = product(FRAME_SAMPLERS.names(), range(1, _MOST_FRAMES + 1), get_args(Seek))
        frames = [{"sampler": name, "num_frames": n, "seek": seek} for name, n, seek in kinds]
        settings: list[tuple[Mapping[str, Any], str]] = list(product(frames, DECODERS.names()))
        if record is not None:  # with plug-ins, perhaps, that are not installed here
            config = record["config"]
            settings.append((config["frames"], config["decode"]["decoder"]))
        self._settings = {name: found for one in settings for name, found in _old_names(*one)}

    def knows(self, name: str) -> bool:
        """Whether any settings gave a frame sampling of this name."""
        return name in self._settings

    def new_name(self, name: str) -> str:
        """Return what names it now; the same, where no settings give it."""
        if name not in self._settings:
            return name
        frames, decoder, selection_version = self._settings[name]
        config = PruneConfig.model_construct(
            frames=FramesConfig.model_construct(**frames),
            decode=DecodeConfig.model_construct(decoder=decoder),
        )
        return sampler_fingerprint(config, selection_version)


def _old_names(frames: Mapping[str, Any], decoder: str) -> Iterator[tuple[str, _Settings]]:
    of_what = {"frames": frames, "decoder": decoder}
    yield fingerprint({**of_what, "run_format": 4}), (frames, decoder, 1)
    for version in range(1, SELECTION_VERSION + 1):
        found = (frames, decoder, version)
        yield fingerprint({**of_what, "selection_version": version}), found
