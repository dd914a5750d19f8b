"""Which encoder a run takes where none is named. Loads no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from vxp_data.encoders import efficientnet_lite0
from vxp_data.encoders.base import EncoderSettings
from vxp_data.encoders.siglip_model import weights_here
from vxp_data.errors import UserError

KNOWS: Final[Mapping[str, str]] = {
    "siglip": "what images show, as captions of the web tell it",
    efficientnet_lite0.NAME: "objects and scenes, as ImageNet's 1,000 classes tell them apart; no "
    "words, no actions",
    "thumbnail": "brightness, colour and edges; nothing of what is shown",
}
"""Encoders that are chosen from -> what each has learned to tell apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The encoder of a run that names none."""

    name: str
    why: str
    """Clauses, for people."""

    def __str__(self) -> str:
        """Return the line that a command begins with."""
        knows = KNOWS.get(self.name)
        return f"Encoder {self.name}: {self.why}." + (f" It knows {knows}." if knows else "")


CHOSEN_FROM: Final = tuple(KNOWS)


def choose_encoder(settings: EncoderSettings) -> Choice:
    """Return the best encoder that can run on this machine without fetching anything.

    Args:
        settings: none of which says where weights are; `siglip` is taken if the hub's are here.
    """
    if weights_here(settings) is not None:
        return Choice(name="siglip", why="none is named, and its weights are here")
    missing = "none is named, and siglip's weights are not here"
    try:
        efficientnet_lite0.Lite0Encoder.prepare(settings)
    except UserError as error:
        reason = str(error).partition(". Or prune")[0]
        return Choice(name="thumbnail", why=f"{missing}; {reason}")
    return Choice(name=efficientnet_lite0.NAME, why=missing)
