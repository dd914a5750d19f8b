"""Samples as the loader gives them, made by hand: who says what, over drawn frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from support.tiny_video_xl_pro import drawn_frames
from vxp_data.conversation import Part, Role, Turn

if TYPE_CHECKING:
    from vxp_model.data.sample import TrainSample

PX = 56


def turns_of(*said: tuple[str, str]) -> tuple[Turn, ...]:
    """Return turns of (role, text); '@video' and '@image' in a text are places of media."""
    turns = []
    for role, text in said:
        parts = []
        for word in text.split(" "):
            if word in ("@video", "@image"):
                parts.append(Part(word[1:]))
            else:
                parts.append(Part("text", word))
        turns.append(Turn(Role(role), tuple(_joined(parts))))
    return tuple(turns)


def sample_of(
    *said: tuple[str, str],
    frames: Sequence[int] = (),
    name: str = "a",
    position: int = 0,
    **more: Any,
) -> TrainSample:
    """Return a sample.

    Args:
        said: see `turns_of`.
        frames: of each medium, in order.
        name: its id.
        position: in the epoch; decides what the selector leaves out.
        more: further fields.
    """
    import torch

    from vxp_model.data.sample import SampleMedium, TrainSample

    turns = turns_of(*said)
    kinds = [part.type for turn in turns for part in turn.parts if part.type != "text"]
    media = tuple(
        SampleMedium(kind=kind, num_frames=count, fps=1.0)
        for kind, count in zip(kinds, frames, strict=True)
    )
    shown = [drawn_frames(count, px=PX, seed=n) for n, count in enumerate(frames)]
    values: dict[str, Any] = {
        "sample_id": name, "dataset": "d", "task": "open_ended", "kind": "video", "key": name,
        "source": 0, "epoch": 0, "position": position, "fps": 1.0, "num_inexact": 0,
        "annotation": "{}", "media": media, "conversation": turns,
        "frames_THWC": torch.cat([torch.from_numpy(x) for x in shown]) if shown else None,
        "time_s_T": torch.cat([torch.arange(n, dtype=torch.float64) for n in frames] or
                              [torch.zeros(0, dtype=torch.float64)]),
    }  # fmt: skip
    return TrainSample(**(values | more))


def _joined(parts: Sequence[Part]) -> list[Part]:
    """Put neighbouring words together again."""
    joined: list[Part] = []
    for part in parts:
        if part.type == "text" and joined and joined[-1].type == "text":
            joined[-1] = Part("text", f"{joined[-1].text} {part.text}")
        else:
            joined.append(part)
    return joined
