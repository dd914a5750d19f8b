"""Our own models as they are evaluated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from vxp_model.eval.adapters.base import Continued, FrameSource, Reply
from vxp_model.eval.adapters.fingerprint import folder_fingerprint
from vxp_model.eval.benchmarks.base import Prompt
from vxp_model.inference.answers import Answer, WatchedVideo
from vxp_model.inference.asked import Asked
from vxp_model.inference.placement import Placement
from vxp_model.inference.prefill import CHUNK_POSITIONS
from vxp_model.inference.session import LongVideoModel


@dataclass(frozen=True, slots=True, kw_only=True)
class OurSettings:
    """How questions are read; nothing here changes what is watched."""

    keep_ratio: float | None = None
    """Share of visual tokens that the selector keeps; None: as many as the context allows."""
    context_limit: int | None = None
    """Positions of prompt and answer; None: the model's own."""
    chunk_positions: int = CHUNK_POSITIONS
    """Of a prompt that is read alone, read at once."""
    window: int | None = None
    """Keep so many of the last visual tokens while reading; None: all."""
    batch: int = 8
    """Questions about one video that are answered at once."""


_DEFAULT: Final = OurSettings()


def weights_identity(folder: Path | str, place: Placement) -> dict[str, Any]:
    """Return what watching depends on: videos watched under one are good under the same.

    Raises:
        UserError: the folder holds no model.
    """
    return {
        "adapter": "video_xl_pro",
        "weights": folder_fingerprint(folder),
        "dtype": place.dtype,
        "attention": place.attention,
    }


def reading_identity(settings: OurSettings) -> dict[str, Any]:
    """Return what answers depend on beside `weights_identity`.

    Chunks and batches are no part of it: they change the last bits alone. With a window, a chunk
    decides when tokens are forgotten.
    """
    return {
        "keep_ratio": settings.keep_ratio,
        "context_limit": settings.context_limit,
        "window": settings.window,
        "chunk_positions": None if settings.window is None else settings.chunk_positions,
    }


class OurModel:
    """An `EvalModel` over `LongVideoModel`; several with other settings may share one."""

    def __init__(
        self,
        model: LongVideoModel,
        settings: OurSettings = _DEFAULT,
        *,
        weights: Mapping[str, Any],
    ) -> None:
        """Take a model that is loaded.

        Args:
            model: shared or not.
            settings: of this use of it.
            weights: its `weights_identity`.
        """
        self._model, self._settings = model, settings
        self.identity: Mapping[str, Any] = {**weights, **reading_identity(settings)}
        self.frames_per_group = int(model.model.config.temporal_factor)

    @classmethod
    def load(
        cls,
        folder: Path | str,
        settings: OurSettings = _DEFAULT,
        *,
        device: str = "auto",
        dtype: str = "auto",
        attention: str = "auto",
    ) -> Self:
        """Load a model from its folder; see `LongVideoModel.load`.

        Raises:
            UserError: there is no such model.
        """
        place = Placement.of(device=device, dtype=dtype, attention=attention)
        weights = weights_identity(folder, place)
        model = LongVideoModel.load(
            folder, device=place.device, dtype=place.dtype, attention=place.attention
        )
        return cls(model, settings, weights=weights)

    def watch(self, source: FrameSource) -> WatchedVideo:
        """Encode a video, piece by piece; see `EvalModel`."""
        return self._model.watch_frames(
            source.pieces(
                frame_px=self._model.model.config.vision.image_px,
                piece_frames=self._model.piece_frames,
            ),
            time_s_F=source.plan.time_s,
            duration_s=source.plan.duration_s,
            uri=source.plan.video,
        )

    def answer(self, watched: WatchedVideo, prompts: Sequence[Prompt]) -> list[Reply]:
        """Reply to prompts; see `EvalModel`."""
        answers = self._model.ask_many(
            watched,
            [_asked(prompt) for prompt in prompts],
            batch=self._settings.batch,
            keep_ratio=self._settings.keep_ratio,
            context_limit=self._settings.context_limit,
            chunk_positions=self._settings.chunk_positions,
            window=self._settings.window,
        )
        return [_reply(answer) for answer in answers]

    def continued(
        self, watched: WatchedVideo, prompt: Prompt, replies: Sequence[str]
    ) -> list[Continued]:
        """Return how likely replies are; see `EvalModel`. The prompt is read once for all."""
        found = self._model.continued(
            watched,
            _asked(prompt),
            replies,
            keep_ratio=self._settings.keep_ratio,
            context_limit=self._settings.context_limit,
            chunk_positions=self._settings.chunk_positions,
            window=self._settings.window,
        )
        return [
            Continued(log_prob=one.log_prob, num_tokens=one.num_tokens, is_greedy=one.is_greedy)
            for one in found
        ]


def _asked(prompt: Prompt) -> Asked:
    return Asked(
        text=prompt.text,
        system=prompt.system,
        prime=prompt.reply_start,
        texts=prompt.timed_texts,
        max_new_tokens=prompt.max_new_tokens,
    )


def _reply(answer: Answer) -> Reply:
    return Reply(
        text=answer.text,
        finish=answer.finish,
        num_visual=answer.num_visual,
        num_kept=answer.num_kept,
        kept_by_group=None if answer.num_kept == answer.num_visual else answer.kept_G,
        seconds={
            "select": answer.select_s,
            "prefill": answer.prefill_s,
            "decode": answer.decode_s,
        },
        peak_bytes=answer.peak_bytes,
    )
