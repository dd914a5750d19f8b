"""What the tests of needles share: a film of numbers, and a model that looks at them."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vxp_model.eval.adapters.base import Continued, FrameSource, Reply
from vxp_model.eval.benchmarks.base import Prompt
from vxp_model.eval.needle.grid import Grid
from vxp_model.eval.needle.needles import Needle, NeedleQuestion

SIDE_PX = 2


class NumberedFilm:
    """Frame i has the grey i, one frame a second."""

    def __init__(self, seed: int = 0) -> None:
        self.identity: Mapping[str, Any] = {"film": "numbered", "seed": seed}
        self.width_px = self.height_px = SIDE_PX
        self.num_bytes = 0
        self.num_read = 0

    def time_s(self, length: int) -> tuple[float, ...]:
        return tuple(float(second) for second in range(length))

    def frames(
        self, length: int, *, frame_px: int | None
    ) -> Generator[NDArray[np.uint8], None, None]:
        for grey in range(length):
            self.num_read += 1
            yield grey_frame(grey, frame_px or SIDE_PX)


def grey_frame(grey: int, side_px: int = SIDE_PX) -> NDArray[np.uint8]:
    return np.full((side_px, side_px, 3), grey, np.uint8)


def needle_of(name: str, *greys: int) -> Needle:
    question = NeedleQuestion(
        name="question", text=f"Where is {name}?", options=("w", "x", "y", "z"), gold="C"
    )
    return Needle(
        name=name,
        images=tuple(grey_frame(grey) for grey in greys),
        questions=(question,),
        reading=tuple(range(len(greys))) if len(greys) > 1 else (),
    )


def greys_of(source: FrameSource, piece_frames: int = 3) -> list[int]:
    """What a video shows, frame by frame."""
    pieces = source.pieces(frame_px=None, piece_frames=piece_frames)
    return [int(grey) for piece in pieces for grey in piece[:, 0, 0, 0]]


@dataclass
class LookingModel:
    """Finds a needle of grey 250 and says C; else it says a sentence that names no option."""

    identity: Mapping[str, Any] = field(default_factory=lambda: {"weights": "looking"})
    frames_per_group: int = 4
    watched: list[str] = field(default_factory=list)
    fails_after: int | None = None
    """Videos."""

    def watch(self, source: FrameSource) -> tuple[bool, int]:
        if self.fails_after is not None and len(self.watched) == self.fails_after:
            raise KeyboardInterrupt
        self.watched.append(source.plan.video)
        greys = greys_of(source)
        return 250 in greys, -(-len(greys) // 4)

    def answer(self, watched: Any, prompts: Sequence[Prompt]) -> list[Reply]:
        has_needle, num_groups = watched
        text = "C) y" if has_needle else "A man walks: Cannot tell"
        kept = (1,) * num_groups
        return [
            Reply(
                text=text,
                finish="stop",
                num_visual=2 * num_groups,
                num_kept=num_groups,
                kept_by_group=kept,
                seconds={"answer": 0.1},
                peak_bytes=1,
            )
            for _ in prompts
        ]

    def continued(self, watched: Any, prompt: Prompt, replies: Sequence[str]) -> list[Continued]:
        del prompt
        has_needle, _ = watched
        return [
            Continued(
                log_prob=0.0 if has_needle and reply in ("C", "y") else -1.0 - index,
                num_tokens=1,
                is_greedy=has_needle and reply in ("C", "y"),
            )
            for index, reply in enumerate(replies)
        ]


def small_grid(**changes: Any) -> Grid:
    settings: dict[str, Any] = {
        "lengths": (8, 16),
        "depths": (0.0, 0.5, 1.0),
        "haystack": NumberedFilm,
        "needles": lambda _seed: [needle_of("seen", 250), needle_of("hidden", 249)],
        "seeds": (0, 1),
    }
    return Grid(**(settings | changes))
