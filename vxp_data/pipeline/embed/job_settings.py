"""What the workers of an embedding job must know."""

from __future__ import annotations

from dataclasses import dataclass

from vxp_data.encoders.base import EncoderSpec
from vxp_data.settings.prune import DecodeConfig, EncoderConfig, FetchConfig, FramesConfig
from vxp_data.storage.folder import Folder


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSettings:
    """What the workers must know."""

    frames: FramesConfig
    decode: DecodeConfig
    fetch: FetchConfig
    encoder: EncoderConfig
    """Its device is named: 'cpu' or 'cuda'."""
    spec: EncoderSpec
    """Of the encoder in every process of the job; one with another refuses to run."""
    sampler: str
    """Fingerprint of the frame sampling."""
    parts: Folder
    """Folder for the embeddings parts."""
    thumbnails: Folder | None = None
    """Folder for contact sheets; None: none are kept."""
    sheet_bytes: int = 0
    """Most bytes of a contact sheet."""
    beside: bool = False
    """Whether `thumbnail`'s vectors of the frames of videos are kept beside the encoder's."""
