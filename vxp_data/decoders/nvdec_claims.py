"""What the video engine of an NVIDIA card (NVDEC) decodes, by the card's compute capability.

An upper bound, known without opening a file; torchcodec asks the driver for each file besides.
What is not in the table, PyAV decodes. Sources: NVDEC Application Note of the Video Codec SDK 13.0,
sections 2 and 3; smallest and largest sizes: NVDEC programming guide, section 1.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from vxp_data.records import Media

_8_BIT: Final = frozenset({"yuv420p", "yuvj420p", "nv12"})
_10_BIT: Final = _8_BIT | {"yuv420p10le", "p010le"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What a card decodes of one codec: 4:2:0 only; other layouts are rare and differ by card."""

    pixel_formats: frozenset[str]
    """As FFmpeg names them."""
    min_px: int
    """Of width and of height."""
    max_px: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One NVIDIA card, as CUDA names it."""

    name: str
    capability: tuple[int, int]
    """Compute capability, as (9, 0)."""


_H264: Final = Claim(pixel_formats=_8_BIT, min_px=64, max_px=4096)
_H264_BLACKWELL: Final = Claim(pixel_formats=_10_BIT, min_px=64, max_px=8192)
_HEVC: Final = Claim(pixel_formats=_10_BIT, min_px=144, max_px=8192)
_VP8: Final = Claim(pixel_formats=_8_BIT, min_px=64, max_px=4096)
_VP9: Final = Claim(pixel_formats=_10_BIT, min_px=128, max_px=8192)
_AV1: Final = Claim(pixel_formats=_10_BIT, min_px=128, max_px=8192)

_TURING: Final = {"h264": _H264, "hevc": _HEVC, "vp8": _VP8, "vp9": _VP9}
_GENERATIONS: Final[dict[tuple[int, int], dict[str, Claim]]] = {
    (7, 5): _TURING,
    (8, 0): _TURING,  # GA100
    (8, 6): {**_TURING, "av1": _AV1},  # other Ampere cards, Ada
    (9, 0): _TURING,  # Hopper
    (10, 0): {**_TURING, "av1": _AV1, "h264": _H264_BLACKWELL},
}
"""From the compute capability on that is named, up to the next one."""


def claims_of(card: Card) -> dict[str, Claim]:
    """Return what a card decodes, by FFmpeg's codec names; nothing for cards before Turing.

    Cards that came after this table have at least what its last line has.
    """
    known = [first for first in _GENERATIONS if first <= card.capability]
    return _GENERATIONS[max(known)] if known else {}


def why_not_claimed(card: Card, media: Media) -> str:
    """Return why a card's NVDEC is not to decode a media; '' where it is."""
    claim = claims_of(card).get(_CODEC_NAMES.get(media.codec, media.codec))
    if claim is None:
        return f"NVDEC of {card.name} has no {media.codec}"
    if media.pixel_format not in claim.pixel_formats:
        return f"NVDEC of {card.name} has no {media.codec} in {media.pixel_format}"
    short, long = sorted((media.width_px, media.height_px))
    if short < claim.min_px or long > claim.max_px:
        return (
            f"NVDEC of {card.name} takes {media.codec} from {claim.min_px} to {claim.max_px} px a "
            f"side, this is {media.width_px} x {media.height_px}"
        )
    return ""


_CODEC_NAMES: Final = {"libdav1d": "av1", "libvpx-vp9": "vp9", "libvpx": "vp8"}
"""Names of FFmpeg's decoders for codecs that have another name."""
