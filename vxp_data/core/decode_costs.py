"""What a clip costs on a core and on NVDEC, a GPU's video engine, and which of them it is for.

Both decode every image from the key frame before a wanted frame to the frame, so that the distance
of key frames counts as much as the number of frames. A core's time goes with the pixels and, more
so, with the bytes of these images; an engine's with the pixels. docs/performance.md has the figures
behind the constants. A clip's way follows from its own facts alone, and is the same on every
machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_CORE_OPEN_S: Final = 0.012
_CORE_S_PER_MEGAPIXEL: Final = 0.65e-3
_CORE_S_PER_KB: Final = 0.058e-3
_CORE_S_PER_DRAWN: Final = 0.5e-3
_CORE_S_PER_DRAWN_MEGAPIXEL: Final = 0.6e-3
"""To scale a wanted frame, for itself and for its pixels."""
_CORE_FACTORS: Final = {"h264": 1.0, "hevc": 2.0, "vp9": 2.4, "vp8": 1.0, "libdav1d": 1.5}
"""How much longer images take than H.264's of as many pixels and bytes."""
_TEN_BIT: Final = 1.5

_ENGINE_OPEN_S: Final = 0.03
"""To open the file, read all its packets once, and start the engine on it. Assumed."""
_FULL_HD_MEGAPIXELS: Final = 1920 * 1080 / 1e6
_ENGINE_FPS: Final = {"h264": 771.0, "hevc": 1316.0, "vp9": 932.0, "vp8": 771.0, "libdav1d": 790.0}
"""1080p images a second and engine: Turing, GA100 and Hopper (AV1: Ampere), NVDEC Application Note
13.0; VP8 as H.264. Ada has 1.2 times as many, Blackwell 1.4 times and 2.8 times of H.264."""
_FEWEST_MEGAPIXELS: Final = 0.25
"""Smaller images take an engine as long as such ones. Assumed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipWork:
    """What is to be decoded of a clip."""

    codec: str
    """As FFmpeg names its decoder."""
    is_ten_bit: bool
    megapixels: float
    """Of an image."""
    num_decoded: int
    """Images that are decoded: from key frames to wanted frames."""
    num_drawn: int
    """Images that are wanted."""
    kb_per_image: float
    """Of the file, 1,000 bytes."""


def core_s(work: ClipWork) -> float:
    """Return the seconds that a core takes for a clip, opening and scaling with it."""
    image_s = work.megapixels * _CORE_S_PER_MEGAPIXEL + work.kb_per_image * _CORE_S_PER_KB
    image_s *= _CORE_FACTORS.get(work.codec, 1.0) * (_TEN_BIT if work.is_ten_bit else 1.0)
    drawn_s = _CORE_S_PER_DRAWN + work.megapixels * _CORE_S_PER_DRAWN_MEGAPIXEL
    return _CORE_OPEN_S + work.num_decoded * image_s + work.num_drawn * drawn_s


def engine_s(work: ClipWork) -> float:
    """Return the seconds that one engine takes for a clip; infinity for a codec that none has."""
    if work.codec not in _ENGINE_FPS:
        return float("inf")
    image_s = max(work.megapixels, _FEWEST_MEGAPIXELS) / _FULL_HD_MEGAPIXELS
    return _ENGINE_OPEN_S + work.num_decoded * image_s / _ENGINE_FPS[work.codec]


def cores_replaced(work: ClipWork) -> float:
    """Return the cores whose work on such clips one engine does."""
    return core_s(work) / engine_s(work)


def cores_for(works: Sequence[ClipWork], videos_per_s: float) -> float:
    """Return the cores that decode so many videos a second, of these in equal parts."""
    return videos_per_s * sum(map(core_s, works)) / len(works)


def balanced_gain(works: Sequence[ClipWork], num_cores: float, num_engines: float) -> float:
    """Return what `decode.nvdec_gain` ends a run over these clips earliest.

    Clips that gain most go to the engines, until these take as long as the cores with the rest.

    Args:
        works: the clips; at least one.
        num_cores: that decode.
        num_engines: NVDEC engines of all GPUs; 7 of an H100 or H200, 5 of an A100, 4 of an L4.

    Returns:
        The smallest gain of a clip that goes to an engine; infinity where none should.
    """
    cores_left_s = sum(map(core_s, works)) / num_cores
    engines_s, best_s, best = 0.0, cores_left_s, float("inf")
    for work in sorted(works, key=cores_replaced, reverse=True):
        engines_s += engine_s(work) / num_engines
        cores_left_s -= core_s(work) / num_cores
        if max(engines_s, cores_left_s) < best_s:
            best_s, best = max(engines_s, cores_left_s), cores_replaced(work)
    return best
