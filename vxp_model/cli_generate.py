"""Commands that answer questions about videos."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vxp_data.extras import INFERENCE, require_extra

if TYPE_CHECKING:
    from vxp_model.data.visuals import FrameChoice
    from vxp_model.inference.session import Answer, LongVideoModel, Progress, WatchedVideo

Model = Annotated[Path, typer.Argument(metavar="MODEL", help="Folder of a trained model.")]
Video = Annotated[str, typer.Option("--video", help="A file or URI.")]
Fps = Annotated[float, typer.Option("--fps", help="Frames looked at in a second.")]
Frames = Annotated[
    int | None,
    typer.Option("--frames", min=1, help="So many frames at equal distances, instead of a rate."),
]
MaxFrames = Annotated[
    int, typer.Option("--max-frames", min=1, help="Cap on the frames that --fps gives.")
]
NewTokens = Annotated[int, typer.Option("--max-new-tokens", min=1, help="Longest answer.")]
KeepRatio = Annotated[
    float | None,
    typer.Option("--keep-ratio", help="Keep this share of visual tokens; else as many as fit."),
]
Limit = Annotated[
    int | None,
    typer.Option("--context-limit", min=1, help="Positions of prompt and answer; else the model's"),
]
FullContext = Annotated[
    bool,
    typer.Option(
        "--full-context",
        help="Keep every visual token, however many: beyond the positions the model was trained on,"
        " answers are no good.",
    ),
]
Chunk = Annotated[int, typer.Option("--chunk", min=1, help="Positions of the prompt read at once.")]
Window = Annotated[
    int | None,
    typer.Option(
        "--window",
        min=0,
        help="While reading, keep so many of the last visual tokens; of earlier ones, only what the"
        " text between them has seen. Else all.",
    ),
]
Device = Annotated[str, typer.Option("--device", help="cuda, cpu, or auto.")]
Dtype = Annotated[str, typer.Option("--dtype", help="bfloat16, float32, or auto.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOptions:
    """What `generate` and `chat` are told about looking and answering."""

    fps: Fps = 1.0
    frames: Frames = None
    max_frames: MaxFrames = 8192
    max_new_tokens: NewTokens = 256
    keep_ratio: KeepRatio = None
    context_limit: Limit = None
    full_context: FullContext = False
    chunk: Chunk = 1024
    window: Window = None
    device: Device = "auto"
    dtype: Dtype = "auto"

    def load(self, model: Path) -> LongVideoModel:
        """Load a model as these options say."""
        from vxp_model.inference.session import UNLIMITED, LongVideoModel

        limit = UNLIMITED if self.full_context else self.context_limit
        return LongVideoModel.load(model, device=self.device, dtype=self.dtype, context_limit=limit)

    def choice(self) -> FrameChoice:
        """Return which frames of a video are looked at."""
        from vxp_model.data.visuals import FrameChoice

        return FrameChoice(fps=self.fps, num_frames=self.frames, max_frames=self.max_frames)

    def answering(self) -> dict[str, Any]:
        """Return what `LongVideoModel.ask` takes of these."""
        return {
            "max_new_tokens": self.max_new_tokens,
            "keep_ratio": self.keep_ratio,
            "chunk_positions": self.chunk,
            "window": self.window,
        }


def generate(
    model: Model,
    video: Video,
    prompt: Annotated[str, typer.Option("--prompt", help="The question.")],
    *,
    session: SessionOptions,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the answer and what it took as JSON.")
    ] = False,
) -> None:
    """Answer one question about a video of any length.

    Example: vxp-model generate runs/sft/model --video talk.mp4 --prompt "What is shown last?"
    """
    require_extra("train", "`vxp-model generate`", INFERENCE)
    long_video = session.load(model)
    with _progress() as told:
        watched = long_video.watch(video, session.choice(), progress=told)
        answer = long_video.ask(watched, prompt, progress=told, **session.answering())
    if as_json:
        took = {"video": video, "prompt": prompt, "encode_s": watched.encode_s, **answer.to_dict()}
        typer.echo(json.dumps(took, ensure_ascii=False, indent=2))
        return
    typer.echo(answer.text)
    typer.echo(_took(watched, answer), err=True)


def chat(
    model: Model,
    video: Video,
    *,
    session: SessionOptions,
) -> None:
    """Answer questions about one video, line by line from the standard input, until it ends.

    The video is looked at once; what of it each question needs is selected anew.

    Example: vxp-model chat runs/sft/model --video talk.mp4
    """
    require_extra("train", "`vxp-model chat`", INFERENCE)
    long_video = session.load(model)
    with _progress() as told:
        watched = long_video.watch(video, session.choice(), progress=told)
    history: list[tuple[str, str]] = []
    if sys.stdin.isatty():
        typer.echo(f"{len(watched.time_s_F)} frames seen. Ask; an empty line ends.", err=True)
    for line in sys.stdin:
        question = line.strip()
        if not question:
            return
        with _progress() as told:
            answer = long_video.ask(
                watched, question, history=history, progress=told, **session.answering()
            )
        history.append((question, answer.text))
        typer.echo(answer.text)


def frames(
    preset: Annotated[str, typer.Option("--preset", help="3b, 7b or tiny.")] = "3b",
    model: Annotated[
        Path | None, typer.Option("--model", help="Folder of a model, instead of a preset.")
    ] = None,
    memory_gb: Annotated[
        float | None,
        typer.Option("--memory-gb", min=0.1, help="Of the card; else this machine's GPU, or 80."),
    ] = None,
    workspace_gb: Annotated[
        float, typer.Option("--workspace-gb", min=0, help="Of it, left free for activations.")
    ] = 8.0,
    counts: Annotated[
        list[int] | None, typer.Option("--frames", min=1, help="Price so many frames; repeatable.")
    ] = None,
) -> None:
    """Print what frames cost in positions and bytes, and how many fit on a card. Loads no weights.

    Example: vxp-model frames --memory-gb 80
    """
    if model is not None:
        require_extra("train", "`vxp-model frames` of a model", INFERENCE)
    from vxp_model.inference.fit import describe_fit

    for line in describe_fit(
        preset=preset,
        folder=model,
        memory_gb=memory_gb,
        workspace_gb=workspace_gb,
        frame_counts=counts or (360, 1024, 8192, 16_384),
    ):
        typer.echo(line)


@contextmanager
def _progress() -> Iterator[Progress]:
    """Show progress on the standard error, where that is a terminal."""
    from rich.console import Console
    from rich.progress import Progress as Bars

    console = Console(stderr=True)
    with Bars(console=console, transient=True, disable=not console.is_terminal) as bars:
        tasks: dict[str, Any] = {}

        def told(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done)

        yield told


def _took(watched: WatchedVideo, answer: Answer) -> str:
    return (
        f"{answer.num_frames} frames of {watched.duration_s:.0f} s, {answer.num_kept} of "
        f"{answer.num_visual} visual tokens, {answer.num_positions} positions; encoding "
        f"{watched.encode_s:.1f} s, reading {answer.prefill_s:.1f} s, answering "
        f"{answer.decode_s:.1f} s; peak {answer.peak_bytes / 1e9:.1f} GB"
    )
