"""Rules of media: length, size, frames, sound.

Shapes: N rows of a run, in order.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from vxp_data.core.filters import FilterRule, RowFacts
from vxp_data.records import Modality, Reason

CUT_CHANGE: Final = 40.0
"""Two frames after one another between which more changes are of different scenes; the scale is
PySceneDetect's, see `core.frame_statistics`. Its own threshold, 27, is for frames 1/25 s apart.
Of 20 frames, seconds apart, a pan changes as much, and a scene that lies between two of them is not
seen. Chosen on the 37 real clips of the development corpus: the 7 in which ffmpeg's scene filter
finds cuts have 2 or more; of the other 30, six have any and none more than 3 (fades, cuts by colour
that ffmpeg does not see, a passing car). With 27, nine have, and as many as 10."""

BLANK_CONTRAST: Final = 2.0
"""An image is blank whose parts are no further from its mean brightness, of 255 levels: what
coding leaves of a plain surface. Of the same clips' frames, black ones have 0.0 to 0.1, a dark
title 2.6, a page of a terminal 4.8, cards of one colour with a number 12."""


def _of_videos(value_N: NDArray[np.float64], facts: RowFacts) -> NDArray[np.float64]:
    return np.where(facts.is_modality(Modality.VIDEO) & (facts.index_N >= 0), value_N, np.nan)


def _short_side_px(facts: RowFacts) -> NDArray[np.float64]:
    side_N = np.minimum(facts.width_px_N, facts.height_px_N)
    return np.where((facts.index_N >= 0) & (side_N > 0), side_N, np.nan)


def _blank_frames(facts: RowFacts) -> NDArray[np.float64]:
    return np.where(facts.index_N >= 0, facts.blank_share_N, np.nan)


DURATION_S: Final = FilterRule(
    name="duration_s", version=1, unit="seconds", low=0.0, high=np.inf,
    below=Reason.TOO_SHORT, above=Reason.TOO_LONG, needs="media",
    of_rows=lambda facts: _of_videos(facts.duration_s_N, facts),
)  # fmt: skip
"""Length of a video, or of the part of it that a row is about."""

SHORT_SIDE_PX: Final = FilterRule(
    name="short_side_px", version=1, unit="pixels", low=0.0, high=np.inf,
    below=Reason.LOW_RESOLUTION, above=None, needs="media", of_rows=_short_side_px,
)  # fmt: skip
"""The shorter side of an image as displayed; of videos and images."""

BLANK_FRAMES: Final = FilterRule(
    name="blank_frames", version=1, unit="share of frames", low=0.0, high=1.0,
    below=None, above=Reason.BLANK, needs="frame_statistics", of_rows=_blank_frames,
)  # fmt: skip
"""Frames of one plain surface, black or of any other colour; of videos and images."""

EXACT_SHARE: Final = FilterRule(
    name="exact_share", version=1, unit="share of frames", low=0.0, high=1.0,
    below=Reason.INEXACT_FRAMES, above=None, needs="media",
    of_rows=lambda facts: np.where(facts.index_N >= 0, facts.exact_share_N, np.nan),
)  # fmt: skip
"""Planned frames that could be decoded; for the others the nearest earlier one stands in. Of videos
and images."""

MOTION: Final = FilterRule(
    name="motion", version=1, unit="change", low=0.0, high=230.0,
    below=Reason.STATIC, above=None, needs="frame_statistics",
    of_rows=lambda facts: _of_videos(facts.change_N, facts),
)  # fmt: skip
"""How much one of the decoded frames differs from the next, on average; on PySceneDetect's scale,
0 for a still, whichever encoder is used."""

SCENE_CHANGES: Final = FilterRule(
    name="scene_changes", version=1, unit="changes seen", low=0.0, high=np.inf,
    below=None, above=Reason.TOO_MANY_SCENES, needs="frame_statistics",
    of_rows=lambda facts: _of_videos(facts.scene_changes_N, facts),
)  # fmt: skip
"""Changes above 40 (CUT_CHANGE) from one of the decoded frames to the next: a lower bound."""

AUDIO_STREAMS: Final = FilterRule(
    name="audio_streams", version=1, unit="streams", low=0.0, high=np.inf,
    below=Reason.NO_AUDIO, above=None, needs="media",
    of_rows=lambda facts: _of_videos(facts.audio_streams_N, facts),
)  # fmt: skip
"""Sound tracks of a video, as its container lists them; whether they are silent is not heard."""
