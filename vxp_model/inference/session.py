"""Watch a video once, then answer questions about it.

    model = LongVideoModel.load("runs/sft/model")
    video = model.watch("talk.mp4", FrameChoice(fps=1, max_frames=8192))
    print(model.ask(video, "What is on the last slide?").text)

Frames are decoded and encoded a few at a time and never all held; what is kept of a video are its
visual tokens. The selection depends on the question, so that each question reads the prompt anew.

Shape suffixes: F frames of a video, G groups, N tokens of a group, D the language model's width.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoProcessor

from vxp_data.core.sampling_plans import SamplingPlan
from vxp_model.data.frames import FrameOptions
from vxp_model.data.video import VideoFile
from vxp_model.data.visuals import FrameChoice
from vxp_model.errors import UserError
from vxp_model.inference.answers import Answer, Continuation, WatchedVideo, peak_bytes, wait_for
from vxp_model.inference.asked import Asked, conversation
from vxp_model.inference.placement import Placement
from vxp_model.inference.prefill import CHUNK_POSITIONS
from vxp_model.inference.reading import (
    BATCH_POSITIONS,
    continuations,
    in_batches,
    padded_left,
)
from vxp_model.inference.replies import Progress, Reading, Replier
from vxp_model.models.processor import VideoXLProProcessor
from vxp_model.models.special_tokens import check_fits
from vxp_model.models.video_xl_pro import VideoXLProForConditionalGeneration
from vxp_model.models.visual_sequence import Selection

__all__ = [
    "UNLIMITED",
    "Answer",
    "Asked",
    "LongVideoModel",
    "Progress",
    "WatchedVideo",
    "conversation",
    "peak_bytes",
]

UNLIMITED = 1 << 60
"""A context limit that no prompt reaches."""

DEFAULT_CHOICE = FrameChoice()


class LongVideoModel:
    """A model and its processor, for one video at a time."""

    def __init__(
        self, model: VideoXLProForConditionalGeneration, processor: VideoXLProProcessor
    ) -> None:
        model.train(False)
        self.model = model
        self.processor = processor
        self._replier = Replier(model, processor)

    @classmethod
    def load(
        cls,
        folder: Path | str,
        *,
        device: str = "auto",
        dtype: str = "auto",
        attention: str = "auto",
        context_limit: int | None = None,
    ) -> Self:
        """Read a model that `save_pretrained` wrote, with its processor.

        Args:
            folder: of both.
            device: see `Placement.of`, as the next two.
            dtype: see there.
            attention: see there.
            context_limit: instead of the model's own; `UNLIMITED` for none.

        Raises:
            UserError: there is no such model, or it is not whole.
        """
        folder = Path(folder)
        if not (folder / "config.json").is_file():
            raise UserError(f"{str(folder)!r} holds no model: there is no config.json.")
        place = Placement.of(device=device, dtype=dtype, attention=attention)
        model = VideoXLProForConditionalGeneration.from_pretrained(
            folder, dtype=getattr(torch, place.dtype), attn_implementation=place.attention
        )
        if context_limit is not None:
            model.config.context_limit = context_limit
        processor = AutoProcessor.from_pretrained(folder)  # type: ignore[no-untyped-call]
        check_fits(model.config, processor)
        return cls(model.to(place.device), processor)

    @property
    def piece_frames(self) -> int:
        """Frames encoded at once, in whole groups: those of two pieces never meet."""
        config = self.model.config
        return int(max(1, config.chunk_frames // config.temporal_factor) * config.temporal_factor)

    def watch(
        self,
        uri: Path | str,
        choice: FrameChoice = DEFAULT_CHOICE,
        *,
        plan: SamplingPlan | None = None,
        progress: Progress | None = None,
    ) -> WatchedVideo:
        """Decode and encode a video's frames, a few at a time.

        Args:
            uri: a path, or a URI of an object store.
            choice: which frames.
            plan: these frames instead.
            progress: told after every piece, in frames.

        Raises:
            UserError: it cannot be read.
        """
        options = FrameOptions(frame_px=self.model.config.vision.image_px)
        with VideoFile(uri, options=options) as file:
            plan = plan or file.plan(
                fps=choice.fps, num_frames=choice.num_frames, max_frames=choice.max_frames
            )
            return self.watch_frames(
                file.pieces(plan.frame_index_F, piece_frames=self.piece_frames),
                time_s_F=plan.time_s_F.tolist(),
                duration_s=file.probe.media.duration_s,
                uri=str(uri),
                progress=progress,
            )

    @torch.no_grad()
    def watch_frames(
        self,
        pieces: Iterable[NDArray[np.uint8]],
        *,
        time_s_F: Sequence[float],
        duration_s: float,
        uri: str = "",
        progress: Progress | None = None,
    ) -> WatchedVideo:
        """Encode frames that someone else decodes or draws.

        Args:
            pieces: uint8 [T, H, W, 3] each, of the model's `image_px`; `piece_frames` of them, or
                another number of whole groups, in all but the last.
            time_s_F: when each frame is shown, seconds.
            duration_s: of the video.
            uri: what it is called.
            progress: told after every piece, in frames.

        Raises:
            ValueError: frames of another size, or not as many as have times.
        """
        began_s, device = time.monotonic(), self.model.device
        tokens_GND = self.encode(
            # torch takes no array that may not be written to.
            (torch.from_numpy(np.require(piece, requirements=("C", "W"))) for piece in pieces),
            num_frames=len(time_s_F),
            progress=progress,
        )
        wait_for(device)
        return WatchedVideo(
            uri=uri,
            tokens_GND=tokens_GND,
            time_s_F=tuple(time_s_F),
            duration_s=duration_s,
            encode_s=time.monotonic() - began_s,
            peak_bytes=peak_bytes(device),
        )

    @torch.no_grad()
    def encode(
        self, pieces: Iterable[Tensor], *, num_frames: int, progress: Progress | None = None
    ) -> Tensor:
        """Encode the frames of one video.

        Args:
            pieces: uint8 [T, H, W, 3] each, T a multiple of the model's temporal factor in all but
                the last.
            num_frames: of all pieces.
            progress: told after every piece, in frames.

        Returns:
            tokens_GND: filled piece by piece, so that there is never a second copy of it.

        Raises:
            ValueError: not so many frames, or a piece that ends within a group.
        """
        model, factor = self.model, self.model.config.temporal_factor
        tokens_GND = torch.empty(
            (-(-num_frames // factor), model.config.group_tokens, model.config.text_width),
            dtype=model.dtype,
            device=model.device,
        )
        done = 0
        for frames_THWC in pieces:
            group, end = done // factor, done + len(frames_THWC)
            if done % factor or end > num_frames:
                raise ValueError(
                    f"{num_frames} frames were to come in groups of {factor}; a piece came for "
                    f"frames {done} to {end}"
                )
            part_GND = model.vision(frames_THWC, [len(frames_THWC)])
            tokens_GND[group : group + len(part_GND)] = part_GND
            done = end
            if progress is not None:
                progress("encoding frames", done, num_frames)
        if done != num_frames:
            raise ValueError(f"{num_frames} frames were to come, and {done} did")
        return tokens_GND

    def ask(
        self,
        video: WatchedVideo,
        question: str,
        *,
        history: Sequence[tuple[str, str]] = (),
        system: str | None = None,
        prime: str = "",
        texts: Sequence[tuple[float, str]] = (),
        max_new_tokens: int = 256,
        keep_ratio: float | None = None,
        chunk_positions: int = CHUNK_POSITIONS,
        window: int | None = None,
        progress: Progress | None = None,
        **options: Any,
    ) -> Answer:
        """Answer a question.

        Args:
            video: what `watch` gave.
            question: see `Asked`, as everything to `max_new_tokens`.
            history: see there.
            system: see there.
            prime: see there.
            texts: see there.
            max_new_tokens: see there.
            keep_ratio: keep this share of the visual tokens; None: as many as the limit allows.
            chunk_positions: of the prompt read at once.
            window: while reading, keep so many of the last visual tokens in the cache and forget
                those before: memory and time stay bounded, and answers are about what came last,
                but for what the time texts have kept of the rest. None: all stay.
            progress: told after every piece, in positions.
            options: for transformers' `generate`; without, the likeliest token is taken each time.

        Raises:
            UserError: text alone exceeds the context limit.
        """
        asked = Asked(
            text=question,
            history=history,
            system=system,
            prime=prime,
            texts=texts,
            max_new_tokens=max_new_tokens,
        )
        prompts = [self._replier.prompt(video, asked, keep_ratio=keep_ratio, context_limit=None)]
        reading = Reading(chunk_positions=chunk_positions, window=window, progress=progress)
        (answer,) = self._replier.answers(video, prompts, reading, **options)
        return answer

    def ask_many(
        self,
        video: WatchedVideo,
        questions: Sequence[Asked],
        *,
        batch: int = 8,
        batch_positions: int = BATCH_POSITIONS,
        keep_ratio: float | None = None,
        context_limit: int | None = None,
        chunk_positions: int = CHUNK_POSITIONS,
        window: int | None = None,
    ) -> list[Answer]:
        """Answer questions about one video, several at once: what `ask` answers to each.

        Args:
            video: what `watch` gave.
            questions: each by itself; none sees another's answer.
            batch: questions at once; with a window, one.
            batch_positions: of all prompts of a batch, read at once; a longer one is asked alone,
                and alone is read in chunks.
            keep_ratio: see `ask`.
            context_limit: instead of the model's own.
            chunk_positions: see `ask`.
            window: see `ask`.

        Raises:
            UserError: text of a prompt alone exceeds the context limit.
        """
        prompts = (
            self._replier.prompt(video, asked, keep_ratio=keep_ratio, context_limit=context_limit)
            for asked in questions
        )
        most = batch if window is None else 1
        answers: list[Answer] = []
        for part in in_batches(prompts, most=most, most_positions=batch_positions):
            at_once = chunk_positions if len(part) == 1 else batch_positions
            answers += self._replier.answers(
                video, part, Reading(chunk_positions=at_once, window=window)
            )
        return answers

    def continued(
        self,
        video: WatchedVideo,
        asked: Asked,
        replies: Sequence[str],
        *,
        keep_ratio: float | None = None,
        context_limit: int | None = None,
        chunk_positions: int = CHUNK_POSITIONS,
        window: int | None = None,
    ) -> list[Continuation]:
        """Return how likely each of some replies is; the prompt is read once for all of them.

        Args:
            video: what `watch` gave.
            asked: what the replies follow, after its prime. Each is tokenised by itself.
            replies: one token or more each.
            keep_ratio: see `ask`.
            context_limit: instead of the model's own.
            chunk_positions: see `ask`.
            window: see `ask`.

        Raises:
            UserError: text alone exceeds the context limit, or a reply is empty.
        """
        ids = [self.processor.text_ids(reply) for reply in replies]
        if not all(ids):
            raise UserError("a reply of no tokens has no likelihood: give one character at least.")
        # The room decides what is selected: an answer's, unless a reply is longer.
        longest = max(asked.max_new_tokens, *(len(reply) for reply in ids), 0)
        prompt = self._replier.prompt(
            video,
            replace(asked, max_new_tokens=longest),
            keep_ratio=keep_ratio,
            context_limit=context_limit,
        )
        reading = Reading(chunk_positions=chunk_positions, window=window)
        cache = self._replier.read([prompt], reading, *padded_left([prompt]))
        return continuations(
            self.model.language_model,
            prompt.sequence.embeds_BPD[0, -1:],
            prompt.num_positions - 1,
            cache,
            ids,
        )

    def select(
        self,
        video: WatchedVideo,
        asked: Asked,
        *,
        keep_ratio: float | None = None,
        context_limit: int | None = None,
    ) -> Selection:
        """Return which visual tokens the language model would get, without asking it.

        It reads the question alone, unless the selector takes its embeddings as they are.

        Args:
            video: what `watch` gave.
            asked: the question; its texts and the room for its answer count against the limit.
            keep_ratio: see `ask`.
            context_limit: instead of the model's own.

        Raises:
            UserError: text alone exceeds the context limit.
        """
        prompt = self._replier.prompt(
            video, asked, keep_ratio=keep_ratio, context_limit=context_limit
        )
        return prompt.sequence.selections[0]
