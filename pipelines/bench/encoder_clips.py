"""Read clips for encoders_compared.py: their frames by each way of seeking, embedded by an encoder.

Shape suffixes: F frames of a clip, D embedding width, H W pixels, C channels.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vxp_data.core.frame_sampling import Seek, plan_indices, uniform
from vxp_data.decoders.base import FrameSize
from vxp_data.decoders.probe import probe
from vxp_data.decoders.pyav_decoder import PyavDecoder
from vxp_data.encoders.base import Encoder
from vxp_data.registry import ENCODERS
from vxp_data.settings.prune import EncoderConfig

NUM_FRAMES: Final = 20
SEEKS: Final[tuple[Seek, ...]] = ("exact", "keyframe", "auto")
"""The first is what the others are compared with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A clip as one encoder sees it, its frames got in one way."""

    duration_s: float
    time_s_F: NDArray[np.float64]
    """When each frame is shown, increasing."""
    emb_FD: NDArray[np.float16]
    """Unit rows, rounded as a run stores them."""
    decode_cpu_s: float
    """From opening the file; the least of the repeats, as the next."""
    embed_cpu_s: float


Clips = Mapping[str, Mapping[Seek, Sequence[Seen]]]
"""By encoder and way; clips in the order of their names."""


def load_encoder(name: str) -> Encoder:
    """Return an encoder of the registry, on the CPU."""
    loaded: Encoder = ENCODERS.load(name).load(EncoderConfig(name=name, device="cpu"))
    return loaded


def read_clips(paths: Sequence[Path], encoders: Mapping[str, Encoder], *, repeats: int) -> Clips:
    """Read every clip in every way with every encoder, as often as said."""
    found: dict[str, dict[Seek, list[Seen]]] = {
        name: {seek: [] for seek in SEEKS} for name in encoders
    }
    for path in paths:
        for name, encoder in encoders.items():
            read_clip(path, encoder, "exact")  # the first time loads what its codec needs
            for seek in SEEKS:
                again = [read_clip(path, encoder, seek) for _ in range(repeats)]
                found[name][seek].append(fastest(again))
        print(path.name, flush=True)
    return found


def read_clip(path: Path, encoder: Encoder, seek: Seek) -> Seen:
    """Probe, plan, decode and embed, as a prune does it.

    Raises:
        MediaError: the clip cannot be read.
    """
    started_s = time.process_time()
    probed = probe(str(path), "clip", keep_open=True)
    timeline = probed.timeline
    index_F = plan_indices(
        timeline.time_s_N,
        timeline.is_key_N,
        sampler=uniform,
        num_frames=NUM_FRAMES,
        seek=seek if timeline.timed else "exact",
    )
    size = FrameSize(width_px=encoder.spec.frame_px, height_px=encoder.spec.frame_px)
    frames_FHWC = (
        PyavDecoder().decode(str(path), probed.media, timeline.plan(index_F), size).frames_FHWC
    )
    decoded_s = time.process_time()
    emb_FD = encoder.embed(frames_FHWC)
    return Seen(
        duration_s=float(probed.media.duration_s or timeline.time_s_N[-1]),
        time_s_F=timeline.time_s_N[index_F],
        emb_FD=emb_FD.astype(np.float16),
        decode_cpu_s=decoded_s - started_s,
        embed_cpu_s=time.process_time() - decoded_s,
    )


def fastest(again: Sequence[Seen]) -> Seen:
    """Return what was read, with the least CPU time of each part."""
    first = again[0]
    return Seen(
        duration_s=first.duration_s,
        time_s_F=first.time_s_F,
        emb_FD=first.emb_FD,
        decode_cpu_s=min(seen.decode_cpu_s for seen in again),
        embed_cpu_s=min(seen.embed_cpu_s for seen in again),
    )
